"""Reach: bring the hand to the goal."""

import numba as nb

from metarl.envs.tasks.primitives import (
    HAND_START,
    MEMORY_SIZE,
    NOW_SIZE,
    OUT_SIZE,
    REWARD,
    SUCCESS,
    TARGET,
    TCP,
    distance,
    tolerance,
)


def reach(now_, memory_, out_):
    """`SawyerReachEnvV3`."""
    now, memory, out = nb.carray(now_, NOW_SIZE), nb.carray(memory_, MEMORY_SIZE), nb.carray(out_, OUT_SIZE)
    to_target = distance(now, TCP, memory, TARGET)
    out[REWARD] = 10.0 * tolerance(to_target, 0.0, 0.05, distance(memory, HAND_START, memory, TARGET))
    out[SUCCESS] = to_target <= 0.05
