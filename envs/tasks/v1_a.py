"""The old reward, v1, of the tasks from assembly to handle-press.

Minus the distance from the hand to the object, metres, and thousands once the object is reached or picked up. Stock's flags
(`reachCompleted`, `pickCompleted`, `placeCompleted`) are set anew in every step before they are read, and its `objDropped`
is never true of an object that is high enough to be picked up: what v1 remembers is distances and heights at the reset.
Of info v1 fills in little: most tasks report the hand at a distance of 0, hence as near the object, and terms of 0.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from metarl.envs.jit import jit
from metarl.envs.tasks.primitives import (
    GRIP,
    OBJECT,
    OBJECT_START,
    READINGS,
    REMEMBERED,
    TARGET,
    TCP,
    TCP_START,
    distance,
    distance_xy,
    point,
    report,
    rounded,
)

if TYPE_CHECKING:
    from metarl.envs.tasks import NativeTask

Y, Z = 1, 2

HEIGHT, HIGH, FARTHEST = REMEMBERED, REMEMBERED + 1, REMEMBERED + 2
"""In memory, of a task that lifts: the object's height at the reset, the height to lift it to, `maxPlacingDist`."""


@jit
def _nearing(scale, left, start, wide, narrow):
    """Of a distance that was `start` and of which this much is left: its share gained, and two bells around 0."""
    square = left * left
    return scale * (start - left) + scale * (np.exp(-square / wide) + np.exp(-square / narrow))


@jit
def _coming(left, start):
    """The usual such term, at least 0."""
    return max(_nearing(1000.0, left, start, 0.01, 0.001), 0.0)


@jit
def _reached(now, finger, coming):
    """The reward of pressing and pulling: `coming` counts with the finger within 5 cm of the object."""
    reach = distance(point(now, OBJECT), finger)
    return -reach + (coming if reach < 0.05 else 0.0)


@jit
def _report(out, reward, success, grasp_success, to_target):
    """With the hand "near" the object."""
    report(out, reward, success, 1.0, grasp_success, 0.0, 0.0, to_target)


@jit
def _slide(now, memory, out, axis, finger, start, grasp_success, threshold):
    """Press or pull along one axis, along which the goal was `start` away at the reset."""
    left = abs(now[OBJECT + axis] - memory[TARGET + axis])
    _report(out, _reached(now, finger, _coming(left, start)), left <= threshold, grasp_success, left)


def button_press_v1(now, memory, out):
    """`SawyerButtonPressEnvV3` and `SawyerCoffeeButtonEnvV3`; reading: the left finger."""
    _slide(now, memory, out, Y, point(now, READINGS), memory[REMEMBERED], 0.0, 0.02)


def button_press_wall_v1(now, memory, out):
    """`SawyerButtonPressWallEnvV3`; reading: the left finger. Stock's `maxDist` is along z, the pressing along y."""
    _slide(now, memory, out, Y, point(now, READINGS), memory[REMEMBERED], 0.0, 0.03)


def button_press_topdown_v1(now, memory, out):
    """`SawyerButtonPressTopdownEnvV3` and `SawyerButtonPressTopdownWallEnvV3`."""
    _slide(now, memory, out, Z, point(now, TCP), memory[REMEMBERED], 0.0, 0.024)


def handle_press_v1(now, memory, out):
    """`SawyerHandlePressEnvV3` and `SawyerHandlePressSideEnvV3`; reading: the left finger."""
    _slide(now, memory, out, Z, point(now, READINGS), memory[REMEMBERED], 1.0, 0.02)


def drawer_close_v1(now, memory, out):
    """`SawyerDrawerCloseEnvV3`."""
    _slide(now, memory, out, Y, point(now, TCP), 0.15, 1.0, 0.05 + 0.015)


def drawer_open_v1(now, memory, out):
    """`SawyerDrawerOpenEnvV3`."""
    _slide(now, memory, out, Y, point(now, TCP), 0.2, 0.0, 0.03)


