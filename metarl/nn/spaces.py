"""The spaces that agents play: how many numbers an observation and an action are, and between which bounds."""

from typing import Any

import gymnasium
import numpy as np

from metarl.errors import UserError


def action_size(space: gymnasium.Space[Any]) -> int:
    """Entries of an action as a network sees it: a Box's own, or one a choice.

    Raises:
        UserError: the space is neither a flat Box nor Discrete.
    """
    if isinstance(space, gymnasium.spaces.Discrete):
        return int(space.n)
    if isinstance(space, gymnasium.spaces.Box) and len(space.shape) == 1:
        return space.shape[0]
    raise UserError(f"actions must be a Box of one dimension or Discrete, not {space}")


def box_bounds(space: gymnasium.spaces.Box) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Low, high and their distance in float32, infinite where there are none that it holds."""
    with np.errstate(over="ignore"):
        low, high = space.low.astype(np.float32), space.high.astype(np.float32)
        return low, high, high - low


def observation_size(space: gymnasium.Space[Any]) -> int:
    """Entries of an observation.

    Raises:
        UserError: the space is not a flat Box.
    """
    if isinstance(space, gymnasium.spaces.Box) and len(space.shape) == 1:
        return space.shape[0]
    raise UserError(f"observations must be a Box of one dimension, not {space}")
