"""Reward v1 of tasks without lifting: reach, press, push, pull, turn, slide.

The reward is minus the distance from hand to object in metres, plus thousands for bringing the object closer to its goal,
counted only with the hand next to it. Stock recomputes its flag `reachCompleted` in every step before reading it, so v1
only needs to remember distances from the reset.
"""

import numpy as np

from metarl.envs.tasks.primitives import (
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
)
from metarl.system.jit import jit

X, Y, Z = 0, 1, 2


@jit
def progress(remaining, start, wide=0.01, narrow=0.001, scale=1000.0, bonus=1000.0):
    """Reward reducing a distance from `start` to `remaining`: the difference, and two bell curves around 0."""
    square = remaining * remaining
    return scale * (start - remaining) + bonus * (np.exp(-square / wide) + np.exp(-square / narrow))


@jit
def progress_bonus(remaining, start):
    """The usual progress term, at least 0."""
    return max(progress(remaining, start), 0.0)


@jit
def report_near(out, reward, success, grasp_success, to_target):
    """Report as most tasks do: a hand distance of 0, hence near the object, and terms of 0."""
    report(out, reward, success, 1.0, grasp_success, 0.0, 0.0, to_target)


@jit
def _reach_reward(now, hand, progress_term):
    """Compute the reward; `progress_term` counts only with the hand within 5 cm of the object."""
    reach = distance(point(now, OBJECT), hand)
    return -reach + (progress_term if reach < 0.05 else 0.0)


@jit
def _report_progress(now, out, hand, remaining, progress_term, radius, grasp_success):
    """Report; success means that the object's distance from the goal, `remaining`, is at most `radius`."""
    report_near(out, _reach_reward(now, hand, progress_term), remaining <= radius, grasp_success, remaining)


@jit
def _report_from_start(now, memory, out, hand, remaining, radius, grasp_success):
    """The same for a task that remembers its initial distance from the goal."""
    _report_progress(now, out, hand, remaining, progress_bonus(remaining, memory[REMEMBERED]), radius, grasp_success)


@jit
def _axis_distance(now, memory, axis):
    """Distance to the goal along one axis."""
    return abs(now[OBJECT + axis] - memory[TARGET + axis])


@jit
def _xy_distance(now, memory):
    """Distance to the goal in the xy plane."""
    return distance_xy(point(now, OBJECT), point(memory, TARGET))


@jit
def _goal_distance(now, memory):
    """Distance to the goal."""
    return distance(point(now, OBJECT), point(memory, TARGET))


def reach_v1(now, memory, out):
    """`SawyerReachEnvV3`; remembers the hand's distance at the reset."""
    remaining = distance(point(now, TCP), point(memory, TARGET))
    report(out, progress_bonus(remaining, memory[REMEMBERED]), remaining <= 0.05, remaining, 1.0, remaining, 0.0, remaining)


def reach_wall_v1(now, memory, out):
    """`SawyerReachWallEnvV3`; remembers the hand's distance at the reset."""
    remaining = distance(point(now, TCP), point(memory, TARGET))
    report(out, progress_bonus(remaining, memory[REMEMBERED]), remaining <= 0.05, 0.0, 0.0, 0.0, 0.0, remaining)


def hand_insert_v1(now, memory, out):
    """`SawyerHandInsertEnvV3`: only the hand moves to the goal; "success" depends on the object's start and never changes."""
    tcp, target = point(now, TCP), point(memory, TARGET)
    reach = distance_xy(tcp, target)
    reward = -reach + (progress_bonus(abs(tcp[2] - target[2]), memory[REMEMBERED]) if reach < 0.05 else 0.0)
    to_target = distance(point(memory, OBJECT_START), target)
    report_near(out, reward, to_target <= 0.05, 0.0, to_target)


def button_press_v1(now, memory, out):
    """`SawyerButtonPressEnvV3` and `SawyerCoffeeButtonEnvV3`; reading: the left finger."""
    _report_from_start(now, memory, out, point(now, READINGS), _axis_distance(now, memory, Y), 0.02, 0.0)


def button_press_wall_v1(now, memory, out):
    """`SawyerButtonPressWallEnvV3`; reading: the left finger. Stock's `maxDist` is along z, but pressing is along y."""
    _report_from_start(now, memory, out, point(now, READINGS), _axis_distance(now, memory, Y), 0.03, 0.0)


def button_press_topdown_v1(now, memory, out):
    """`SawyerButtonPressTopdownEnvV3` and `SawyerButtonPressTopdownWallEnvV3`."""
    _report_from_start(now, memory, out, point(now, TCP), _axis_distance(now, memory, Z), 0.024, 0.0)


