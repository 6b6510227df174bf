"""Expose one environment as a plain `gymnasium.Env`, and make the vector environments of gymnasium's ids."""

from typing import Any

import gymnasium
import numpy as np

from metarl.envs.making import make_vec
from metarl.envs.suites import TaskDistribution
from metarl.envs.suites import suite as make_suite
from metarl.envs.vector import MetaVectorEnv
from metarl.errors import UserError
from metarl.gymnasium_ids import HORIZON


class SingleEnv(gymnasium.Env[np.ndarray, np.ndarray]):
    """A single environment on top of the engine; every reset draws a task from the distribution.

    Only an unstable simulation ends an episode (`truncated`), or success if asked for; `gymnasium.make` truncates it after
    `max_episode_steps`, by default 500.

    Args:
        suite: such as "ml1:reach-v3".
        side: train or test.
        suite_seed, goals: see `metarl.envs.suite`.
        terminate_on_success: end an episode at its first success (`terminated`).
        render_mode: None, "rgb_array" or "depth_array".
        options: options of `metarl.envs.make_vec`: engine, reward, info, camera, width, height.

    Raises:
        UserError: unknown suite, side or option.
    """

    metadata = {"render_modes": ["rgb_array", "depth_array"], "render_fps": 80}  # noqa: RUF012 - gymnasium's own form

    def __init__(
        self,
        suite: str,
        side: str = "train",
        *,
        suite_seed: int = 1,
        goals: int = 50,
        terminate_on_success: bool = False,
        render_mode: str | None = None,
        **options: Any,
    ) -> None:
        self.tasks = _tasks(suite, side, suite_seed, goals)
        self.terminate_on_success, self.render_mode = terminate_on_success, render_mode
        # The vector environment would reset within the last step of an episode and so hide its end: its own limit is never
        # reached.
        self.vector = make_vec(self.tasks, 1, max_episode_steps=2**62, render_mode=render_mode, num_threads=1, **options)
        self.observation_space, self.action_space = self.vector.single_observation_space, self.vector.single_action_space

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[np.ndarray, dict[str, Any]]:
        """Draw a task and start an episode."""
        super().reset(seed=seed)
        self.vector.set_tasks(self.tasks.sample(1, self.np_random))
        obs, _ = self.vector.reset(seed=int(self.np_random.integers(2**31)))
        return obs[0], {}

    def step(self, action: np.ndarray) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        """Step once; info contains `success` as a bool, and with `info="full"` all entries of stock's info."""
        obs, reward, _, truncated, infos = self.vector.step(np.asarray(action)[None])
        ended = bool(truncated[0])
        step_info = infos["final_info"] if ended else infos
        info = {
            key: step_info[key][0]
            for key in step_info
            if f"_{key}" in step_info and not key.startswith("final_") and step_info[f"_{key}"][0]
        }
        info["success"] = bool(info["success"])
        terminated = self.terminate_on_success and info["success"]
        return infos["final_obs"][0] if ended else obs[0], float(reward[0]), terminated, ended, info

    def render(self) -> Any:
        """Return a picture, see `MetaVectorEnv.render`; None without a `render_mode`."""
        pictures = self.vector.render()
        return None if pictures is None else pictures[0]

    def close(self) -> None:
        """Release the engine."""
        self.vector.close()


def make_vector(
    num_envs: int = 1,
    *,
    suite: str,
    side: str = "train",
    suite_seed: int = 1,
    goals: int = 50,
    max_episode_steps: int = HORIZON,
    resample: str = "episode",
    autoreset: str = "next_step",
    **options: Any,
) -> MetaVectorEnv:
    """Make the vector environment that `gymnasium.make_vec` returns for the ids, with a new task for every episode.

    Args:
        num_envs: number of environments.
        suite, side, suite_seed, goals: see `SingleEnv`.
        max_episode_steps: steps per episode.
        resample, autoreset, options: see `metarl.envs.make_vec`.
    """
    tasks = _tasks(suite, side, suite_seed, goals)
    return make_vec(tasks, num_envs, max_episode_steps=max_episode_steps, resample=resample, autoreset=autoreset, **options)


def _tasks(name: str, side: str, seed: int, goals: int) -> TaskDistribution:
    suite = make_suite(name, seed, goals)
    tasks = {"train": suite.train, "test": suite.test}.get(side)
    if tasks is None:
        raise UserError(f"{name} has no side {side!r}: train{' or test' if suite.test else ''}")
    return tasks
