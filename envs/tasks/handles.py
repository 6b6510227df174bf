"""Rewards of objects moved without a grasp: handles, windows, faucets, drawers, the dial, the lever, the plates.

Reach the object, then bring it to its goal. The margins of `reach` and `in_place` are the distances after the reset minus
the radius, so that both start at 0.1.
"""

import numpy as np

from metarl.envs.tasks.primitives import (
    GRIP,
    HAND,
    OBJECT,
    OBJECT_START,
    OPEN,
    READINGS,
    REMEMBERED,
    TARGET,
    TCP,
    TCP_START,
    caged_grasp,
    closing,
    distance,
    gaussian,
    hamacher,
    place_terms,
    plus,
    point,
    report,
    rounded,
    scaled_distance,
    tolerance,
    total,
)
from metarl.system.jit import jit


@jit
def _sliding(now, memory, axis, start, radius):
    """Compute the terms of a handle that slides along one axis and whose start is remembered.

    Returns:
        The distances to hand and goal, the term of bringing it there, and the margin of reaching it.
    """
    to_target = abs(now[OBJECT + axis] - memory[TARGET + axis])
    in_place = tolerance(to_target, radius, abs(abs(start - memory[TARGET + axis]) - radius))
    margin = abs(distance(point(memory, REMEMBERED), point(memory, TCP_START)) - 0.02)
    return distance(point(now, OBJECT), point(now, TCP)), to_target, in_place, margin


def handle_press(now, memory, out):
    """`SawyerHandlePressEnvV3` and `SawyerHandlePressSideEnvV3`."""
    to_tcp, to_target, in_place, margin = _sliding(now, memory, 2, memory[REMEMBERED + 2], 0.02)
    reach = tolerance(to_tcp, 0.02, margin)
    reward = 10.0 * (1.0 if to_target <= 0.02 else hamacher(reach, in_place))
    report(out, reward, to_target <= 0.02, to_tcp <= 0.05, 1.0, reach, in_place, to_target)


def handle_pull(now, memory, out):
    """`SawyerHandlePullEnvV3`."""
    obj, start = point(now, OBJECT), point(memory, OBJECT_START)
    to_tcp, to_target = distance(obj, point(now, TCP)), abs(memory[TARGET + 2] - obj[2])
    in_place = tolerance(to_target, 0.05, abs(memory[TARGET + 2] - start[2]))
    grasp, single = caged_grasp(now, memory, obj, 0.022, 0.05, 0.01)
    reward = hamacher(grasp, in_place, single)
    if to_tcp < 0.035 and now[OPEN] > 0.0 and obj[1] - 0.01 > start[2]:  # compares y with z, as stock does
        reward = total(reward, 1.0 + 5.0 * in_place, single)
    if to_target < 0.05:
        reward = 10.0
    grasp_success = now[OPEN] > 0.0 and obj[2] - 0.03 > start[2]
    report(out, reward, to_target <= 0.05, to_tcp <= 0.05, grasp_success, grasp, in_place, to_target)


def handle_pull_side(now, memory, out):
    """`SawyerHandlePullSideEnvV3`."""
    obj, start, to_tcp, to_target, in_place = place_terms(now, memory, 0.05)
    grasp, single = caged_grasp(now, memory, obj, 0.032, 0.06, 0.01)
    reward = hamacher(grasp, in_place, single)
    if to_tcp < 0.035 and now[OPEN] > 0.0 and obj[2] - 0.01 > start[2]:
        reward = total(reward, 1.0 + 5.0 * in_place, single)
    if to_target < 0.05:
        reward = 10.0
    grasp_success = now[OPEN] > 0.0 and obj[2] - 0.03 > start[2]
    report(out, reward, to_target <= 0.08, to_tcp <= 0.05, grasp_success, grasp, in_place, to_target)


def window_open(now, memory, out):
    """`SawyerWindowOpenEnvV3`."""
    to_tcp, to_target, in_place, margin = _sliding(now, memory, 0, memory[OBJECT_START], 0.05)
    reach = tolerance(to_tcp, 0.02, margin)
    report(out, 10.0 * hamacher(reach, in_place), to_target <= 0.05, to_tcp <= 0.05, 1.0, reach, in_place, to_target)


def window_close(now, memory, out):
    """`SawyerWindowCloseEnvV3`."""
    to_tcp, to_target, in_place, margin = _sliding(now, memory, 0, memory[REMEMBERED], 0.05)
    reach = gaussian(to_tcp, 0.02, margin)
    report(out, 10.0 * hamacher(reach, in_place), to_target <= 0.05, to_tcp <= 0.05, 1.0, reach, in_place, to_target)


@jit
def _moving(now, memory, obj, start, reach_radius, radius):
    """Compute the distances to hand and goal, and the terms of reaching and of bringing it there."""
    target, tcp_start = point(memory, TARGET), point(memory, TCP_START)
    to_tcp, to_target = distance(obj, point(now, TCP)), distance(obj, target)
    in_place = tolerance(to_target, radius, abs(distance(start, target) - radius))
    reach = gaussian(to_tcp, reach_radius, abs(distance(start, tcp_start) - reach_radius))
    return to_tcp, to_target, reach, in_place


@jit
def _faucet(now, memory, out, obj):
    to_tcp, to_target, reach, in_place = _moving(now, memory, obj, point(memory, OBJECT_START), 0.01, 0.07)
    reward = 10.0 if to_target <= 0.07 else 2.0 * (2.0 * reach + 3.0 * in_place)
    report(out, reward, to_target <= 0.07, to_tcp <= 0.01, 1.0, reach, in_place, to_target)