def dial_turn_v1(now, memory, out):
    """`SawyerDialTurnEnvV3`: narrower bells; remembers how far the goal was."""
    left = abs(now[OBJECT + Y] - memory[TARGET + Y])
    coming = max(_nearing(1000.0, left, memory[REMEMBERED], 0.001, 0.0001), 0.0)
    _report(out, _reached(now, point(now, TCP), coming), left <= 0.07, 1.0, left)


@jit
def _turn(now, memory, out, grasp_success, threshold):
    """Bring the object to the goal; remembers how far that was."""
    left = distance(point(now, OBJECT), point(memory, TARGET))
    reward = _reached(now, point(now, TCP), _coming(left, memory[REMEMBERED]))
    _report(out, reward, left <= threshold, grasp_success, left)


def door_lock_v1(now, memory, out):
    """`SawyerDoorLockEnvV3` and `SawyerDoorUnlockEnvV3`."""
    _turn(now, memory, out, 0.0, 0.02)


def faucet_v1(now, memory, out):
    """`SawyerFaucetOpenEnvV3` and `SawyerFaucetCloseEnvV3`."""
    _turn(now, memory, out, 1.0, 0.07)


@jit
def _door(now, memory):
    """The reward of moving the door, and how far the handle is from the goal; remembers how far it was."""
    left = distance_xy(point(now, OBJECT), point(memory, TARGET))
    return _reached(now, point(now, TCP), _coming(left, memory[REMEMBERED])), left


def door_close_v1(now, memory, out):
    """`SawyerDoorCloseEnvV3`."""
    reward, left = _door(now, memory)
    report(out, reward, left <= 0.08, 0.0, 1.0, 1.0, 0.0, left)


def door_open_v1(now, memory, out):
    """`SawyerDoorEnvV3`."""
    reward, _ = _door(now, memory)
    report(out, reward, abs(now[OBJECT] - memory[TARGET]) <= 0.08, 0.0, 0.0, 0.0, 0.0, 0.0)


def hand_insert_v1(now, memory, out):
    """`SawyerHandInsertEnvV3`: the hand alone goes to the goal; "success" is about the object's start, and does not change."""
    tcp, target = point(now, TCP), point(memory, TARGET)
    reach = distance_xy(tcp, target)
    reward = -reach + (_coming(abs(tcp[2] - target[2]), memory[REMEMBERED]) if reach < 0.05 else 0.0)
    to_target = distance(point(memory, OBJECT_START), target)
    _report(out, reward, to_target <= 0.05, 0.0, to_target)


def coffee_push_v1(now, memory, out):
    """`SawyerCoffeePushEnvV3`; remembers how far the goal was."""
    obj, target = point(now, OBJECT), point(memory, TARGET)
    reward = _reached(now, point(now, TCP), _coming(distance_xy(obj, target), memory[REMEMBERED]))
    to_target = distance(obj, target)
    _report(out, reward, to_target <= 0.07, 0.0, to_target)


def coffee_pull_v1(now, memory, out):
    """`SawyerCoffeePullEnvV3`; remembers how far the goal was.

    Stock takes the length of (object's x, y, hand's initial z) for the reach, which is never within its 5 cm.
    """
    obj, target = point(now, OBJECT), point(memory, TARGET)
    reward = -distance((obj[0], obj[1], memory[TCP_START + 2]), (0.0, 0.0, 0.0))
    if distance(obj, point(now, TCP)) < 0.05:
        reward += _coming(distance_xy(obj, target), memory[REMEMBERED])
    to_target = distance(obj, target)
    _report(out, reward, to_target <= 0.07, 0.0, to_target)


@jit
def _reaching(now, memory, near, radius, weight):
    """How far the hand is from the object, and the term of reaching.

    Args:
        near: as near as this the fingers should close: max(action's last entry, 0) / 50, a float32.
        radius: of a cylinder above the object, outside which the hand should keep the height that the reset gave it.
        weight: of that height.
    """
    obj, tcp = point(now, OBJECT), point(now, TCP)
    reach, reach_xy = distance(obj, tcp), distance_xy(obj, tcp)
    if reach < near:
        return reach, -reach + rounded(max(now[GRIP], 0.0) / 50.0, True)
    if reach_xy < radius:
        return reach, -reach
    return reach, -reach_xy - weight * abs(tcp[2] - memory[TCP_START + 2])


