"""Task distributions and the engines that step them."""

from metarl.envs.suites import SUITES, TASKS, Suite, Task, TaskDistribution, suite
from metarl.envs.vector import ENGINES, MetaVectorEnv, make_vec

__all__ = ["ENGINES", "SUITES", "TASKS", "MetaVectorEnv", "Suite", "Task", "TaskDistribution", "make_vec", "suite"]