def faucet_open(now, memory, out):
    """`SawyerFaucetOpenEnvV3`: reach a point next to the handle."""
    _faucet(now, memory, out, plus(point(now, OBJECT), (-0.04, 0.0, 0.03)))


def faucet_close(now, memory, out):
    """`SawyerFaucetCloseEnvV3`."""
    _faucet(now, memory, out, point(now, OBJECT))


def drawer_close(now, memory, out):
    """`SawyerDrawerCloseEnvV3`: with a closed gripper."""
    obj = point(now, OBJECT)
    to_tcp, to_target, reach, in_place = _moving(now, memory, obj, point(memory, OBJECT_START), 0.005, 0.05)
    closed, single = closing(now[GRIP], 1.0)
    reach = hamacher(reach, closed, single)
    success = to_target <= 0.05 + 0.015
    reward = 10.0 if success else rounded(10.0 * hamacher(reach, in_place, single), single)
    report(out, reward, success, to_tcp <= 0.01, 1.0, reach, in_place, to_target)


def drawer_open(now, memory, out):
    """`SawyerDrawerOpenEnvV3`."""
    handle, hand, target, scale = point(now, OBJECT), point(now, HAND), point(memory, TARGET), (3.0, 3.0, 1.0)
    to_target, to_hand = distance(handle, target), distance(handle, hand)
    opened = tolerance(to_target, 0.02, 0.2)
    margin = scaled_distance(plus(target, (0.0, 0.2, 0.0)), point(memory, TCP_START), scale)
    caged = tolerance(scaled_distance(handle, hand, scale), 0.01, margin)
    report(out, (caged + opened) * 5.0, to_target <= 0.03, to_hand <= 0.03, now[OPEN] > 0.0, caged, opened, to_target)


def dial_turn(now, memory, out):
    """`SawyerDialTurnEnvV3`: push next to the dial with a closed gripper; remembers the first push position."""
    obj, target, start = point(now, OBJECT), point(memory, TARGET), point(memory, REMEMBERED)
    to_target, to_tcp = distance(obj, target), distance(plus(obj, (0.05, 0.02, 0.09)), point(now, TCP))
    in_place = tolerance(to_target, 0.07, abs(distance(start, target) - 0.07))
    reach = gaussian(to_tcp, 0.005, abs(distance(start, point(memory, TCP_START)) - 0.005))
    closed, single = closing(now[GRIP], 1.0)
    reach = hamacher(reach, closed, single)
    reward = rounded(10.0 * hamacher(reach, in_place, single), single)
    report(out, reward, to_target <= 0.07, to_tcp <= 0.01, 1.0, reach, in_place, to_target)


SHOULDER = (0.0, 0.055, 0.07)
"""Offset from the hand to the part of the arm that pushes the lever or the lock, metres."""


def lever_pull(now, memory, out):
    """`SawyerLeverPullEnvV3`: lift the lever with the shoulder; reading: its angle; remembers its start position."""
    lever, target, start, scale = point(now, OBJECT), point(memory, TARGET), point(memory, REMEMBERED), (4.0, 1.0, 4.0)
    shoulder = scaled_distance(plus(point(now, HAND), SHOULDER), lever, scale)
    ready = tolerance(shoulder, 0.02, scaled_distance(plus(point(memory, TCP_START), SHOULDER), start, scale))
    error = abs(-now[READINGS] - np.pi / 2.0)
    engaged = tolerance(error, np.pi / 48.0, np.pi / 2.0 - np.pi / 12.0)
    in_place = tolerance(distance(lever, target), 0.04, distance(start, target))
    reward = 10.0 * hamacher(ready, in_place)
    report(out, reward, error <= np.pi / 24.0, shoulder < 0.03, ready > 0.9, ready, engaged, shoulder)


@jit
def _plate(now, memory, inset):
    """Compute the distances to hand and goal, and the terms of reaching and of bringing it there, margins less `inset`."""
    obj, target, start = point(now, OBJECT), point(memory, TARGET), point(memory, OBJECT_START)
    to_tcp, to_target = distance(point(now, TCP), obj), distance(obj, target)
    reach = tolerance(to_tcp, 0.05, distance(point(memory, TCP_START), start) - inset)
    return to_tcp, to_target, reach, tolerance(to_target, 0.05, distance(start, target) - inset)


def plate_slide(now, memory, out):
    """`SawyerPlateSlideEnvV3`."""
    to_tcp, to_target, grasp, in_place = _plate(now, memory, 0.0)
    reward = 10.0 if to_target < 0.05 else 8.0 * hamacher(grasp, in_place)
    report(out, reward, to_target <= 0.07, to_tcp <= 0.03, 0.0, grasp, in_place, to_target)


def plate_slide_back(now, memory, out):
    """`SawyerPlateSlideBackEnvV3`, `SawyerPlateSlideSideEnvV3` and `SawyerPlateSlideBackSideEnvV3`."""
    to_tcp, to_target, grasp, in_place = _plate(now, memory, 0.05)
    reward = 1.5 * grasp
    if now[TCP + 2] <= 0.03 and to_tcp < 0.07:
        reward = 2.0 + 7.0 * in_place
    if to_target < 0.05:
        reward = 10.0
    report(out, reward, to_target <= 0.07, to_tcp <= 0.03, 0.0, grasp, in_place, to_target)