@jit
def _picking(memory, z, picked, near):
    """100 for every metre of height: the whole once the object is picked up, before that what it has while `near`."""
    if picked:
        return 100.0 * memory[HIGH]
    return 100.0 * min(memory[HIGH], z) if near and z > memory[HEIGHT] + 0.005 else 0.0


@jit
def _lifting(now, memory):
    """Basketball and box-close: the reward, and how far the object is from the goal."""
    obj = point(now, OBJECT)
    left = distance(obj, point(memory, TARGET))
    reach, reaching = _reaching(now, memory, 0.05, 0.05, 2.0)
    picked = obj[2] >= memory[HIGH] - 0.01
    coming = _coming(left, memory[FARTHEST]) if picked and reach < 0.1 else 0.0
    return reaching + _picking(memory, obj[2], picked, reach < 0.1) + coming, left


def basketball_v1(now, memory, out):
    """`SawyerBasketballEnvV3`."""
    reward, left = _lifting(now, memory)
    _report(out, reward, left <= 0.08, 0.0, left)


def box_close_v1(now, memory, out):
    """`SawyerBoxCloseEnvV3`."""
    reward, left = _lifting(now, memory)
    report(out, reward, left < 0.08, 0.0, 0.0, 0.0, 0.0, 0.0)


def bin_picking_v1(now, memory, out):
    """`SawyerBinPickingEnvV3`: open the gripper over the bin, and in it."""
    obj, target = point(now, OBJECT), point(memory, TARGET)
    left = distance_xy(obj, target)
    over = abs(obj[0] - target[0]) < 0.05 and abs(obj[1] - target[1]) < 0.05
    coming, opening = _coming(left, memory[FARTHEST]), rounded(-200.0 * now[GRIP], True)
    if over and obj[2] < memory[HEIGHT] + 0.05:
        reward = opening + coming
    else:
        reach, reaching = _reaching(now, memory, 0.05, 0.06, 1.0)
        picked = obj[2] >= memory[HIGH] - 0.01
        reward = reaching + _picking(memory, obj[2], picked, reach < 0.1)
        if picked and reach < 0.1:
            reward += opening + coming if over else coming
    report(out, reward, left <= 0.05, 0.0, 0.0, 0.0, 0.0, left)


def assembly_v1(now, memory, out):
    """`SawyerNutAssemblyEnvV3`: lift the ring, bring it over the peg, let it down again; reading: the ring."""
    ring, target = point(now, READINGS), point(memory, TARGET)
    left, above = distance_xy(ring, target), abs(ring[2] - memory[HEIGHT])
    reach, reward = _reaching(now, memory, 0.04, 0.04, 1.0)
    picked = ring[2] >= memory[HIGH] - 0.01 and reach < 0.03
    placed = abs(ring[0] - target[0]) < 0.03 and abs(ring[1] - target[1]) < 0.03
    reward += _picking(memory, ring[2], placed or picked, reach < 0.04)
    if placed or picked:
        coming = _nearing(1000.0, left, memory[FARTHEST], 0.01, 0.001)
        if placed:
            coming += _nearing(2000.0, above, memory[HIGH], 0.003, 0.0003)
        reward += max(coming, 0.0)
    report(out, reward, placed and above <= 0.04, 0.0, 0.0, 0.0, 0.0, 0.0)


def disassemble_v1(now, memory, out):
    """`SawyerNutDisassembleEnvV3`; reading: the ring. Once that is beside the peg, reaching and picking count as done."""
    obj, ring, peg = point(now, OBJECT), point(now, READINGS), point(memory, OBJECT_START)
    reach, reaching = _reaching(now, memory, 0.04, 0.04, 2.0)
    picked = obj[2] >= memory[HIGH] - 0.01 and reach < 0.04
    if abs(ring[0] - peg[0]) > 0.05 or abs(ring[1] - peg[1]) > 0.05:
        reward = 100.0 * memory[HIGH]
    else:
        reward = reaching + _picking(memory, obj[2], picked, reach < 0.04)
    if picked and reach < 0.03:
        reward += _coming(distance(obj, point(memory, TARGET)), memory[FARTHEST])
    report(out, reward, obj[2] > memory[TARGET + 2], 0.0, 0.0, 0.0, 0.0, 0.0)


