"""Reference engine: steps stock Meta-World objects, or any gymnasium environments with a task parameter."""

import importlib
import os
from collections import defaultdict
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple, Protocol

import gymnasium
import numpy as np

from metarl.envs.rendering.opengl import import_mujoco
from metarl.envs.rendering.painter import Painter
from metarl.envs.rendering.scene import Scene, assets, get_state
from metarl.envs.scales import observation_space
from metarl.envs.suites import Task
from metarl.envs.user_environment import UserEnv, brief, check_call
from metarl.errors import UserError, unknown

mujoco = import_mujoco()

UNSTABLE = [int(getattr(mujoco.mjtWarning, f"mjWARN_BADQ{what}")) for what in ("POS", "VEL", "ACC")]
"""MuJoCo's warnings of an unstable simulation, upon which it resets the state to its model's default."""


class StepResult(NamedTuple):
    """Result of one step of all environments; every array is (num_envs, ...) and new."""

    obs: np.ndarray
    reward: np.ndarray
    terminated: np.ndarray
    truncated: np.ndarray
    info: dict[str, np.ndarray]


class Engine(Protocol):
    """Steps the environments of a `MetaVectorEnv`; episode limits and autoreset are not its concern."""

    name: str

    @property
    def observation_space(self) -> gymnasium.Space[Any]:
        """Observation space of one environment."""

    @property
    def action_space(self) -> gymnasium.Space[Any]:
        """Action space of one environment."""

    def reset(self, env_ids: Sequence[int], tasks: Sequence[Task], seeds: Sequence[int]) -> np.ndarray:
        """Put environments at the start of their tasks and return their observations, (len(env_ids), ...)."""

    def step(self, actions: np.ndarray) -> StepResult:
        """Step all environments."""

    def scene(self, env_id: int) -> Scene:
        """Return the current state of an environment."""

    def render(self, env_id: int, painter: Painter | None) -> np.ndarray:
        """Draw the current state of an environment with the painter; environments without a scene draw themselves."""

    def close(self) -> None:
        """Release the engine's resources."""


class StockEnv(gymnasium.Env[np.ndarray, np.ndarray]):
    """A stock Meta-World environment whose task is set by parameters instead of a pickle.

    Args:
        name: one of `metarl.envs.TASKS`.
        reward: "v2", or "v1" (results published before 2021).
        goal_visible: whether observations end with the goal; otherwise with zeros.

    Raises:
        UserError: unknown environment.
    """

    def __init__(self, name: str, reward: str = "v2", goal_visible: bool = False) -> None:
        table = importlib.import_module("metaworld.env_dict").ALL_V3_ENVIRONMENTS
        if name not in table:
            raise unknown("task of Meta-World", name, table)
        self.name, self.env = name, table[name](reward_function_version=reward)
        self.env.max_path_length = np.inf  # MetaVectorEnv ends episodes
        if goal_visible:  # as in stock's `set_task`; the bounds are then recomputed
            self.env._partially_observable = False
            del self.env.sawyer_observation_space
        self.observation_space = observation_space(goal_visible)
        self.action_space = self.env.action_space

    @property
    def model_file(self) -> str:
        """Path of the model relative to Meta-World's asset folder."""
        return os.path.relpath(self.env.model_name, assets())

    def set_task(self, params: Any) -> None:
        """Set the task as stock's `set_task` does from its pickle; effective at the next reset.

        Raises:
            UserError: `params` are not finite numbers, as many as the task needs.
        """
        size = self.env._random_reset_space.shape[0]
        try:
            vector = np.array(params, np.float64)
        except (TypeError, ValueError):
            vector = np.array([])
        if vector.shape != (size,) or not np.isfinite(vector).all():
            raise UserError(f"a task of {self.name} is {size} finite numbers (Meta-World's rand_vec), not {params!r}")
        self.env._set_task_called = True
        self.env._freeze_rand_vec = True
        self.env._last_rand_vec = vector

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[np.ndarray, dict[str, Any]]:
        """Stock's reset, determined by the task alone (7-12 ms).

        Raises:
            UserError: stock would reject and redraw this goal forever, because object and target are too close.
        """
        draws = 0

        def draw() -> np.ndarray:
            nonlocal draws
            draws += 1
            if draws > 2:  # stock resets the model twice, and draws once each time
                raise UserError(f"Meta-World refuses this task of {self.name}: {self.env._last_rand_vec.tolist()}")
            return self.env._last_rand_vec

        self.env._get_state_rand_vec = draw
        try:
            return self.env.reset()
        finally:
            del self.env._get_state_rand_vec

    def step(self, action: np.ndarray) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        """Stock's step."""
        obs, reward, terminated, truncated, info = self.env.step(action)
        warnings = self.env.data.warning.number
        if warnings[UNSTABLE].any():
            warnings[:], truncated, info = 0, True, info | {"unstable": True}
        return obs, float(reward), terminated, truncated, info

    def scene(self) -> Scene:
        """Return the current state of the environment."""
        model, data = self.env.model, self.env.data
        goal = np.array(self.env._target_pos)
        return Scene(self.model_file, get_state(model, data), model.body_pos.copy(), model.site_pos.copy(), goal)

    def close(self) -> None:
        """Release the renderer that gymnasium's base class may hold."""
        self.env.close()