def handle_press_v1(now, memory, out):
    """`SawyerHandlePressEnvV3` and `SawyerHandlePressSideEnvV3`; reading: the left finger."""
    _report_from_start(now, memory, out, point(now, READINGS), _axis_distance(now, memory, Z), 0.02, 1.0)


def handle_pull_v1(now, memory, out):
    """`SawyerHandlePullEnvV3`; reading: the left finger."""
    _report_from_start(now, memory, out, point(now, READINGS), _axis_distance(now, memory, Z), 0.05, 0.0)


def handle_pull_side_v1(now, memory, out):
    """`SawyerHandlePullSideEnvV3`; reading: the left finger."""
    _report_from_start(now, memory, out, point(now, READINGS), _axis_distance(now, memory, Z), 0.08, 0.0)


def drawer_close_v1(now, memory, out):
    """`SawyerDrawerCloseEnvV3`."""
    remaining = _axis_distance(now, memory, Y)
    _report_progress(now, out, point(now, TCP), remaining, progress_bonus(remaining, 0.15), 0.05 + 0.015, 1.0)


def drawer_open_v1(now, memory, out):
    """`SawyerDrawerOpenEnvV3`."""
    remaining = _axis_distance(now, memory, Y)
    _report_progress(now, out, point(now, TCP), remaining, progress_bonus(remaining, 0.2), 0.03, 0.0)


def window_v1(now, memory, out):
    """`SawyerWindowOpenEnvV3` and `SawyerWindowCloseEnvV3`: the progress term may be negative."""
    remaining = _axis_distance(now, memory, X)
    _report_progress(now, out, point(now, TCP), remaining, progress(remaining, memory[REMEMBERED]), 0.05, 1.0)


def dial_turn_v1(now, memory, out):
    """`SawyerDialTurnEnvV3`: narrower bell curves."""
    remaining = _axis_distance(now, memory, Y)
    _report_progress(
        now, out, point(now, TCP), remaining, max(progress(remaining, memory[REMEMBERED], 0.001, 0.0001), 0.0), 0.07, 1.0
    )


def faucet_v1(now, memory, out):
    """`SawyerFaucetOpenEnvV3` and `SawyerFaucetCloseEnvV3`."""
    _report_from_start(now, memory, out, point(now, TCP), _goal_distance(now, memory), 0.07, 1.0)


def door_lock_v1(now, memory, out):
    """`SawyerDoorLockEnvV3` and `SawyerDoorUnlockEnvV3`."""
    _report_from_start(now, memory, out, point(now, TCP), _goal_distance(now, memory), 0.02, 0.0)


def door_close_v1(now, memory, out):
    """`SawyerDoorCloseEnvV3`."""
    remaining = _xy_distance(now, memory)
    reward = _reach_reward(now, point(now, TCP), progress_bonus(remaining, memory[REMEMBERED]))
    report(out, reward, remaining <= 0.08, 0.0, 1.0, 1.0, 0.0, remaining)


def door_open_v1(now, memory, out):
    """`SawyerDoorEnvV3`: success depends on x only."""
    reward = _reach_reward(now, point(now, TCP), progress_bonus(_xy_distance(now, memory), memory[REMEMBERED]))
    report(out, reward, _axis_distance(now, memory, X) <= 0.08, 0.0, 0.0, 0.0, 0.0, 0.0)


def lever_pull_v1(now, memory, out):
    """`SawyerLeverPullEnvV3`: stock uses the distance as the angle that decides success."""
    remaining = _goal_distance(now, memory)
    reward = _reach_reward(now, point(now, TCP), progress_bonus(remaining, memory[REMEMBERED]))
    report(out, reward, remaining <= np.pi / 24.0, 1.0, 0.0, 0.0, 0.0, 0.0)


def push_v1(now, memory, out):
    """`SawyerPushEnvV3`."""
    _report_from_start(now, memory, out, point(now, TCP), _xy_distance(now, memory), 0.05, 0.0)


def push_wall_v1(now, memory, out):
    """`SawyerPushWallEnvV3`, `SawyerPushBackEnvV3`, `SawyerSoccerEnvV3` and the four plate-slides."""
    _report_from_start(now, memory, out, point(now, TCP), _xy_distance(now, memory), 0.07, 0.0)


def coffee_push_v1(now, memory, out):
    """`SawyerCoffeePushEnvV3`."""
    reward = _reach_reward(now, point(now, TCP), progress_bonus(_xy_distance(now, memory), memory[REMEMBERED]))
    to_target = _goal_distance(now, memory)
    report_near(out, reward, to_target <= 0.07, 0.0, to_target)


