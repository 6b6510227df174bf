"""Task distributions, suites, and vector environments with the engines that step them.

The environment classes are imported on first access: a trained agent acts without a simulator, and stable-baselines3,
which `make_sb3` needs, is optional. Importing this package registers the gymnasium ids of `metarl.gymnasium_ids`.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from metarl.envs.suites import SUITES, TASKS, Suite, Task, TaskDistribution, suite
from metarl.gymnasium_ids import register

if TYPE_CHECKING:
    from metarl.envs.making import ENGINES, make_vec
    from metarl.envs.sb3 import make_sb3 as make_sb3
    from metarl.envs.vector import MetaVectorEnv

__all__ = ["ENGINES", "SUITES", "TASKS", "MetaVectorEnv", "Suite", "Task", "TaskDistribution", "make_vec", "suite"]
_LATER = {"make_sb3": "sb3", "ENGINES": "making", "MetaVectorEnv": "vector", "make_vec": "making"}

register()


def __getattr__(name: str) -> Any:
    if name not in _LATER:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"metarl.envs.{_LATER[name]}"), name)
