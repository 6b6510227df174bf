"""Task distributions and the engines that step them.

What steps environments is imported when it is first asked for: a trained agent acts without a simulator.
"""

from typing import TYPE_CHECKING, Any

from metarl.envs.suites import SUITES, TASKS, Suite, Task, TaskDistribution, suite

if TYPE_CHECKING:
    from metarl.envs.vector import ENGINES, MetaVectorEnv, make_vec

__all__ = ["ENGINES", "SUITES", "TASKS", "MetaVectorEnv", "Suite", "Task", "TaskDistribution", "make_vec", "suite"]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from metarl.envs import vector

    return getattr(vector, name)
