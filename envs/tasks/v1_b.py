"""Reward v1 of the second half of the tasks, handle-pull-side to window-open.

Minus the hand's distance from the object, and once it is there or has lifted it, `_progress` towards the goal. No state
goes from one step to the next: stock computes pickCompleted and reachCompleted anew at every step.
"""

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from metarl.envs.jit import jit
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

if TYPE_CHECKING:
    from metarl.envs.tasks import NativeTask


@jit
def _progress(to_target, start, bonus=1000.0, wide=0.01, narrow=0.001):
    """Metres gained on the distance at the start, by 1000, and a bonus near the goal."""
    square = to_target * to_target
    return 1000.0 * (start - to_target) + bonus * (np.exp(-square / wide) + np.exp(-square / narrow))


@jit
def _report(out, reward, to_target, radius):
    """Where stock returns 0 for everything else, the object always counts as near and never as grasped."""
    report(out, reward, to_target <= radius, 1.0, 0.0, 0.0, 0.0, to_target)


@jit
def _moving(to_tcp, to_target, start):
    """The reward of moving a thing without a grasp: only within 5 cm of it is the progress counted."""
    return -to_tcp + (max(_progress(to_target, start), 0.0) if to_tcp < 0.05 else 0.0)


def reach_v1(now, memory, out):
    """`SawyerReachEnvV3`; remembers the hand's distance at the start."""
    to_target = distance(point(now, TCP), point(memory, TARGET))
    reward = max(_progress(to_target, memory[REMEMBERED]), 0.0)
    report(out, reward, to_target <= 0.05, to_target, 1.0, to_target, 0.0, to_target)


def reach_wall_v1(now, memory, out):
    """`SawyerReachWallEnvV3`; remembers the hand's distance at the start."""
    to_target = distance(point(now, TCP), point(memory, TARGET))
    reward = max(_progress(to_target, memory[REMEMBERED]), 0.0)
    report(out, reward, to_target <= 0.05, 0.0, 0.0, 0.0, 0.0, to_target)


@jit
def _pushing(now, memory, out, radius):
    obj = point(now, OBJECT)
    to_target = distance_xy(obj, point(memory, TARGET))
    reward = _moving(distance(obj, point(now, TCP)), to_target, memory[REMEMBERED])
    _report(out, reward, to_target, radius)


def push_v1(now, memory, out):
    """`SawyerPushEnvV3`; remembers the object's distance at the start."""
    _pushing(now, memory, out, 0.05)


def push_wall_v1(now, memory, out):
    """`SawyerPushWallEnvV3`, `SawyerPushBackEnvV3`, `SawyerSoccerEnvV3` and the four plate-slides; remember the same."""
    _pushing(now, memory, out, 0.07)


@jit
def _sweeping(now, memory, out, fallen):
    obj = point(now, OBJECT)
    to_tcp, to_target = distance(obj, point(now, TCP)), distance_xy(obj, point(memory, TARGET))
    reward = _moving(to_tcp, to_target, memory[REMEMBERED])
    if fallen:  # stock takes the hand's distance as 0 then, but asks whether the hand is there before
        to_target = 0.0
        reward = _progress(0.0, memory[REMEMBERED]) if to_tcp < 0.05 else 0.0
    _report(out, reward, to_target, 0.05)


@jit
def _below(now, memory):
    """Whether the object is 5 cm below its start."""
    return now[OBJECT + 2] < memory[OBJECT_START + 2] - 0.05


def sweep_v1(now, memory, out):
    """`SawyerSweepEnvV3`; remembers the object's distance at the start; below the table it is at the goal."""
    _sweeping(now, memory, out, _below(now, memory))


def sweep_into_v1(now, memory, out):
    """`SawyerSweepIntoGoalEnvV3`; remembers the same; below the table, but not beyond it, it is at the goal."""
    _sweeping(now, memory, out, _below(now, memory) and 0.4 < now[OBJECT + 1] < 1.0)


@jit
def _handle(now, memory, out, radius):
    obj = point(now, OBJECT)
    to_target = abs(obj[2] - memory[TARGET + 2])
    reward = _moving(distance(obj, point(now, READINGS)), to_target, memory[REMEMBERED])
    _report(out, reward, to_target, radius)


def handle_pull_v1(now, memory, out):
    """`SawyerHandlePullEnvV3`; reading: the left finger, which stands for the hand; remembers the way up."""
    _handle(now, memory, out, 0.05)


def handle_pull_side_v1(now, memory, out):
    """`SawyerHandlePullSideEnvV3`; as handle-pull."""
    _handle(now, memory, out, 0.08)


