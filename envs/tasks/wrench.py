"""Rewards of long tools: assembly and disassemble (a wrench on a peg), hammer."""

import numpy as np

from metarl.envs.tasks.primitives import (
    GRIP,
    HAND,
    OBJECT,
    OBJECT_START,
    QUATERNION,
    READINGS,
    TARGET,
    TCP,
    TCP_START,
    caged_grasp,
    caging,
    distance,
    distance_xy,
    funnel,
    grasping,
    plus,
    point,
    report,
    rounded,
    scaled_distance,
    tolerance,
    total,
)
from metarl.system.jit import jit

LAID_DOWN = (0.707, 0.0, 0.0, 0.707)
"""Orientation, w, x, y, z, of a wrench, or of the lid in box-close, held as it originally lay."""


@jit
def upright(now, ideal, max_error):
    """1 at the ideal orientation, falling to 0 where the quaternion differs from it by `max_error` or more."""
    squared_error = 0.0
    for i in range(4):
        squared_error += (now[QUATERNION + i] - ideal[i]) * (now[QUATERNION + i] - ideal[i])
    return max(1.0 - np.sqrt(squared_error) / max_error, 0.0)


@jit
def _handle(now, half_length):
    """Return the point of the handle to grasp: next to the hand if the hand is over the handle."""
    x = now[HAND] if abs(now[OBJECT] - now[HAND]) < half_length else now[OBJECT]
    return x, now[OBJECT + 1], now[OBJECT + 2]


@jit
def _reward(grasp, in_place, orientation, single):
    """(2 grasp + 6 in_place) orientation."""
    weighted = total(rounded(2.0 * grasp, single), 6.0 * in_place, single)
    return rounded(weighted * rounded(orientation, single), single)


def assembly(now, memory, out):
    """`SawyerNutAssemblyEnvV3`: put the wrench's ring over the peg; reading: the ring's centre."""
    centre, target, start = point(now, READINGS), point(memory, TARGET), point(memory, OBJECT_START)
    orientation, handle = upright(now, LAID_DOWN, 0.4), _handle(now, 0.01)
    reach = tolerance(distance(handle, point(now, TCP)), 0.01, abs(distance(start, point(memory, TCP_START)) - 0.01))
    grasp, single = grasping(caging(now, memory, handle, start, 0.015, 0.02, 0.01), reach, now[GRIP], 1.0)
    radius = distance_xy(target, centre)
    success = radius < 0.02 and target[2] - centre[2] > 0.0
    threshold = 0.02 if success else 0.01
    # a funnel around the peg: outside the peg's radius, the ring should be above it
    height = funnel(radius, threshold, 0.02, 0.2)
    error = scaled_distance((target[0], target[1], height), centre, (1.0, 1.0, 3.0))
    lifted = 1.0 if centre[2] > 0.02 or radius < threshold else 0.0
    in_place = 0.1 * lifted + 0.9 * tolerance(error, 0.02, 0.4)
    reward = 10.0 if success else _reward(grasp, in_place, orientation, single)
    report(out, reward, success, orientation, grasp >= 0.5, grasp, in_place, 0.0)


def disassemble(now, memory, out):
    """`SawyerNutDisassembleEnvV3`: lift the wrench off the peg; reading: the ring's centre."""
    centre, target = point(now, READINGS), point(memory, TARGET)
    orientation = upright(now, LAID_DOWN, 0.4)
    grasp, single = caged_grasp(now, memory, _handle(now, 0.01), 0.015, 0.02, 0.01)
    lifted = 1.0 if centre[2] > 0.02 else 0.0
    in_place = 0.1 * lifted + 0.9 * tolerance(distance(plus(target, (0.0, 0.0, 0.1)), centre), 0.02, 0.2)
    success = now[OBJECT + 2] > target[2]
    reward = 10.0 if success else _reward(grasp, in_place, orientation, single)
    report(out, reward, success, orientation, grasp >= 0.5, grasp, in_place, 0.0)


def hammer(now, memory, out):
    """`SawyerHammerEnvV3`: drive the nail in; reading: how far it is in."""
    head = plus(point(now, OBJECT), (0.16, 0.06, 0.0))
    orientation = upright(now, (1.0, 0.0, 0.0, 0.0), 0.4)
    grasp, single = caged_grasp(now, memory, _handle(now, 0.07), 0.015, 0.02, 0.01)
    lifted = 1.0 if head[2] > 0.02 else 0.0
    in_place = 0.1 * lifted + 0.9 * tolerance(distance(point(memory, TARGET), head), 0.02, 0.2)
    reward = _reward(grasp, in_place, orientation, single)
    success = now[READINGS] > 0.09
    if success and reward > 5.0:
        reward = 10.0
    report(out, reward, success, orientation, grasp >= 0.5, grasp, in_place, 0.0)