def _gather(infos: Sequence[dict[str, Any]]) -> dict[str, np.ndarray]:
    """Collect every entry as an array over environments, and in `_key` a mask of those with it (gymnasium's convention)."""
    out: dict[str, np.ndarray] = {}
    for key in dict.fromkeys(key for info in infos for key in info):
        mine = np.array([key in info for info in infos])
        plain = all(isinstance(info[key], int | float | np.number | np.bool_) for info in infos if key in info)
        out[key] = np.zeros(len(infos), np.float64) if plain else np.full(len(infos), None, object)
        for env_id in np.flatnonzero(mine).tolist():
            out[key][env_id] = infos[env_id][key]
        out[f"_{key}"] = mine
    return out


class PythonEngine:
    """Steps environment objects one after the other.

    Environments other than Meta-World's are checked, see `UserEnv`.

    Args:
        make: returns an environment for a name; it has `set_task(params)`, itself or inside its wrappers. None: stock
            Meta-World.
        names: all names that may be used.
        num_envs: number of environments.
        reward: Meta-World's version of the reward.
        info: "success", or "full": every entry of stock's info.
        goal_visible: whether Meta-World's observations end with the goal.

    Attributes:
        longest: the environment's own episode limit from gymnasium's registration; None: unknown.
        steps_per_second: control frequency from the environment's metadata, for videos in real time.
        tells_success: whether the info of every step so far reported `success`.
    """

    name = "python"

    def __init__(
        self,
        make: Callable[[str], Any] | None,
        names: Sequence[str],
        num_envs: int,
        reward: str = "v2",
        info: str = "success",
        goal_visible: bool = False,
    ) -> None:
        self.own = make is not None
        self.make = make or partial(StockEnv, reward=reward, goal_visible=goal_visible)
        self.made: set[int] = set()  # ids of the user's innermost environments
        self.names, self.full_info, self.tells_success = list(names), info == "full", True
        self.spare: dict[str, list[Any]] = defaultdict(list)
        self.envs: list[tuple[str, Any] | None] = [None] * num_envs
        check_call(self.make, names[0], message="make is called with a task's name, such as make=lambda name: PointRobot()")
        first = self._new(names[0])
        self.observation_space, self.action_space = first.observation_space, first.action_space
        self.steps_per_second = (getattr(first, "metadata", None) or {}).get("render_fps") or 20 if self.own else 80
        self.longest = getattr(getattr(first, "spec", None), "max_episode_steps", None)
        self.spare[names[0]].append(first)
        for name in names[1:]:
            self.spare[name].append(self._made(name))

    def _new(self, name: str) -> Any:
        env = self.make(name)
        if not self.own:
            return env
        own = UserEnv(name, env)
        if id(own.innermost) in self.made:
            raise UserError(f"{name}: make returned the same environment twice: every call must make a new one")
        self.made.add(id(own.innermost))
        return own

    def _made(self, name: str) -> Any:
        env = self._new(name)
        if self._differs(env):
            raise UserError(f"{name} has other observation or action spaces than {self.names[0]}: they cannot share a batch")
        return env

    def _differs(self, env: Any) -> bool:
        mine, shared = env.observation_space, self.observation_space
        holds = np.can_cast(mine.dtype, shared.dtype) or mine.dtype.kind == shared.dtype.kind == "f"
        return mine.shape != shared.shape or not holds or env.action_space != self.action_space

    def _env(self, env_id: int) -> Any:
        held = self.envs[env_id]
        assert held is not None
        return held[1]

    def reset(self, env_ids: Sequence[int], tasks: Sequence[Task], seeds: Sequence[int]) -> np.ndarray:
        """See `Engine.reset`."""
        observations = []
        for env_id, task, seed in zip(env_ids, tasks, seeds):
            held = self.envs[env_id]
            if held is None or held[0] != task.name:
                env = self.spare[task.name].pop() if self.spare[task.name] else self._made(task.name)
                if held is not None:
                    self.spare[held[0]].append(held[1])
                self.envs[env_id] = task.name, env
            env = self._env(env_id)
            env.set_task(task.params)
            observations.append(env.reset(seed=seed)[0])
            if self.own and self._differs(env):
                raise UserError(f"{task.name} {task.params} has other spaces than the tasks before: they cannot share a batch")
        return np.array(observations, self.observation_space.dtype)

    def _name(self, env_id: int) -> str:
        held = self.envs[env_id]
        return held[0] if held else self.names[0]

    def step(self, actions: np.ndarray) -> StepResult:
        """See `Engine.step`."""
        results = [self._env(env_id).step(action) for env_id, action in enumerate(actions)]
        obs, reward, terminated, truncated, infos = zip(*results)
        self.tells_success = self.tells_success and all("success" in i for i in infos)
        info = _gather(infos) if self.full_info else {}
        info["success"] = np.array([bool(i.get("success", False)) for i in infos])
        info.pop("_success", None)
        unstable = np.array([i.get("unstable") is True for i in infos])
        if unstable.any():
            info["unstable"] = unstable
            info.pop("_unstable", None)
        return StepResult(
            np.array(obs, self.observation_space.dtype),
            np.array(reward, np.float64),
            np.array(terminated, bool),
            np.array(truncated, bool),
            info,
        )

    def scene(self, env_id: int) -> Scene:
        """See `Engine.scene`. Only Meta-World's environments have scenes."""
        return self._env(env_id).scene()

    def render(self, env_id: int, painter: Painter | None) -> np.ndarray:
        """See `Engine.render`."""
        env = self._env(env_id)
        if painter:
            return painter.draw(env.scene())
        if not callable(getattr(env, "render", None)):
            raise UserError(f"{self._name(env_id)} cannot be drawn: it has no render()")
        try:
            picture = env.render()
        except NotImplementedError:  # gymnasium's own
            raise UserError(f"{self._name(env_id)} cannot be drawn: it has no render()") from None
        except gymnasium.error.DependencyNotInstalled as error:
            raise UserError(f"{self._name(env_id)} cannot be drawn: {error}") from None
        if not isinstance(picture, np.ndarray) or picture.ndim != 3 or picture.shape[2] != 3 or picture.dtype != np.uint8:
            raise UserError(
                f"{self._name(env_id)}: render returned {brief(picture)}, not a uint8 picture (height, width, 3). "
                'Make its environments with render_mode="rgb_array"'
            )
        return picture

    def close(self) -> None:
        """Close every environment."""
        for env in [held[1] for held in self.envs if held] + [env for spare in self.spare.values() for env in spare]:
            env.close()
        self.envs = [None] * len(self.envs)
        self.spare.clear()