def lever_pull_v1(now, memory, out):
    """`SawyerLeverPullEnvV3`; remembers the longest way; stock takes the distance for the angle that decides success."""
    obj = point(now, OBJECT)
    to_target = distance(obj, point(memory, TARGET))
    reward = _moving(distance(obj, point(now, TCP)), to_target, memory[REMEMBERED])
    report(out, reward, to_target <= np.pi / 24.0, 1.0, 0.0, 0.0, 0.0, 0.0)


def window_v1(now, memory, out):
    """`SawyerWindowOpenEnvV3` and `SawyerWindowCloseEnvV3`; remember the longest way; progress may be negative."""
    obj = point(now, OBJECT)
    to_tcp, to_target = distance(obj, point(now, TCP)), abs(obj[0] - memory[TARGET])
    reward = -to_tcp + (_progress(to_target, memory[REMEMBERED]) if to_tcp < 0.05 else 0.0)
    report(out, reward, to_target <= 0.05, 1.0, 1.0, 0.0, 0.0, to_target)


@jit
def _closing(now, to_tcp):
    """Up to 0.02 for closing the gripper within 5 cm of the object: the action, a float32, by 50."""
    return rounded(max(now[GRIP], 0.0) / 50.0, True) if to_tcp < 0.05 else 0.0


@jit
def _approaching(now, obj, to_tcp, start_height, weight):
    """Farther than 5 cm aside the hand should stay at the height of its start."""
    tcp = point(now, TCP)
    aside = distance_xy(obj, tcp)
    reward = -to_tcp if aside < 0.05 else -aside - weight * abs(tcp[2] - start_height)
    return reward + _closing(now, to_tcp)


@jit
def _lifting(memory, height, to_tcp):
    """The height that counts, in metres, and whether the object counts as picked.

    It remembers the object's height at the start and the height to lift it to. Stock's objDropped, at most 5 mm above
    the start, is never true of what is picked.
    """
    start, goal = memory[REMEMBERED], memory[REMEMBERED + 1]
    if height >= goal - 0.01:
        return goal, True
    return (min(goal, height) if to_tcp < 0.1 and height > start + 0.005 else 0.0), False


def pick_place_v1(now, memory, out):
    """`SawyerPickPlaceEnvV3`, `SawyerPickPlaceWallEnvV3`, `SawyerShelfPlaceEnvV3`.

    They remember the object's height, the height to lift it to, and the longest way.
    """
    obj = point(now, OBJECT)
    to_tcp, to_target = distance(obj, point(now, TCP)), distance(obj, point(memory, TARGET))
    height, picked = _lifting(memory, obj[2], to_tcp)
    reward = _approaching(now, obj, to_tcp, memory[TCP_START + 2], 2.0) + 100.0 * height
    if picked and to_tcp < 0.1:
        reward += max(_progress(to_target, memory[REMEMBERED + 2]), 0.0)
    _report(out, reward, to_target, 0.07)


def pick_out_of_hole_v1(now, memory, out):
    """`SawyerPickOutOfHoleEnvV3`; remembers the same; heights count from 2 cm below the start."""
    obj = point(now, OBJECT)
    to_tcp, to_target = distance(obj, point(now, TCP)), distance(obj, point(memory, TARGET))
    height, picked = _lifting(memory, obj[2], to_tcp)
    reward = _approaching(now, obj, to_tcp, memory[TCP_START + 2], 2.0)
    if height > 0.0:
        reward += 100.0 * (height - memory[REMEMBERED] + 0.02)
    if picked and to_tcp < 0.1:
        reward += max(_progress(to_target, memory[REMEMBERED + 2]), 0.0)
    _report(out, reward, to_target, 0.07)


def peg_insert_side_v1(now, memory, out):
    """`SawyerPegInsertionSideEnvV3`; reading: the peg's head, which counts until 5 cm from the goal; remembers the same."""
    obj, target = point(now, OBJECT), point(memory, TARGET)
    to_tcp, to_target, head = distance(obj, point(now, TCP)), distance(obj, target), distance(point(now, READINGS), target)
    height, picked = _lifting(memory, obj[2], to_tcp)
    reward = _approaching(now, obj, to_tcp, memory[TCP_START + 2], 1.0) + 100.0 * height
    if picked and to_tcp < 0.1:
        reward += max(_progress(to_target if head <= 0.05 else head, memory[REMEMBERED + 2]), 0.0)
    _report(out, reward, to_target, 0.07)


def peg_unplug_side_v1(now, memory, out):
    """`SawyerPegUnplugSideEnvV3`; remembers the longest way."""
    obj = point(now, OBJECT)
    to_tcp, to_target = distance(obj, point(now, TCP)), distance_xy(obj, point(memory, TARGET))
    reward = _approaching(now, obj, to_tcp, memory[HAND_START + 2], 2.0)
    if to_tcp < 0.05:
        reward += max(_progress(to_target, memory[REMEMBERED]), 0.0)
    _report(out, reward, to_target, 0.07)


