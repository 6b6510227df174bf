"""Rewards of pushing an object to the goal: push, push-back, push-wall, sweep, sweep-into, soccer."""

from metarl.envs.tasks.primitives import (
    OBJECT,
    OBJECT_START,
    OPEN,
    TARGET,
    TCP,
    caged_grasp,
    distance,
    hamacher,
    past_wall,
    pinching,
    place_terms,
    point,
    report,
    rounded,
    scaled_distance,
    tolerance,
    total,
    touched,
    touched_and_lifted,
)
from metarl.system.jit import jit


def push(now, memory, out):
    """`SawyerPushEnvV3`."""
    obj, start, to_tcp, to_target, in_place = place_terms(now, memory, 0.05)
    grasp, single = caged_grasp(now, memory, obj, 0.015, 0.05, 0.005)
    reward = rounded(2.0 * grasp, single)
    if to_tcp < 0.02 and now[OPEN] > 0.0:
        reward = total(reward, total(total(1.0, reward, single), 5.0 * in_place, single), single)
    if to_target < 0.05:
        reward = 10.0
    lifted = touched_and_lifted(now, start)
    report(out, reward, to_target <= 0.05, to_tcp <= 0.03, lifted, grasp, in_place, to_target)


def push_back(now, memory, out):
    """`SawyerPushBackEnvV3`."""
    obj, target, start = point(now, OBJECT), point(memory, TARGET), point(memory, OBJECT_START)
    to_tcp, to_target, start_to_target = distance(obj, point(now, TCP)), distance(obj, target), distance(start, target)
    in_place = tolerance(to_target, 0.05, start_to_target)
    grasp = pinching(now, memory, obj, 0.007, 0.003, 0.01)
    reward = hamacher(grasp, in_place)
    if to_tcp < 0.01 and 0.0 < now[OPEN] < 0.55 and start_to_target - to_target > 0.01:
        reward += 1.0 + 5.0 * in_place
    if to_target < 0.05:
        reward = 10.0
    lifted = touched_and_lifted(now, start)
    report(out, reward, to_target <= 0.07, to_tcp <= 0.03, lifted, grasp, in_place, to_target)


def push_wall(now, memory, out):
    """`SawyerPushWallEnvV3`: first next to the wall, then to the goal."""
    obj, start, to_tcp, to_target, in_place = place_terms(now, memory, 0.05)
    wall, scale = (-0.05, 0.77, obj[2]), (3.0, 1.0, 1.0)
    at_wall = tolerance(scaled_distance(obj, wall, scale), 0.05, scaled_distance(start, wall, scale))
    grasp, single = caged_grasp(now, memory, obj, 0.015, 0.05, 0.005)
    reward = rounded(2.0 * grasp, single)
    if to_tcp < 0.02 and now[OPEN] > 0.0:
        reward = past_wall(reward, obj, at_wall, in_place, single)
    if to_target < 0.05:
        reward = 10.0
    lifted = touched_and_lifted(now, start)
    report(out, reward, to_target <= 0.07, to_tcp <= 0.03, lifted, grasp, in_place, to_target)


@jit
def _sweeping(now, memory, out, target, extra, xz_threshold):
    obj = point(now, OBJECT)
    to_tcp, to_target = distance(obj, point(now, TCP)), distance(obj, target)
    in_place = tolerance(to_target, 0.05, distance(point(memory, OBJECT_START), target))
    grasp = pinching(now, memory, obj, 0.02, extra, xz_threshold)
    reward = 10.0 if to_target < 0.05 else 2.0 * grasp + 6.0 * hamacher(grasp, in_place)
    report(out, reward, to_target <= 0.05, to_tcp <= 0.03, touched(now), grasp, in_place, to_target)


def sweep(now, memory, out):
    """`SawyerSweepEnvV3`."""
    _sweeping(now, memory, out, point(memory, TARGET), 0.01, 0.005)


def sweep_into(now, memory, out):
    """`SawyerSweepIntoGoalEnvV3`: the goal has the object's current height."""
    _sweeping(now, memory, out, (memory[TARGET], memory[TARGET + 1], now[OBJECT + 2]), 0.005, 0.01)


def soccer(now, memory, out):
    """`SawyerSoccerEnvV3`: the margin is the distance the ball has moved; in_place decreases next to the goal."""
    obj, target, start, scale = point(now, OBJECT), point(memory, TARGET), point(memory, OBJECT_START), (3.0, 1.0, 1.0)
    scaled_to_target = scaled_distance(obj, target, scale)
    in_place = tolerance(scaled_to_target, 0.07, scaled_distance(obj, start, scale))
    line = target[1] - 0.1
    if obj[1] > line and abs(obj[0] - target[0]) > 0.1:
        in_place = min(max(in_place - 2.0 * ((obj[1] - line) / (1.0 - line)), 0.0), 1.0)
    grasp = pinching(now, memory, obj, 0.013, 0.01, 0.005)
    reward = 10.0 if scaled_to_target < 0.07 else 3.0 * grasp + 6.5 * in_place
    to_tcp, to_target = distance(obj, point(now, TCP)), distance(obj, target)
    lifted = touched_and_lifted(now, start)
    report(out, reward, to_target <= 0.07, to_tcp <= 0.03, lifted, grasp, in_place, to_target)
