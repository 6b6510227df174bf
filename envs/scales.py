"""What Meta-World's observed numbers are: their bounds, and how they should be scaled before a network sees them."""

from collections.abc import Iterable

import gymnasium
import numpy as np

from metarl.nn.input_scaling import InputScale

HAND_LOW, HAND_HIGH = np.array([-0.525, 0.348, -0.0525]), np.array([0.525, 1.025, 0.7])
"""The hand's bounds in Meta-World's observation space (`SawyerXYZEnv._HAND_SPACE`), metres."""
GOAL_LOW, GOAL_HIGH = np.array([-0.5, 0.4, -0.15]), np.array([0.51, 1.0, 0.5])
"""Bounds of all tasks' goals together, metres."""


def observation_space(goal_visible: bool) -> gymnasium.spaces.Box:
    """Meta-World's observations: hand, gripper, objects; the same one step earlier; the goal, or zeros; 39 numbers."""
    low = np.concatenate([HAND_LOW, [-1.0], np.full(14, -np.inf)])
    high = np.concatenate([HAND_HIGH, [1.0], np.full(14, np.inf)])
    goal_low, goal_high = (GOAL_LOW, GOAL_HIGH) if goal_visible else (np.zeros(3), np.zeros(3))
    return gymnasium.spaces.Box(np.concatenate([low, low, goal_low]), np.concatenate([high, high, goal_high]), dtype=np.float64)


DECOYS = frozenset({"reach-v3", "reach-wall-v3"})
"""Tasks whose object has no part in them."""


def metaworld_scale(names: Iterable[str], goal_visible: bool = False, task_ids: int = 0) -> InputScale:
    """A fixed table for Meta-World's tasks of these names; of `task_ids` observed numbers of a one-hot nothing is scaled."""
    # The hand and what it handles move by millimetres a step and by decimetres a task: decimetres. A decoy stays in
    # metres: blown up to unit size, its position, drawn together with the goal, would let a network tell the train goals
    # by heart. The second object stays in metres too: most tasks have none, and show zeros.
    center, unit = np.zeros(39 + task_ids), np.ones(39 + task_ids)
    for hand in (0, 18, 36) if goal_visible else (0, 18):
        center[hand : hand + 3], unit[hand : hand + 3] = [0.0, 0.6, 0.2], 0.1
    for thing in () if DECOYS.issuperset(names) else (4, 22):
        center[thing : thing + 3], unit[thing : thing + 3] = [0.0, 0.7, 0.02], 0.1
    return InputScale(tuple(center.tolist()), tuple(unit.tolist()), reward_center=5.0, reward_unit=2.5)
