"""Reward v1 of tasks that lift and place: picking, the ring, the hammer, pegs and sticks.

The reward is minus the distance from hand to object in metres, plus 100 per metre of height, plus thousands for bringing
the object to the goal once it is lifted. Stock recomputes its flags (`reachCompleted`, `pickCompleted`, `placeCompleted`)
in every step before reading them, and its `objDropped`, at most 5 mm above the start, is never true of an object high
enough to be picked up. So v1 only needs to remember distances and heights from the reset.
"""

from metarl.envs.tasks.primitives import (
    GRIP,
    HAND_START,
    OBJECT,
    OBJECT_START,
    READINGS,
    REMEMBERED,
    SECOND,
    TARGET,
    TCP,
    TCP_START,
    distance,
    distance_xy,
    point,
    report,
    rounded,
)
from metarl.envs.tasks.v1_move import progress, progress_bonus, report_near
from metarl.system.jit import jit

HEIGHT, HIGH, FARTHEST = REMEMBERED, REMEMBERED + 1, REMEMBERED + 2
"""Indices in memory: the object's height at the reset, the height to lift it to, the longest path (`maxPlacingDist`)."""


@jit
def _reaching(now, near):
    """Compute the hand's distance from the object, and the term of reaching; within `near` the fingers should close.

    The closing term is max(action's last entry, 0) / 50, a float32.
    """
    reach = distance(point(now, OBJECT), point(now, TCP))
    return reach, -reach + (rounded(max(now[GRIP], 0.0) / 50.0, True) if reach < near else 0.0)


@jit
def _descending(now, height, near, radius, weight):
    """Compute the same, approaching from above.

    Args:
        height: the hand's height after the reset, to be kept outside a cylinder above the object.
        radius: radius of that cylinder, at least `near`.
        weight: weight of the deviation from that height.
    """
    tcp = point(now, TCP)
    reach, reaching = _reaching(now, near)
    xy_distance = distance_xy(point(now, OBJECT), tcp)
    return reach, reaching if xy_distance < radius else -xy_distance - weight * abs(tcp[2] - height)


@jit
def _raising(memory, z, picked, near, floor):
    """Give 100 per metre above the floor: the full lift once the object is picked up, before that its height while `near`."""
    if picked:
        return 100.0 * (memory[HIGH] - floor)
    return 100.0 * (min(memory[HIGH], z) - floor) if near and z > memory[HEIGHT] + 0.005 else 0.0


@jit
def _lifting(now, memory, reach, reaching, progress_term, floor=0.0):
    """Compute the reward; `progress_term` counts only with the object lifted and within 10 cm of the hand."""
    z, near = now[OBJECT + 2], reach < 0.1
    picked = z >= memory[HIGH] - 0.01
    return reaching + _raising(memory, z, picked, near, floor) + (progress_term if picked and near else 0.0)


@jit
def _placing(now, memory, floor=0.0):
    """Compute the usual reward, and the object's distance from the goal."""
    remaining = distance(point(now, OBJECT), point(memory, TARGET))
    reach, reaching = _descending(now, memory[TCP_START + 2], 0.05, 0.05, 2.0)
    return _lifting(now, memory, reach, reaching, progress_bonus(remaining, memory[FARTHEST]), floor), remaining


def pick_place_v1(now, memory, out):
    """`SawyerPickPlaceEnvV3`, `SawyerPickPlaceWallEnvV3` and `SawyerShelfPlaceEnvV3`."""
    reward, remaining = _placing(now, memory)
    report_near(out, reward, remaining <= 0.07, 0.0, remaining)


def pick_out_of_hole_v1(now, memory, out):
    """`SawyerPickOutOfHoleEnvV3`: heights are measured from 2 cm below the start."""
    reward, remaining = _placing(now, memory, memory[HEIGHT] - 0.02)
    report_near(out, reward, remaining <= 0.07, 0.0, remaining)


def basketball_v1(now, memory, out):
    """`SawyerBasketballEnvV3`."""
    reward, remaining = _placing(now, memory)
    report_near(out, reward, remaining <= 0.08, 0.0, remaining)


