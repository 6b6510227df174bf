"""Stock Meta-World as the reference for tests: its scripted experts, and tasks sampled by its own code."""

import pickle
import warnings
from collections.abc import Callable, Iterable
from functools import lru_cache
from typing import Any

import numpy as np

from metarl.envs import MetaVectorEnv, Task, TaskDistribution, suite
from metarl.envs.engines.python import StockEnv
from metarl.envs.rendering.scene import load_model

model_once = lru_cache(load_model)
"""`load_model` with a cache, for tests that make many environments: nothing changes a class's model."""

VARIED_TASKS = ("reach-v3", "push-v3", "pick-place-v3", "bin-picking-v3", "peg-insert-side-v3", "dial-turn-v3")
"""Tasks that exercise different parts of the engine: changing memory, readings, a hinge."""

ENGINES = ["native", "python"]
Make = Callable[..., MetaVectorEnv]


def reach() -> TaskDistribution:
    """The train goals of reach."""
    return suite("ml1:reach-v3").train


@lru_cache
def _policy(name: str) -> Any:
    from metaworld.policies import ENV_POLICY_MAP

    return ENV_POLICY_MAP[name]()


def expert(env: MetaVectorEnv, obs: np.ndarray) -> np.ndarray:
    """Actions of the scripted experts, (num_envs, 4) float32, not clipped. They observe the goals that `obs` hides."""
    actions = np.zeros((env.num_envs, 4), np.float32)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # "Constant(s) may be too high": Meta-World clips
        for env_id, task in enumerate(env.tasks):
            observation = obs[env_id].copy()
            observation[36:39] = env.engine.scene(env_id).goal
            actions[env_id] = _policy(task.name).get_action(observation)
    return actions


def random_actions(steps: int, num_envs: int = 2, seed: int = 0, limit: float = 1.0) -> np.ndarray:
    """Random actions, (steps, num_envs, 4) float32; stock clips them to [-1, 1]."""
    return np.random.default_rng(seed).uniform(-limit, limit, (steps, num_envs, 4)).astype(np.float32)


def goals(tasks: Iterable[Any]) -> list[tuple[str, tuple[float, ...]]]:
    """Names and goals of Meta-World's tasks."""
    return [(task.env_name, tuple(pickle.loads(task.data)["rand_vec"].tolist())) for task in tasks]


def draw(upstream: StockEnv, name: str, seed: int = 0) -> Task:
    """A task sampled by stock's own reset; numpy's global state is restored."""
    global_state = np.random.get_state()  # noqa: NPY002
    np.random.seed(seed)  # noqa: NPY002
    upstream.env._set_task_called, upstream.env._freeze_rand_vec = True, False
    upstream.env.reset()
    np.random.set_state(global_state)  # noqa: NPY002
    return Task(name, tuple(upstream.env._last_rand_vec.tolist()))


@lru_cache(maxsize=4)
def native_tasks(goals: int = 3) -> TaskDistribution:
    """The first train goals of the tasks in `VARIED_TASKS`."""
    return TaskDistribution(tuple(task for name in VARIED_TASKS for task in suite(f"ml1:{name}").train.tasks[:goals]))


def same_global_state(before: Any) -> bool:
    """Whether numpy's global generator has the same state as before."""
    after = np.random.get_state()  # noqa: NPY002
    return all(np.array_equal(a, b) for a, b in zip(before, after))