def coffee_pull_v1(now, memory, out):
    """`SawyerCoffeePullEnvV3`.

    Stock uses the length of (object's x, y, hand's initial z) as the reach distance, which is never within its 5 cm.
    """
    obj = point(now, OBJECT)
    reward = -distance((obj[0], obj[1], memory[TCP_START + 2]), (0.0, 0.0, 0.0))
    if distance(obj, point(now, TCP)) < 0.05:
        reward += progress_bonus(_xy_distance(now, memory), memory[REMEMBERED])
    to_target = _goal_distance(now, memory)
    report_near(out, reward, to_target <= 0.07, 0.0, to_target)


@jit
def _sweeping(now, memory, out, fallen):
    """Treat a fallen object as at the goal, with the hand at it; but stock tests the hand's distance before that."""
    reach = distance(point(now, OBJECT), point(now, TCP))
    remaining = 0.0 if fallen else _xy_distance(now, memory)
    reward = (0.0 if fallen else -reach) + (progress_bonus(remaining, memory[REMEMBERED]) if reach < 0.05 else 0.0)
    report_near(out, reward, remaining <= 0.05, 0.0, remaining)


@jit
def _has_fallen(now, memory):
    """Whether the object is 5 cm below its start."""
    return now[OBJECT + 2] < memory[OBJECT_START + 2] - 0.05


def sweep_v1(now, memory, out):
    """`SawyerSweepEnvV3`: fallen means below the table."""
    _sweeping(now, memory, out, _has_fallen(now, memory))


def sweep_into_v1(now, memory, out):
    """`SawyerSweepIntoGoalEnvV3`: fallen means below the table, but not beyond it."""
    _sweeping(now, memory, out, _has_fallen(now, memory) and 0.4 < now[OBJECT + 1] < 1.0)


FINGER = (("site", "leftEndEffector"),)
"""Reading used as the hand's position if stock measures from the left finger."""
REACH, PRESS, PUSH, PULL = ("maxReachDist",), ("maxDist",), ("maxPushDist",), ("maxPullDist",)

TABLE = {
    "button-press-topdown-v3": (button_press_topdown_v1, (), PRESS),
    "button-press-topdown-wall-v3": (button_press_topdown_v1, (), PRESS),
    "button-press-v3": (button_press_v1, FINGER, PRESS),
    "button-press-wall-v3": (button_press_wall_v1, FINGER, PRESS),
    "coffee-button-v3": (button_press_v1, FINGER, PRESS),
    "coffee-pull-v3": (coffee_pull_v1, (), PULL),
    "coffee-push-v3": (coffee_push_v1, (), PUSH),
    "dial-turn-v3": (dial_turn_v1, (), PULL),
    "door-close-v3": (door_close_v1, (), PULL),
    "door-lock-v3": (door_lock_v1, (), PULL),
    "door-open-v3": (door_open_v1, (), PULL),
    "door-unlock-v3": (door_lock_v1, (), PULL),
    "drawer-close-v3": (drawer_close_v1, (), ()),
    "drawer-open-v3": (drawer_open_v1, (), ()),
    "faucet-close-v3": (faucet_v1, (), PULL),
    "faucet-open-v3": (faucet_v1, (), PULL),
    "hand-insert-v3": (hand_insert_v1, (), REACH),
    "handle-press-side-v3": (handle_press_v1, FINGER, PRESS),
    "handle-press-v3": (handle_press_v1, FINGER, PRESS),
    "handle-pull-side-v3": (handle_pull_side_v1, FINGER, PRESS),
    "handle-pull-v3": (handle_pull_v1, FINGER, PRESS),
    "lever-pull-v3": (lever_pull_v1, (), PULL),
    "plate-slide-back-side-v3": (push_wall_v1, (), PRESS),
    "plate-slide-back-v3": (push_wall_v1, (), PRESS),
    "plate-slide-side-v3": (push_wall_v1, (), PRESS),
    "plate-slide-v3": (push_wall_v1, (), PRESS),
    "push-back-v3": (push_wall_v1, (), PUSH),
    "push-v3": (push_v1, (), PUSH),
    "push-wall-v3": (push_wall_v1, (), PUSH),
    "reach-v3": (reach_v1, (), REACH),
    "reach-wall-v3": (reach_wall_v1, (), REACH),
    "soccer-v3": (push_wall_v1, (), PUSH),
    "sweep-into-v3": (sweep_into_v1, (), PUSH),
    "sweep-v3": (sweep_v1, (), PUSH),
    "window-close-v3": (window_v1, (), PULL),
    "window-open-v3": (window_v1, (), PULL),
}
"""For each task: formula, readings, remembered attributes (the initial distance from the goal, or the longest path)."""
