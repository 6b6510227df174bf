"""Wrap a `MetaVectorEnv` as a stable-baselines3 `VecEnv`: `make_sb3`. Importing this module needs stable-baselines3."""

from collections.abc import Iterable, Sequence
from typing import Any

import gymnasium
import numpy as np

from metarl.envs.making import make_vec
from metarl.envs.suites import Suite, Task, TaskDistribution, suite
from metarl.envs.vector import MetaVectorEnv
from metarl.errors import UserError

try:
    from stable_baselines3.common.vec_env import VecEnv
except ImportError as error:
    raise UserError(f"stable-baselines3 is needed here ({error}): pip install 'stable-baselines3>=2.7'") from None

Indices = None | int | Iterable[int]


def sb3_space(space: gymnasium.Space[Any]) -> gymnasium.Space[Any]:
    """Convert a space for SB3's agents: floats in float32, Discrete numbered from 0, others unchanged.

    SB3 stores observations and actions in the space's dtype and computes in float32: float64 would only double the memory, and
    float16 is not supported. It numbers discrete actions from 0 regardless of the space.
    """
    if isinstance(space, gymnasium.spaces.Box) and space.dtype in (np.float64, np.float16):
        with np.errstate(over="ignore"):
            return gymnasium.spaces.Box(space.low.astype(np.float32), space.high.astype(np.float32), dtype=np.float32)
    if isinstance(space, gymnasium.spaces.Discrete) and space.start:
        return gymnasium.spaces.Discrete(int(space.n))
    return space


class EnvView:
    """One environment for `get_attr`, `set_attr` and `env_method`: it has its own task and picture and shares everything else.

    Args:
        env: the environment.
        index: index of the environment.
    """

    def __init__(self, env: MetaVectorEnv, index: int) -> None:
        self._env, self._index = env, index
        self.observation_space = sb3_space(env.single_observation_space)
        self.action_space = sb3_space(env.single_action_space)

    @property
    def task(self) -> Task | None:
        """The current task; None before the first reset."""
        return self._env.tasks[self._index]

    @task.setter
    def task(self, task: Task) -> None:
        self.set_task(task)

    def set_task(self, task: Task) -> None:
        """Set the task, effective at the next reset; stepping before that raises `ResetNeeded`."""
        self._env.set_tasks([task], [self._index])

    def render(self) -> np.ndarray | None:
        """Return a picture of the environment, (height, width, 3) uint8; None without a render mode."""
        pictures = self._env.render([self._index])
        return None if pictures is None else pictures[0]

    def __getattr__(self, name: str) -> Any:
        return getattr(self._env, name)


