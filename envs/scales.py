"""How an environment's numbers should be scaled before a network sees them."""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class InputScale:
    """A network sees (value - center) / unit.

    Attributes:
        center, unit: one entry an observed number, in the observation's units.
        reward_center, reward_unit: of the reward.
    """

    center: tuple[float, ...]
    unit: tuple[float, ...]
    reward_center: float
    reward_unit: float


def _metaworld() -> InputScale:
    # The hand moves by millimetres a step and by decimetres a task: decimetres. Objects stay in metres: blown up to
    # unit size, their position, drawn together with the goal, would let a network tell the train goals by heart.
    center, unit = np.zeros(39), np.ones(39)
    for hand in (0, 18):
        center[hand : hand + 3], unit[hand : hand + 3] = [0.0, 0.6, 0.2], 0.1
    return InputScale(tuple(center.tolist()), tuple(unit.tolist()), reward_center=5.0, reward_unit=2.5)


METAWORLD = _metaworld()
"""One fixed table for all tasks of Meta-World."""