@jit
def _stick(now, memory, wide, narrow):
    """Both sticks: the reward, and the "container's" distance from the goal in x and y.

    They remember the stick's height, the height to lift it to, and the longest ways of the stick and of the container.
    Stock takes for the container what the observation shows from its seventh number on: the stick's height and the first
    two numbers of its quaternion.
    """
    stick, container = point(now, OBJECT), point(now, OBJECT + 2)
    to_tcp, to_container = distance(stick, point(now, TCP)), distance(stick, container)
    to_target = distance_xy(container, point(memory, TARGET))
    height, picked = _lifting(memory, stick[2], to_tcp)
    reward = -to_tcp + _closing(now, to_tcp) + 100.0 * height
    if picked and to_tcp < 0.1:
        progress = _progress(to_container, memory[REMEMBERED + 2])
        if to_container < 0.05:
            progress += _progress(to_target, memory[REMEMBERED + 3], 2000.0, wide, narrow)
        reward += max(progress, 0.0)
    return reward, to_target


def stick_push_v1(now, memory, out):
    """`SawyerStickPushEnvV3`; success asks for a grasp, which v1 never sees."""
    reward, to_target = _stick(now, memory, 0.001, 0.0001)
    report(out, reward, 0.0, 1.0, 0.0, 0.0, 0.0, to_target)


def stick_pull_v1(now, memory, out):
    """`SawyerStickPullEnvV3`; reading: the stick's end; success is v2's."""
    reward, to_target = _stick(now, memory, 0.01, 0.001)
    handle, end = point(now, SECOND), point(now, READINGS)
    inserted = end[0] >= handle[0] and abs(end[1] - handle[1]) <= 0.04 and abs(end[2] - handle[2]) <= 0.06
    success = inserted and distance(handle, point(memory, TARGET)) <= 0.12
    report(out, reward, success, 1.0, 0.0, 0.0, 0.0, to_target)


def table(native: "dict[str, NativeTask]") -> "dict[str, NativeTask]":
    """Entries of v1 beside those of v2: the same objects, another formula. No success of v1 asks what the pads touch."""
    finger, head, end = (("site", "leftEndEffector"),), (("site", "pegHead"),), (("site", "stick_end"),)
    reach, push, slide, pull = ("maxReachDist",), ("maxPushDist",), ("maxDist",), ("maxPullDist",)
    pick, stick = ("objHeight", "heightTarget", "maxPlacingDist"), ("stickHeight", "heightTarget", "maxPlaceDist")
    entries = {
        "handle-pull-side-v3": (handle_pull_side_v1, finger, slide),
        "handle-pull-v3": (handle_pull_v1, finger, slide),
        "lever-pull-v3": (lever_pull_v1, (), pull),
        "peg-insert-side-v3": (peg_insert_side_v1, head, pick),
        "peg-unplug-side-v3": (peg_unplug_side_v1, (), ("maxPlacingDist",)),
        "pick-out-of-hole-v3": (pick_out_of_hole_v1, (), pick),
        "pick-place-v3": (pick_place_v1, (), pick),
        "pick-place-wall-v3": (pick_place_v1, (), pick),
        "plate-slide-back-side-v3": (push_wall_v1, (), slide),
        "plate-slide-back-v3": (push_wall_v1, (), slide),
        "plate-slide-side-v3": (push_wall_v1, (), slide),
        "plate-slide-v3": (push_wall_v1, (), slide),
        "push-back-v3": (push_wall_v1, (), push),
        "push-v3": (push_v1, (), push),
        "push-wall-v3": (push_wall_v1, (), push),
        "reach-v3": (reach_v1, (), reach),
        "reach-wall-v3": (reach_wall_v1, (), reach),
        "shelf-place-v3": (pick_place_v1, (), pick),
        "soccer-v3": (push_wall_v1, (), push),
        "stick-pull-v3": (stick_pull_v1, end, (*stick, *pull)),
        "stick-push-v3": (stick_push_v1, (), (*stick, *push)),
        "sweep-into-v3": (sweep_into_v1, (), push),
        "sweep-v3": (sweep_v1, (), push),
        "window-close-v3": (window_v1, (), pull),
        "window-open-v3": (window_v1, (), pull),
    }
    return {
        name: replace(native[name], formula=formula, readings=readings, remembers=remembers, touched="", touch_decides=False)
        for name, (formula, readings, remembers) in entries.items()
    }