def hammer_v1(now, memory, out):
    """`SawyerHammerEnvV3`; readings: the hammer's head, the nail's, how far the nail is in."""
    head, nail = point(now, READINGS), point(now, READINGS + 3)
    left = distance(nail, head) + abs(nail[1] - memory[TARGET + 1])
    z = now[OBJECT + 2]
    reach, reaching = _reaching(now, memory, 0.05, np.inf, 0.0)
    picked = z >= memory[HIGH] - 0.01
    reward = reaching + _picking(memory, z, picked, reach < 0.1)
    if picked and reach < 0.1:
        reward += _coming(left, memory[FARTHEST])
    report(out, reward, now[READINGS + 6] > 0.09, 0.0, 0.0, 0.0, 0.0, 0.0)


LEFT_FINGER = (("site", "leftEndEffector"),)
RING = (("body", "RoundNut"),)
NAIL = (("geom", "HammerHead"), ("site", "nailHead"), ("joint", "NailSlideJoint"))
HEIGHTS = ("objHeight", "heightTarget", "maxPlacingDist")

# formula, readings, what it remembers
V1 = {
    "assembly-v3": (assembly_v1, RING, ("obj_height", "heightTarget", "maxPlacingDist")),
    "basketball-v3": (basketball_v1, (), HEIGHTS),
    "bin-picking-v3": (bin_picking_v1, (), HEIGHTS),
    "box-close-v3": (box_close_v1, (), HEIGHTS),
    "button-press-topdown-v3": (button_press_topdown_v1, (), ("maxDist",)),
    "button-press-topdown-wall-v3": (button_press_topdown_v1, (), ("maxDist",)),
    "button-press-v3": (button_press_v1, LEFT_FINGER, ("maxDist",)),
    "button-press-wall-v3": (button_press_wall_v1, LEFT_FINGER, ("maxDist",)),
    "coffee-button-v3": (button_press_v1, LEFT_FINGER, ("maxDist",)),
    "coffee-pull-v3": (coffee_pull_v1, (), ("maxPullDist",)),
    "coffee-push-v3": (coffee_push_v1, (), ("maxPushDist",)),
    "dial-turn-v3": (dial_turn_v1, (), ("maxPullDist",)),
    "disassemble-v3": (disassemble_v1, RING, HEIGHTS),
    "door-close-v3": (door_close_v1, (), ("maxPullDist",)),
    "door-lock-v3": (door_lock_v1, (), ("maxPullDist",)),
    "door-open-v3": (door_open_v1, (), ("maxPullDist",)),
    "door-unlock-v3": (door_lock_v1, (), ("maxPullDist",)),
    "drawer-close-v3": (drawer_close_v1, (), ()),
    "drawer-open-v3": (drawer_open_v1, (), ()),
    "faucet-close-v3": (faucet_v1, (), ("maxPullDist",)),
    "faucet-open-v3": (faucet_v1, (), ("maxPullDist",)),
    "hammer-v3": (hammer_v1, NAIL, ("hammerHeight", "heightTarget", "maxHammerDist")),
    "hand-insert-v3": (hand_insert_v1, (), ("maxReachDist",)),
    "handle-press-side-v3": (handle_press_v1, LEFT_FINGER, ("maxDist",)),
    "handle-press-v3": (handle_press_v1, LEFT_FINGER, ("maxDist",)),
}


def table(native: "Mapping[str, NativeTask]") -> "dict[str, NativeTask]":
    """These tasks with reward v1; what they show is as in `native`, and none asks what the pads touch."""
    return {
        name: replace(native[name], formula=formula, readings=readings, remembers=remembers, touched="")
        for name, (formula, readings, remembers) in V1.items()
    }
