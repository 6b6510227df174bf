"""Bounds of Meta-World's observations, and constants that scale them for networks."""

from collections.abc import Iterable
from typing import TYPE_CHECKING

import gymnasium
import numpy as np

if TYPE_CHECKING:
    from metarl.nn.input_scaling import InputScale

HAND_LOW, HAND_HIGH = np.array([-0.525, 0.348, -0.0525]), np.array([0.525, 1.025, 0.7])
"""The hand's bounds in Meta-World's observation space (`SawyerXYZEnv._HAND_SPACE`), metres."""
GOAL_LOW, GOAL_HIGH = np.array([-0.5, 0.4, -0.15]), np.array([0.51, 1.0, 0.5])
"""Joint bounds of the goals of all tasks, metres."""


def observation_space(goal_visible: bool) -> gymnasium.spaces.Box:
    """Return the space of Meta-World's observations: hand, gripper, objects; the same one step earlier; goal or zeros; 39."""
    low = np.concatenate([HAND_LOW, [-1.0], np.full(14, -np.inf)])
    high = np.concatenate([HAND_HIGH, [1.0], np.full(14, np.inf)])
    goal_low, goal_high = (GOAL_LOW, GOAL_HIGH) if goal_visible else (np.zeros(3), np.zeros(3))
    return gymnasium.spaces.Box(np.concatenate([low, low, goal_low]), np.concatenate([high, high, goal_high]), dtype=np.float64)


DECOYS = frozenset({"reach-v3", "reach-wall-v3"})
"""Tasks that ignore their object."""


def metaworld_scale(names: Iterable[str], goal_visible: bool = False, task_ids: int = 0) -> "InputScale":
    """Return fixed constants for Meta-World tasks of these names; `task_ids` one-hot entries stay unscaled."""
    from metarl.nn.input_scaling import InputScale  # environments do not need torch, which takes a second to import

    # Hand and handled object move millimetres per step and decimetres per task, so their unit is decimetres. A decoy stays in
    # metres: scaled to unit size, its position, which is drawn together with the goal, would let a network memorise the
    # train goals. The second object stays in metres too: most tasks have none and show zeros.
    center, unit = np.zeros(39 + task_ids), np.ones(39 + task_ids)
    for hand in (0, 18, 36) if goal_visible else (0, 18):
        center[hand : hand + 3], unit[hand : hand + 3] = [0.0, 0.6, 0.2], 0.1
    for obj in () if DECOYS.issuperset(names) else (4, 22):
        center[obj : obj + 3], unit[obj : obj + 3] = [0.0, 0.7, 0.02], 0.1
    return InputScale(tuple(center.tolist()), tuple(unit.tolist()), reward_center=5.0, reward_unit=2.5)
