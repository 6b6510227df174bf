"""Rewards of pegs and sticks: peg-insert-side, peg-unplug-side, stick-push, stick-pull."""

from metarl.envs.tasks.primitives import (
    GRIP,
    OBJECT,
    OBJECT_START,
    OPEN,
    READINGS,
    REMEMBERED,
    SECOND,
    TARGET,
    TCP,
    caged_grasp,
    caging,
    distance,
    grasping,
    hamacher,
    place_terms,
    plus,
    point,
    report,
    rounded,
    scaled_distance,
    tolerance,
    total,
    touched,
)
from metarl.system.jit import jit


@jit
def _prism(p, corner, opposite):
    """Compute `reward_utils.rect_prism_tolerance`, and whether p lies in the prism."""
    for i in range(3):
        if not min(corner[i], opposite[i]) <= p[i] <= max(corner[i], opposite[i]):
            return 1.0, False
    x, y, z = opposite[0] - corner[0], opposite[1] - corner[1], opposite[2] - corner[2]
    return (p[0] - corner[0]) / x * ((p[1] - corner[1]) / y) * ((p[2] - corner[2]) / z), True


def peg_insert_side(now, memory, out):
    """`SawyerPegInsertionSideEnvV3`; readings: the peg's head, then the corners of two boxes around the hole."""
    obj, target, start, scale = point(now, OBJECT), point(memory, TARGET), point(memory, OBJECT_START), (1.0, 2.0, 2.0)
    head = point(now, READINGS)
    to_tcp, to_target = distance(obj, point(now, TCP)), scaled_distance(head, target, scale)
    in_place = tolerance(to_target, 0.07, scaled_distance(point(memory, REMEMBERED), target, scale))
    first, in_first = _prism(head, point(now, READINGS + 3), point(now, READINGS + 6))
    second, in_second = _prism(head, point(now, READINGS + 9), point(now, READINGS + 12))
    in_place = hamacher(in_place, hamacher(second, first))
    grasp, single = caged_grasp(now, memory, obj, 0.0075, 0.03, 0.005)
    lifted = now[OPEN] > 0.0 and obj[2] - 0.01 > start[2]
    if to_tcp < 0.08 and lifted:
        grasp = 1.0
        reward = hamacher(grasp, in_place) + (1.0 + 5.0 * in_place)
    else:  # within a prism, in_place is numpy's float64, which is not weak
        reward = hamacher(grasp, in_place, single and not (in_first or in_second))
    if to_target <= 0.07:
        reward = 10.0
    grasp_success = to_tcp < 0.02 and lifted
    report(out, reward, to_target <= 0.07, to_tcp <= 0.03, grasp_success, grasp, in_place, to_target)


def peg_unplug_side(now, memory, out):
    """`SawyerPegUnplugSideEnvV3`."""
    obj, start, to_tcp, to_target, in_place = place_terms(now, memory, 0.05)
    grasp, single = caged_grasp(now, memory, obj, 0.025, 0.05, 0.005, 0.8)
    grasp_success = now[OPEN] > 0.5 and obj[0] - start[0] > 0.015
    reward = rounded(2.0 * grasp, single)
    if grasp_success and to_tcp < 0.035:
        reward = total(total(1.0, reward, single), 5.0 * in_place, single)
    if to_target <= 0.05:
        reward = 10.0
    report(out, reward, to_target <= 0.07, to_tcp <= 0.03, grasp_success, grasp, in_place, to_target)


def stick_push(now, memory, out):
    """`SawyerStickPushEnvV3`: push a container with a stick; remembers the stick's start position."""
    target, start, stick_start = point(memory, TARGET), point(memory, OBJECT_START), point(memory, REMEMBERED)
    stick, container = plus(point(now, OBJECT), (0.015, 0.0, 0.0)), point(now, SECOND)
    to_tcp, to_target = distance(stick, point(now, TCP)), distance(container, target)
    stick_in_place = tolerance(distance(stick, target), 0.12, distance(stick_start, target) - 0.12)
    in_place = tolerance(to_target, 0.12, distance(start, target) - 0.12)
    caged = caging(now, memory, stick, stick_start, 0.04, 0.05, 0.01)
    grasp, _ = grasping(caged, caged, now[GRIP], 1.0)
    reward = grasp
    if to_tcp < 0.02 and now[OPEN] > 0.0 and stick[2] - 0.01 > stick_start[2]:
        grasp = 1.0
        reward = 10.0 if to_target <= 0.12 else 2.0 + 5.0 * stick_in_place + 3.0 * in_place
    grasp_success = touched(now) and now[OBJECT + 2] - 0.01 > stick_start[2]
    report(out, reward, grasp_success and to_target <= 0.12, to_tcp <= 0.03, grasp_success, grasp, stick_in_place, to_target)


def stick_pull(now, memory, out):
    """`SawyerStickPullEnvV3`: pull a container by its handle with a stick; reading: the stick's end."""
    target, start, stick_start = point(memory, TARGET), point(memory, OBJECT_START), point(memory, REMEMBERED)
    stick, handle, end, scale = point(now, OBJECT), point(now, SECOND), point(now, READINGS), (1.0, 1.0, 2.0)
    container, container_start = plus(handle, (0.05, 0.0, 0.0)), plus(start, (0.05, 0.0, 0.0))
    to_tcp, to_target = distance(stick, point(now, TCP)), distance(handle, target)
    margin = scaled_distance(stick_start, container_start, scale)
    stick_in_place = tolerance(scaled_distance(stick, container, scale), 0.05, margin)
    stick_at_target = tolerance(distance(stick, target), 0.05, distance(stick_start, target))
    in_place = tolerance(distance(container, target), 0.05, distance(start, target))
    inserted = end[0] >= handle[0] and abs(end[1] - handle[1]) <= 0.04 and abs(end[2] - handle[2]) <= 0.06
    grasp, single = caged_grasp(now, memory, stick, 0.014, 0.05, 0.01)
    if to_tcp < 0.02 and now[OPEN] > 0.0 and stick[2] - 0.01 > stick_start[2]:
        grasp = 1.0
        combined = hamacher(grasp, stick_in_place)
        reward = 1.0 + combined + 5.0 * stick_in_place
        if inserted:
            reward = 10.0 if to_target <= 0.12 else 1.0 + combined + 5.0 + 2.0 * stick_at_target + 1.0 * in_place
    else:
        reward = hamacher(grasp, stick_in_place, single)
    grasp_success = touched(now) and stick[2] - 0.02 > start[2]
    success = to_target <= 0.12 and inserted
    report(out, reward, success, to_tcp <= 0.03, grasp_success, grasp, stick_in_place, to_target)
