"""Scenes from stock Meta-World environments, for tests that draw or restore them."""

import os
from functools import lru_cache
from typing import Any

import numpy as np
import pytest

from metarl.envs.rendering.opengl import find_backend
from metarl.envs.rendering.scene import Scene, assets, get_state
from metarl.errors import UserError


@lru_cache(maxsize=8)
def _benchmark(task: str, seed: int) -> Any:
    import metaworld

    return metaworld.ML1(task, seed=seed)


def upstream_env(task: str = "reach-v3", goal: int = 0, seed: int = 1) -> Any:
    """A stock environment of the task, reset with one of ML1's 50 train goals."""
    benchmark = _benchmark(task, seed)
    env = benchmark.train_classes[task]()
    env.set_task(benchmark.train_tasks[goal])
    env.reset()
    return env


def scene_of(env: Any) -> Scene:
    """A copy of the environment's current scene, which later steps do not change."""
    return Scene(
        model_file=os.path.relpath(env.model_name, assets()),
        state=get_state(env.model, env.data),
        body_pos=env.model.body_pos.copy(),
        site_pos=env.model.site_pos.copy(),
        goal=np.array(env._target_pos, float),
    )


def play(
    env: Any, steps: int, interval: int = 1, action: tuple[float, ...] = (0.2, 0.8, 0.1, 0.0)
) -> tuple[list[Scene], list[int], list[float], list[bool]]:
    """Step the environment with one constant action in [-1, 1].

    Returns:
        For each step whose number is a multiple of `interval`: scene, step number (from 1), reward, and whether there has been
        a success so far.
    """
    scenes, numbers, rewards, successes = [], [], [], []
    success = False
    for step in range(1, steps + 1):
        _, reward, _, _, info = env.step(np.array(action, np.float32))
        success = success or bool(info["success"])
        if step % interval == 0:
            scenes.append(scene_of(env))
            numbers.append(step)
            rewards.append(float(reward))
            successes.append(success)
    return scenes, numbers, rewards, successes


def need_backend() -> None:
    """Skip the test, with the reason, if no OpenGL backend works."""
    try:
        find_backend()
    except UserError as error:
        pytest.skip(str(error))
