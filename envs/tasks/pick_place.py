"""Push and pick-place: grasp the object and bring it to the goal."""

import numba as nb

from metarl.envs.jit import jit
from metarl.envs.tasks.primitives import (
    GRIP,
    LEFT_PAD,
    MEMORY_SIZE,
    NOW_SIZE,
    OBJECT,
    OBJECT_START,
    OPEN,
    OUT_SIZE,
    REWARD,
    RIGHT_PAD,
    SUCCESS,
    TARGET,
    TCP,
    TCP_START,
    caging,
    distance,
    distance_xz,
    grasped,
    hamacher,
    rounded,
    tolerance,
)


def push(now_, memory_, out_):
    """`SawyerPushEnvV3`."""
    now, memory, out = nb.carray(now_, NOW_SIZE), nb.carray(memory_, MEMORY_SIZE), nb.carray(out_, OUT_SIZE)
    to_target = distance(now, OBJECT, memory, TARGET)
    in_place = tolerance(to_target, 0.0, 0.05, distance(memory, OBJECT_START, memory, TARGET))
    grasp, single = grasped(caging(now, memory, 0.015, 0.05, 0.005), now[GRIP], 1.0)
    reward = rounded(2.0 * grasp, single)
    if distance(now, OBJECT, now, TCP) < 0.02 and now[OPEN] > 0.0:
        bonus = rounded(rounded(1.0 + reward, single) + rounded(5.0 * in_place, single), single)
        reward = rounded(reward + bonus, single)
    out[REWARD] = 10.0 if to_target < 0.05 else reward
    out[SUCCESS] = to_target <= 0.05


def pick_place(now_, memory_, out_):
    """`SawyerPickPlaceEnvV3`."""
    now, memory, out = nb.carray(now_, NOW_SIZE), nb.carray(memory_, MEMORY_SIZE), nb.carray(out_, OUT_SIZE)
    to_target = distance(now, OBJECT, memory, TARGET)
    in_place = tolerance(to_target, 0.0, 0.05, distance(memory, OBJECT_START, memory, TARGET))
    grasp, single = grasped(_signed_caging(now, memory), now[GRIP], 1.0)
    reward = hamacher(grasp, in_place, single)
    lifted = now[OBJECT + 2] - 0.01 > memory[OBJECT_START + 2]
    if distance(now, OBJECT, now, TCP) < 0.02 and now[OPEN] > 0.0 and lifted:
        reward = rounded(reward + rounded(1.0 + 5.0 * in_place, single), single)
    out[REWARD] = 10.0 if to_target < 0.05 else reward
    out[SUCCESS] = to_target <= 0.07


@jit
def _signed_caging(now, memory):
    """Pick-place's own caging: signed distances, and margins from the pads' "initial" positions.

    Stock holds these as live views of the simulator's arrays, so they are the current positions, always.
    """
    y, left, right = now[OBJECT + 1], now[LEFT_PAD + 1], now[RIGHT_PAD + 1]
    in_y = hamacher(
        tolerance(left - y, 0.015, 0.05, abs(abs(y - left) - 0.05)),
        tolerance(y - right, 0.015, 0.05, abs(abs(y - right) - 0.05)),
    )
    margin = distance_xz(memory, OBJECT_START, memory, TCP_START) - 0.005
    return hamacher(in_y, tolerance(distance_xz(now, TCP, now, OBJECT), 0.0, 0.005, margin))
