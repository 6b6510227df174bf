"""`make_vec`: make a `MetaVectorEnv` for a task distribution, with the engine that can step its tasks."""

import logging
from functools import partial
from typing import Any

from metarl.envs.engines.python import Engine, PythonEngine
from metarl.envs.rendering.painter import DEFAULT_CAMERA, check_view
from metarl.envs.suites import TaskDistribution
from metarl.envs.vector import MetaVectorEnv, check_names
from metarl.errors import UserError, unknown
from metarl.gymnasium_ids import HORIZON
from metarl.system.memory import refuse_beyond

log = logging.getLogger("metarl")

ENGINES = {
    "auto": "native where every task of the suite has it, else python",
    "native": "compiled stepping of many simulations, equal to stock",
    "python": "stock Meta-World objects, or any gymnasium environment: the reference",
}


def environments(num_envs: int) -> str:
    """Describe the memory of `envs_bytes` in messages."""
    return f"{num_envs:,} environments"


def envs_bytes(tasks: TaskDistribution, num_envs: int, engine: str = "auto") -> float:
    """Return a lower bound of the environments' memory in bytes, measured on reach; nearly 0 for user-defined environments."""
    return num_envs * (1e4 if tasks.make else 2e7 if engine == "python" else 7e5)


def make_vec(
    tasks: TaskDistribution,
    num_envs: int,
    *,
    engine: str = "auto",
    seed: int = 0,
    max_episode_steps: int = HORIZON,
    resample: str = "never",
    reward: str = "v2",
    terminate_on_success: bool = False,
    autoreset: str = "same_step",
    info: str = "success",
    render_mode: str | None = None,
    camera: str = DEFAULT_CAMERA,
    width: int = 320,
    height: int = 240,
    num_threads: int | None = None,
) -> MetaVectorEnv:
    """Make a vector environment for a task distribution.

    Args:
        tasks: the distribution, such as `suite("ml1:reach-v3").train`.
        num_envs: number of environments.
        engine: see `ENGINES`.
        seed: seed of the random draws of tasks; `reset(seed=...)` restarts it.
        max_episode_steps: steps per episode.
        resample: "never": an environment keeps its task until `set_tasks` changes it (trials); "episode": it gets a new one for
            every episode.
        reward: "v2", or "v1": the reward behind results published before 2021.
        terminate_on_success: end an episode at its first success. Agents then learn to stop just short of the goal and keep
            collecting reward.
        autoreset: "same_step", or "next_step", which some of gymnasium's vector wrappers require.
        info: "success", or "full": every entry of stock's info.
        render_mode: None, "rgb_array" or "depth_array".
        camera: one of `metarl.envs.rendering.painter.CAMERAS`.
        width, height: size of pictures, pixels.
        num_threads: threads of the native engine; None: one per usable core.

    Raises:
        UserError: unknown engine or option, or an engine that cannot step these tasks.
    """
    if engine not in ENGINES:
        raise unknown("engine", engine, ENGINES)
    for option, value, known in (
        ("resample", resample, ("never", "episode")),
        ("reward", reward, ("v2", "v1")),
        ("info", info, ("success", "full")),
        ("autoreset", autoreset, ("same_step", "next_step")),
        ("render_mode", render_mode, (None, "rgb_array", "depth_array")),
    ):
        if value not in known:
            raise UserError(f"{option} must be {' or '.join(map(repr, known))}, not {value!r}")
    if num_envs < 1 or max_episode_steps < 1:
        raise UserError(f"num_envs ({num_envs}) and max_episode_steps ({max_episode_steps}) must be at least 1")
    check_view(width, height, camera)
    check_names(tasks, tasks.names)
    reason = "these are not Meta-World's environments" if tasks.make else ""
    if engine == "native" and reason:
        raise UserError(f"engine 'native' cannot be used: {reason}; engine='python' or 'auto' can")
    refuse_beyond({environments(num_envs): envs_bytes(tasks, num_envs, engine)}, "a smaller num_envs needs less")
    made: Engine
    if engine == "python" or reason:
        made = PythonEngine(tasks.make, tasks.names, num_envs, reward, info, tasks.goal_visible)
    else:
        from metarl.envs.engines.native import NativeEngine

        made = NativeEngine(
            tasks.tasks,
            num_envs,
            num_threads,
            reward=reward,
            goal_visible=tasks.goal_visible,
            all_info=info == "full",
        )
    if engine == "auto":
        log.info("engine: %s%s", made.name, f" ({reason})" if reason else "")
    view: dict[str, Any] = {"render_mode": render_mode, "camera": camera, "width": width, "height": height}
    play: dict[str, Any] = {
        "seed": seed,
        "max_episode_steps": max_episode_steps,
        "resample": resample,
        "terminate_on_success": terminate_on_success,
        "autoreset": autoreset,
    }
    description = partial(
        make_vec, tasks, num_envs, engine=engine, reward=reward, info=info, num_threads=num_threads, **view, **play
    )
    return MetaVectorEnv(tasks, made, num_envs, description=description, **view, **play)