def box_close_v1(now, memory, out):
    """`SawyerBoxCloseEnvV3`."""
    reward, remaining = _placing(now, memory)
    report(out, reward, remaining < 0.08, 0.0, 0.0, 0.0, 0.0, 0.0)


def bin_picking_v1(now, memory, out):
    """`SawyerBinPickingEnvV3`: open the gripper over the bin, and in it."""
    obj, target = point(now, OBJECT), point(memory, TARGET)
    remaining = distance_xy(obj, target)
    above_bin = abs(obj[0] - target[0]) < 0.05 and abs(obj[1] - target[1]) < 0.05
    progress_term = progress_bonus(remaining, memory[FARTHEST])
    if above_bin:
        progress_term = rounded(-200.0 * now[GRIP], True) + progress_term
    if above_bin and obj[2] < memory[HEIGHT] + 0.05:
        reward = progress_term
    else:
        reach, reaching = _descending(now, memory[TCP_START + 2], 0.05, 0.06, 1.0)
        reward = _lifting(now, memory, reach, reaching, progress_term)
    report(out, reward, remaining <= 0.05, 0.0, 0.0, 0.0, 0.0, remaining)


def assembly_v1(now, memory, out):
    """`SawyerNutAssemblyEnvV3`: lift the ring, bring it over the peg, lower it; reading: the ring."""
    ring, target = point(now, READINGS), point(memory, TARGET)
    remaining, ring_height = distance_xy(ring, target), abs(ring[2] - memory[HEIGHT])
    reach, reaching = _descending(now, memory[TCP_START + 2], 0.04, 0.04, 1.0)
    placed = abs(ring[0] - target[0]) < 0.03 and abs(ring[1] - target[1]) < 0.03
    picked = placed or (ring[2] >= memory[HIGH] - 0.01 and reach < 0.03)
    reward = reaching + _raising(memory, ring[2], picked, reach < 0.04, 0.0)
    if picked:
        progress_term = progress(remaining, memory[FARTHEST])
        if placed:
            progress_term += progress(ring_height, memory[HIGH], 0.003, 0.0003, 2000.0, 2000.0)
        reward += max(progress_term, 0.0)
    report(out, reward, placed and ring_height <= 0.04, 0.0, 0.0, 0.0, 0.0, 0.0)


def disassemble_v1(now, memory, out):
    """`SawyerNutDisassembleEnvV3`; reading: the ring. Once it is next to the peg, reaching and picking count as done."""
    obj, ring, peg = point(now, OBJECT), point(now, READINGS), point(memory, OBJECT_START)
    reach, reaching = _descending(now, memory[TCP_START + 2], 0.04, 0.04, 2.0)
    picked = obj[2] >= memory[HIGH] - 0.01 and reach < 0.04
    if abs(ring[0] - peg[0]) > 0.05 or abs(ring[1] - peg[1]) > 0.05:
        reward = 100.0 * memory[HIGH]
    else:
        reward = reaching + _raising(memory, obj[2], picked, reach < 0.04, 0.0)
    if picked and reach < 0.03:
        reward += progress_bonus(distance(obj, point(memory, TARGET)), memory[FARTHEST])
    report(out, reward, obj[2] > memory[TARGET + 2], 0.0, 0.0, 0.0, 0.0, 0.0)


def hammer_v1(now, memory, out):
    """`SawyerHammerEnvV3`; readings: the hammer's head, the nail's head, the nail's depth."""
    head, nail = point(now, READINGS), point(now, READINGS + 3)
    remaining = distance(nail, head) + abs(nail[1] - memory[TARGET + 1])
    reach, reaching = _reaching(now, 0.05)
    reward = _lifting(now, memory, reach, reaching, progress_bonus(remaining, memory[FARTHEST]))
    report(out, reward, now[READINGS + 6] > 0.09, 0.0, 0.0, 0.0, 0.0, 0.0)