class SB3VecEnv(VecEnv):
    """A `MetaVectorEnv` with the interface of stable-baselines3.

    At the end of an episode, `infos[env_id]` contains "terminal_observation" and "is_success": success at any step of the
    episode, which SB3 logs as its success rate. Every step contains "TimeLimit.truncated" and the environment's own entries
    ("success" of the last step). Observations and rewards are float32. Environments share one stream of random numbers; `seed`
    restarts it at the next reset.

    Args:
        env: use resample="episode" so that an agent sees every task, as `make_sb3` does.
    """

    def __init__(self, env: MetaVectorEnv) -> None:
        self.env, self.metadata = env, env.metadata
        self.views = [EnvView(env, i) for i in range(env.num_envs)]
        self._succeeded = np.zeros(env.num_envs, bool)
        observations, actions = env.single_observation_space, env.single_action_space
        self._action_start = int(actions.start) if isinstance(actions, gymnasium.spaces.Discrete) else 0
        super().__init__(env.num_envs, sb3_space(observations), sb3_space(actions))

    def reset(self) -> np.ndarray:
        """Start new episodes; return observations (num_envs, ...)."""
        obs, _ = self.env.reset(seed=self._seeds[0], options=self._options[0] or None)
        self._succeeded[:] = False
        self._reset_seeds()
        self._reset_options()
        return self._cast(obs)

    def _cast(self, obs: np.ndarray) -> np.ndarray:
        return obs.astype(self.observation_space.dtype, copy=False)

    def step_async(self, actions: np.ndarray) -> None:
        """Store the actions for `step_wait`."""
        self._actions = actions

    def step_wait(self) -> tuple[np.ndarray, np.ndarray, np.ndarray, list[dict[str, Any]]]:
        """Step: return observations (num_envs, ...), rewards and dones (num_envs,), infos."""
        obs, reward, terminated, truncated, info = self.env.step(
            self._actions + self._action_start if self._action_start else self._actions
        )
        done = terminated | truncated
        self._succeeded |= info["success"]
        infos: list[dict[str, Any]] = [{"TimeLimit.truncated": time_limit} for time_limit in (truncated & ~terminated).tolist()]
        for key, values in info.items():
            if not key.startswith(("_", "final_")):
                for env_id, present in enumerate(info[f"_{key}"].tolist()):
                    if present:
                        infos[env_id][key] = values[env_id]
        for env_id in np.flatnonzero(done).tolist():
            infos[env_id]["terminal_observation"] = self._cast(info["final_obs"][env_id])
            infos[env_id]["is_success"] = bool(self._succeeded[env_id])
        self._succeeded[done] = False
        return self._cast(obs), reward.astype(np.float32), done, infos

    def close(self) -> None:
        """Release the engine."""
        self.env.close()

    def get_attr(self, attr_name: str, indices: Indices = None) -> list[Any]:
        """Return an attribute of each of these environments, see `EnvView`."""
        return [getattr(self.views[i], attr_name) for i in self._get_indices(indices)]

    def set_attr(self, attr_name: str, value: Any, indices: Indices = None) -> None:
        """Set an attribute of these environments.

        Raises:
            UserError: all environments share the attribute, and `indices` does not cover all environments.
        """
        selected = list(self._get_indices(indices))
        if hasattr(EnvView, attr_name) or not hasattr(self.env, attr_name):
            for i in selected:
                setattr(self.views[i], attr_name, value)
        elif sorted(selected) == list(range(self.num_envs)):
            setattr(self.env, attr_name, value)
        else:
            raise UserError(f"all environments share {attr_name}: it can only be set for all of them")

    def env_method(self, method_name: str, *method_args: Any, indices: Indices = None, **method_kwargs: Any) -> list[Any]:
        """Call a method of each of these environments: `set_task`, `render`, or one of the whole `MetaVectorEnv`."""
        return [getattr(self.views[i], method_name)(*method_args, **method_kwargs) for i in self._get_indices(indices)]

    def env_is_wrapped(self, wrapper_class: Any, indices: Indices = None) -> list[bool]:
        """Return False for every environment; wrap the whole environment instead (`VecMonitor`, `VecNormalize`, ...)."""
        return [False for _ in self._get_indices(indices)]

    def get_images(self) -> Sequence[np.ndarray | None]:
        """Return a picture of each environment."""
        return self.env.render() or [None] * self.num_envs


def make_sb3(
    tasks: TaskDistribution | Suite | str, num_envs: int = 20, *, resample: str = "episode", **options: Any
) -> SB3VecEnv:
    """Make a stable-baselines3 `VecEnv`.

    Args:
        tasks: distribution of the environments' tasks; a suite, or its name, means its train tasks.
        num_envs: number of environments.
        resample: "episode": draw a new task for every episode, so that the agent sees all; "never": keep each environment's
            task.
        options: other options of `make_vec`.

    Raises:
        UserError: see `make_vec`; or stable-baselines3 is not installed.
    """
    if isinstance(tasks, str):
        tasks = suite(tasks)
    distribution = tasks.train if isinstance(tasks, Suite) else tasks
    return SB3VecEnv(make_vec(distribution, num_envs, resample=resample, **options))
