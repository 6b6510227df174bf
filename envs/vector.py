"""`MetaVectorEnv`: many environments, each with its own task, as one `gymnasium.vector.VectorEnv`; made by `make_vec`."""

from collections.abc import Callable, Iterable, Sequence
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any

import gymnasium
import numpy as np
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space

from metarl.envs.engines.python import Engine
from metarl.envs.rendering.painter import Painter
from metarl.envs.scales import metaworld_scale
from metarl.envs.suites import Task, TaskDistribution
from metarl.envs.tasks import NATIVE
from metarl.errors import UserError, unknown
from metarl.moved import renamed_argument
from metarl.system.counts import plural

if TYPE_CHECKING:
    from metarl.envs.engines.episodes import Episodes, Policy
    from metarl.nn.input_scaling import InputScale


class MetaVectorEnv(VectorEnv[np.ndarray, np.ndarray, np.ndarray]):
    """Environments that are stepped together, each with its own task.

    An episode ends after `max_episode_steps` steps (`truncated`), or when the environment ends it (`terminated`). The
    environment is then reset within the same step (`AutoresetMode.SAME_STEP`): `obs` contains the new episode's first
    observation, and `info["final_obs"][env_id]` and `info["final_info"]` the end of the old one. `info["success"]` always
    refers to the step just taken. Returned arrays are never modified later.

    With `autoreset="next_step"`, gymnasium's other mode, the observation is the end of the old episode, and the environment's
    next step is the reset, whatever its action: it returns the new episode's first observation and reward 0.

    If MuJoCo finds an environment's simulation unstable, the episode ends (`truncated`), and `info["unstable"]` marks the
    environment.

    Create it with `make_vec`. Pickling stores only the arguments: the copy is a new environment that has not been reset.

    Attributes:
        tasks: the current task of each environment (None before the first reset).
        engine: steps the environments.
    """

    def __init__(
        self,
        distribution: TaskDistribution,
        engine: Engine,
        num_envs: int,
        *,
        seed: int,
        max_episode_steps: int,
        resample: str,
        terminate_on_success: bool,
        autoreset: str,
        render_mode: str | None,
        camera: str,
        width: int,
        height: int,
        description: "partial[MetaVectorEnv]",
    ) -> None:
        self.distribution, self.engine, self.num_envs = distribution, engine, num_envs
        self.max_episode_steps, self.resample, self.terminate_on_success = max_episode_steps, resample, terminate_on_success
        self.render_mode, self._view = render_mode, (width, height, camera)
        self._painter: Painter | None = None
        self.metadata = {
            "autoreset_mode": AutoresetMode[autoreset.upper()],
            "render_modes": ["rgb_array", "depth_array"],
            "render_fps": getattr(engine, "steps_per_second", 80),
        }
        self._description = description
        self._ids = {name: i for i, name in enumerate(distribution.task_ids)}
        self.single_observation_space, self.single_action_space = engine.observation_space, engine.action_space
        if self._ids:
            box, ids = engine.observation_space, np.ones(len(self._ids))
            assert isinstance(box, gymnasium.spaces.Box)
            self.single_observation_space = gymnasium.spaces.Box(
                np.concatenate([box.low, 0 * ids]), np.concatenate([box.high, ids]), dtype=np.float64
            )
        self.observation_space = batch_space(self.single_observation_space, num_envs)
        self.action_space = batch_space(engine.action_space, num_envs)
        self.tasks: list[Task | None] = [None] * num_envs
        self._pending: list[Task | None] = [None] * num_envs  # set, effective at the environment's next reset
        self._ready = np.zeros(num_envs, bool)
        self._steps = np.zeros(num_envs, np.int64)
        self._over = np.zeros(num_envs, bool)  # environments whose next step is a reset
        self._obs = np.zeros(self.observation_space.shape or (), self.observation_space.dtype)
        self._chosen = np.zeros(num_envs, bool)  # environments whose tasks were set by `set_tasks` and are not redrawn
        self._seed(seed)

    def __reduce__(self) -> tuple[Any, ...]:
        return self._description, ()

    @cached_property
    def input_scale(self) -> "InputScale | None":
        """Constants for scaling observations and rewards; None: unknown, networks use running statistics."""
        if self.distribution.make is not None:
            return None
        return metaworld_scale(self.distribution.names, self.distribution.goal_visible, len(self._ids))

    def _seed(self, seed: int) -> None:
        self._np_random = np.random.default_rng(np.random.SeedSequence(seed))
        self._np_random_seed = seed

    @renamed_argument("slots", "env_ids")
    def set_tasks(self, tasks: Sequence[Task], env_ids: Sequence[int] | None = None) -> None:
        """Set environments' tasks, effective at their next reset; stepping before that raises `ResetNeeded`.

        Args:
            tasks: one per environment.
            env_ids: indices of the environments; None: all.

        The tasks need not belong to the environment's distribution.

        Raises:
            UserError: the numbers of tasks and environments differ, or Meta-World has no such task.
        """
        env_ids = range(self.num_envs) if env_ids is None else env_ids
        if len(tasks) != len(env_ids):
            raise UserError(
                f"{plural(len(tasks), 'task')} for {plural(len(env_ids), 'environment')}: give one task per environment"
            )
        check_names(self.distribution, {task.name for task in tasks})
        for env_id, task in zip(env_ids, tasks):
            self._pending[env_id], self._ready[env_id], self._chosen[env_id] = task, False, True

    def _with_ids(self, obs: np.ndarray, env_ids: Sequence[int] | np.ndarray) -> np.ndarray:
        """Append each environment's task as one-hot to its observation, if task ids are shown."""
        if not self._ids:
            return obs
        which = np.array([self._ids[self.tasks[env_id].name] for env_id in env_ids])  # type: ignore[union-attr]
        return np.hstack([obs, np.eye(len(self._ids))[which]])

    def reset(
        self, *, seed: int | list[int | None] | None = None, options: dict[str, Any] | None = None
    ) -> tuple[np.ndarray, dict[str, Any]]:
        """Start new episodes.

        The first reset draws a task for every environment that has none; later resets keep the tasks (`resample="never"`) or
        draw new ones (`resample="episode"`). A seed restarts all random numbers and redraws the tasks, except those set by
        `set_tasks`.

        Args:
            seed: an int, not a list: environments share one stream.
            options: `{"reset_mask": mask}` with mask (num_envs,) bool resets only these environments.

        Returns:
            Observations of all environments, (num_envs, ...), and an empty dict.
        """
        self._check_open()
        if isinstance(seed, list):
            raise UserError("give one seed, not a list: the environments' streams are derived from it")
        mask = np.ones(self.num_envs, bool)
        if options and "reset_mask" in options:
            mask = np.asarray(options["reset_mask"])
            if mask.shape != (self.num_envs,) or mask.dtype != bool or not mask.any():
                raise UserError(f"reset_mask must be a bool array of shape ({self.num_envs},) with at least one True")
        if seed is not None:
            self._seed(seed)
        redraw = seed is not None or self.resample == "episode"
        env_ids = np.flatnonzero(mask)
        self._obs = self._obs.copy()
        self._obs[env_ids] = self._start(env_ids, redraw)
        return self._obs.copy(), {}

    def _start(self, env_ids: np.ndarray, redraw: bool) -> np.ndarray:
        draw = [s for s in env_ids if self._pending[s] is None and ((redraw and not self._chosen[s]) or self.tasks[s] is None)]
        if draw:
            for env_id, task in zip(draw, self.distribution.sample(len(draw), self.np_random)):
                self._pending[env_id] = task
        for env_id in env_ids:
            self.tasks[env_id], self._pending[env_id] = self._pending[env_id] or self.tasks[env_id], None
        seeds = self.np_random.integers(2**31, size=len(env_ids)).tolist()
        obs = self._with_ids(self.engine.reset(env_ids.tolist(), [self.tasks[s] for s in env_ids], seeds), env_ids)
        self._ready[env_ids], self._steps[env_ids], self._over[env_ids] = True, 0, False
        return obs

    def step(self, actions: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, dict[str, Any]]:
        """Step all environments once.

        Args:
            actions: (num_envs, ...) of the action space; Box actions are converted to its dtype (Meta-World: float32).

        Returns:
            obs (num_envs, ...), reward (num_envs,) float64, terminated, truncated (num_envs,) bool, info.

        Raises:
            UserError: the actions have the wrong shape or are not finite.
            gymnasium.error.ResetNeeded: an environment has not been reset since its creation or since its task was set.
        """
        self._check_open()
        if not self._ready.all():
            raise gymnasium.error.ResetNeeded(f"reset before stepping: environments {np.flatnonzero(~self._ready).tolist()}")
        obs, reward, terminated, truncated, figures = self.engine.step(self._checked(actions))
        obs, info = self._with_ids(obs, range(self.num_envs)), dict[str, Any](figures)
        self._steps += 1
        truncated |= self._steps >= self.max_episode_steps
        if self.terminate_on_success:
            terminated = terminated | info["success"]
        everyone = np.ones(self.num_envs, bool)
        keys = [key for key in info if not key.startswith("_")]
        for key in keys:
            info.setdefault(f"_{key}", everyone)
        if self._over.any():
            over = self._over.copy()
            for array in (reward, terminated, truncated, *(info[key] for key in keys)):
                array[over] = 0
            info |= {f"_{key}": info[f"_{key}"] & ~over for key in keys}
            obs[over] = self._start(np.flatnonzero(over), self.resample == "episode")
        ended = terminated | truncated
        if self.metadata["autoreset_mode"] is AutoresetMode.NEXT_STEP:
            self._over |= ended
        elif ended.any():
            env_ids = np.flatnonzero(ended)
            final = np.full(self.num_envs, None, object)
            for env_id in env_ids:
                final[env_id] = obs[env_id].copy()
            last = {key: info[key].copy() for key in keys} | {f"_{key}": info[f"_{key}"] & ended for key in keys}
            info |= {"final_obs": final, "_final_obs": ended, "final_info": last, "_final_info": ended}
            obs[env_ids] = self._start(env_ids, self.resample == "episode")
        self._obs = obs
        return obs.copy(), reward, terminated, truncated, info

    def play_episodes(self, policy: "Policy", played: "Episodes", progress: Callable[[float], None]) -> None:
        """Play whole episodes with a compiled policy; every environment is at the start of an episode, and ends at one.

        Args:
            policy, played: see `metarl.envs.engines.episodes`.
            progress: called with the share of the work done, 0 to 1.

        Raises:
            KeyboardInterrupt: within a step of the interrupt; the environments must be reset before they go on.
        """
        everyone = np.arange(self.num_envs)
        self._ready[:] = False
        draws = self.resample == "episode"
        for until in range(1, played.until + 1) if draws else (played.until,):
            self.engine.play(policy, played._replace(until=until), progress)  # type: ignore[attr-defined]
            if draws:
                played.obs[played.time, everyone] = self._start(everyone, redraw=True)
        self._obs = played.obs[played.time, everyone].astype(np.float64)
        self._ready[:], self._steps[:] = True, 0

    def _check_open(self) -> None:
        if self.closed:
            raise gymnasium.error.ClosedEnvironmentError("this environment was closed")

    def _checked(self, given: np.ndarray) -> np.ndarray:
        """Convert the actions to the space's dtype and check them."""
        given = np.asarray(given)
        if given.shape != self.action_space.shape:
            raise UserError(f"actions have shape {given.shape}, not {self.action_space.shape}")
        if given.dtype == self.action_space.dtype:
            actions = np.ascontiguousarray(given)
        else:
            with np.errstate(invalid="ignore", over="ignore"):
                actions = np.ascontiguousarray(given, self.action_space.dtype)
        if actions.dtype.kind == "f":
            wrong, what = ~np.isfinite(actions), "are not finite"
        else:
            wrong, what = actions != given, "are not whole numbers"
        if wrong.any():
            env_ids = np.flatnonzero(wrong.reshape(self.num_envs, -1).any(1)).tolist()
            raise UserError(f"actions of environments {env_ids} {what}")
        return actions

    @renamed_argument("slots", "env_ids")
    def render(self, env_ids: Sequence[int] | None = None) -> tuple[np.ndarray, ...] | None:
        """Render the current state of environments, upright; None without a `render_mode`.

        Args:
            env_ids: indices of the environments; None: all.

        Returns:
            One picture per environment: (height, width, 3) uint8, or with "depth_array" (height, width) float32, metres.

        Raises:
            UserError: OpenGL does not work here, see `metarl doctor`.
        """
        self._check_open()
        if self.render_mode is None:
            return None
        env_ids = range(self.num_envs) if env_ids is None else env_ids
        if not self._ready[list(env_ids)].all():
            raise gymnasium.error.ResetNeeded("reset before rendering")
        if self._painter is None and self.distribution.make is None:
            self._painter = Painter(*self._view, depth=self.render_mode == "depth_array")
        return tuple(self.engine.render(env_id, self._painter) for env_id in env_ids)

    def close_extras(self, **kwargs: Any) -> None:
        """Release the engine and the painter."""
        self.engine.close()
        if self._painter is not None:
            self._painter.close()


def check_names(distribution: TaskDistribution, names: Iterable[str]) -> None:
    """Refuse tasks that are incompatible with the distribution."""
    for name in sorted(names):
        if distribution.make is None and name not in NATIVE:
            raise unknown("task of Meta-World", name, NATIVE)
        if distribution.task_ids and name not in distribution.task_ids:
            raise UserError(f"{name} has no task id here: the ids are of {', '.join(distribution.task_ids)}")