def peg_insert_side_v1(now, memory, out):
    """`SawyerPegInsertionSideEnvV3`; reading: the peg's head, which counts until 5 cm from the goal."""
    target = point(memory, TARGET)
    remaining, head = distance(point(now, OBJECT), target), distance(point(now, READINGS), target)
    reach, reaching = _descending(now, memory[TCP_START + 2], 0.05, 0.05, 1.0)
    reward = _lifting(now, memory, reach, reaching, progress_bonus(remaining if head <= 0.05 else head, memory[FARTHEST]))
    report_near(out, reward, remaining <= 0.07, 0.0, remaining)


def peg_unplug_side_v1(now, memory, out):
    """`SawyerPegUnplugSideEnvV3`: no height term; remembers the longest path."""
    remaining = distance_xy(point(now, OBJECT), point(memory, TARGET))
    reach, reaching = _descending(now, memory[HAND_START + 2], 0.05, 0.05, 2.0)
    reward = reaching + (progress_bonus(remaining, memory[REMEMBERED]) if reach < 0.05 else 0.0)
    report_near(out, reward, remaining <= 0.07, 0.0, remaining)


@jit
def _stick(now, memory, wide, narrow):
    """Compute the reward of both stick tasks, and the "container's" distance from the goal in x and y.

    They also remember the container's longest path. As the container's position, stock takes the observation from its seventh
    number on: the stick's height and the first two numbers of its quaternion.
    """
    container = point(now, OBJECT + 2)
    to_container, remaining = distance(point(now, OBJECT), container), distance_xy(container, point(memory, TARGET))
    progress_term = progress(to_container, memory[FARTHEST])
    if to_container < 0.05:
        progress_term += progress(remaining, memory[FARTHEST + 1], wide, narrow, 1000.0, 2000.0)
    reach, reaching = _reaching(now, 0.05)
    return _lifting(now, memory, reach, reaching, max(progress_term, 0.0)), remaining


def stick_push_v1(now, memory, out):
    """`SawyerStickPushEnvV3`; success requires a grasp, which v1 never detects."""
    reward, remaining = _stick(now, memory, 0.001, 0.0001)
    report_near(out, reward, 0.0, 0.0, remaining)


def stick_pull_v1(now, memory, out):
    """`SawyerStickPullEnvV3`; reading: the stick's end; success is as in v2."""
    reward, remaining = _stick(now, memory, 0.01, 0.001)
    handle, end = point(now, SECOND), point(now, READINGS)
    inserted = end[0] >= handle[0] and abs(end[1] - handle[1]) <= 0.04 and abs(end[2] - handle[2]) <= 0.06
    report_near(out, reward, inserted and distance(handle, point(memory, TARGET)) <= 0.12, 0.0, remaining)


RING = (("body", "RoundNut"),)
NAIL = (("geom", "HammerHead"), ("site", "nailHead"), ("joint", "NailSlideJoint"))
PICK = ("objHeight", "heightTarget", "maxPlacingDist")
STICK = ("stickHeight", "heightTarget", "maxPlaceDist")

TABLE = {
    "assembly-v3": (assembly_v1, RING, ("obj_height", "heightTarget", "maxPlacingDist")),
    "basketball-v3": (basketball_v1, (), PICK),
    "bin-picking-v3": (bin_picking_v1, (), PICK),
    "box-close-v3": (box_close_v1, (), PICK),
    "disassemble-v3": (disassemble_v1, RING, PICK),
    "hammer-v3": (hammer_v1, NAIL, ("hammerHeight", "heightTarget", "maxHammerDist")),
    "peg-insert-side-v3": (peg_insert_side_v1, (("site", "pegHead"),), PICK),
    "peg-unplug-side-v3": (peg_unplug_side_v1, (), ("maxPlacingDist",)),
    "pick-out-of-hole-v3": (pick_out_of_hole_v1, (), PICK),
    "pick-place-v3": (pick_place_v1, (), PICK),
    "pick-place-wall-v3": (pick_place_v1, (), PICK),
    "shelf-place-v3": (pick_place_v1, (), PICK),
    "stick-pull-v3": (stick_pull_v1, (("site", "stick_end"),), (*STICK, "maxPullDist")),
    "stick-push-v3": (stick_push_v1, (), (*STICK, "maxPushDist")),
}
"""For each task: formula, readings, remembered attributes."""
