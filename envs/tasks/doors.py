"""Rewards of the doors, their locks and the box: door-open, door-close, door-lock, door-unlock, box-close."""

import numpy as np

from metarl.envs.tasks.handles import SHOULDER
from metarl.envs.tasks.primitives import (
    GRIP,
    HAND,
    HAND_START,
    LEFT_PAD,
    OBJECT,
    OBJECT_START,
    OPEN,
    READINGS,
    TARGET,
    TCP,
    TCP_START,
    above,
    distance,
    distance_xy,
    funnel,
    gaussian,
    hamacher,
    plus,
    point,
    report,
    rounded,
    scaled_distance,
    tolerance,
)
from metarl.envs.tasks.wrench import LAID_DOWN, upright
from metarl.system.jit import jit


@jit
def _effort(grip):
    """Map the action's last entry, a float32, from [-1, 1] to [0, 1]."""
    return rounded(rounded(min(max(grip, -1.0), 1.0) + 1.0, True) / 2.0, True)


@jit
def _above_floor(hand, centre, threshold):
    """Reward height by a funnel: the hand should be higher the farther it is from the centre."""
    floor = funnel(distance_xy(hand, centre), threshold, 0.04, 0.4)
    return above(floor, hand[2], floor / 2.0)


def box_close(now, memory, out):
    """`SawyerBoxCloseEnvV3`."""
    target, hand, lid = point(memory, TARGET), point(now, HAND), plus(point(now, OBJECT), (0.0, 0.0, 0.02))
    effort, orientation = _effort(now[GRIP]), upright(now, LAID_DOWN, 0.2)
    ready = hamacher(_above_floor(hand, lid, 0.02), tolerance(distance(hand, lid), 0.02, 0.5))
    lifted = 1.0 if lid[2] > 0.04 else 0.0
    closed = 0.2 * lifted + 0.8 * tolerance(scaled_distance(target, lid, (1.0, 1.0, 3.0)), 0.05, 0.25)
    success = distance(point(now, OBJECT), target) < 0.08
    reward = 10.0 if success else 2.0 * hamacher(effort, ready) + 8.0 * closed
    report(out, reward * orientation, success, ready, effort >= 0.5, effort, closed, 0.0)


def door_open(now, memory, out):
    """`SawyerDoorEnvV3`; reading: the door's angle."""
    hand, door, theta = point(now, HAND), plus(point(now, OBJECT), (-0.05, 0.0, 0.0)), now[READINGS]
    effort = _effort(now[GRIP])
    # (hand - door) - offset, in stock's order
    x, y, z = hand[0] - door[0] - 0.05, hand[1] - door[1] - 0.03, hand[2] - door[2] + 0.01
    ready = hamacher(_above_floor(hand, door, 0.12), tolerance(np.sqrt(x * x + y * y + z * z), 0.06, 0.5))
    started = 1.0 if theta < -np.pi / 90.0 else 0.0
    opened = 0.2 * started + 0.8 * tolerance(np.pi / 2.0 + np.pi / 6.0 - -theta, 0.5, np.pi / 3.0)
    success = abs(now[OBJECT] - memory[TARGET]) <= 0.08
    reward = 10.0 if success else 2.0 * hamacher(ready, effort) + 8.0 * opened
    report(out, reward, success, ready, effort >= 0.5, effort, opened, 0.0)


def door_close(now, memory, out):
    """`SawyerDoorCloseEnvV3`."""
    obj, target = point(now, OBJECT), point(memory, TARGET)
    to_target = distance(obj, target)
    in_place = gaussian(to_target, 0.05, distance(point(memory, OBJECT_START), target))
    margin = distance(point(memory, HAND_START), obj) + 0.1
    hand_in_place = gaussian(distance(point(now, TCP), target), 0.25 * 0.05, margin)
    reward = 10.0 if to_target < 0.05 else 3.0 * hand_in_place + 6.0 * in_place
    report(out, reward, to_target <= 0.08, 0.0, 1.0, 1.0, hand_in_place, to_target)


def door_lock(now, memory, out):
    """`SawyerDoorLockEnvV3`: the margin is the pad's "initial" distance, in stock a live view of the current one."""
    obj = point(now, OBJECT)
    to_pad = scaled_distance(obj, point(now, LEFT_PAD), (0.25, 1.0, 0.5))
    to_target = abs(memory[TARGET + 2] - obj[2])
    near, pressed = tolerance(to_pad, 0.01, to_pad), tolerance(to_target, 0.005, 0.1)
    reward = 2.0 * hamacher(max(now[OPEN], 0.0), near) + 8.0 * pressed
    report(out, reward, to_target <= 0.02, to_pad <= 0.05, now[OPEN] > 0.0, near, pressed, to_target)


def door_unlock(now, memory, out):
    """`SawyerDoorUnlockEnvV3`: push the lock with the shoulder."""
    lock, scale = point(now, OBJECT), (0.25, 1.0, 0.5)
    shoulder = scaled_distance(plus(point(now, HAND), SHOULDER), lock, scale)
    margin = scaled_distance(plus(point(memory, TCP_START), SHOULDER), point(memory, OBJECT_START), scale)
    ready = tolerance(shoulder, 0.02, margin)
    to_target = abs(memory[TARGET] - lock[0])
    pushed = tolerance(to_target, 0.005, 0.1)
    report(out, 2.0 * ready + 8.0 * pushed, to_target <= 0.02, shoulder <= 0.05, now[OPEN] > 0.0, ready, pushed, to_target)
