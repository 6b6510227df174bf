"""Task distributions and the engines that step them."""

from typing import TYPE_CHECKING, Any

from metarl.envs.suites import SUITES, TASKS, Suite, Task, TaskDistribution, suite
from metarl.envs.vector import ENGINES, MetaVectorEnv, make_vec

if TYPE_CHECKING:
    from metarl.envs.sb3 import make_sb3 as make_sb3

__all__ = ["ENGINES", "SUITES", "TASKS", "MetaVectorEnv", "Suite", "Task", "TaskDistribution", "make_vec", "suite"]


def __getattr__(name: str) -> Any:
    """`make_sb3`, imported where it is asked for: stable-baselines3 is optional, and takes seconds to import."""
    if name == "make_sb3":
        from metarl.envs.sb3 import make_sb3

        return make_sb3
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
