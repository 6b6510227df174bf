"""Check the observation and action spaces that policies support, and return their sizes and bounds."""

from typing import Any

import gymnasium
import numpy as np

from metarl.errors import UserError


def action_size(space: gymnasium.Space[Any]) -> int:
    """Return the entries of an action as a network sees it: the entries of a Box, or one per choice of Discrete.

    Raises:
        UserError: the space is neither a flat Box nor Discrete.
    """
    if isinstance(space, gymnasium.spaces.Discrete):
        return int(space.n)
    if isinstance(space, gymnasium.spaces.Box) and len(space.shape) == 1:
        return space.shape[0]
    raise UserError(f"actions must be a Box of one dimension or Discrete, not {space}")


def box_bounds(space: gymnasium.spaces.Box) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return low, high and their difference in float32, infinite where float32 cannot represent them."""
    with np.errstate(over="ignore"):
        low, high = space.low.astype(np.float32), space.high.astype(np.float32)
        return low, high, high - low


def observation_size(space: gymnasium.Space[Any]) -> int:
    """Return the number of entries of an observation.

    Raises:
        UserError: the space is not a flat Box.
    """
    if isinstance(space, gymnasium.spaces.Box) and len(space.shape) == 1:
        return space.shape[0]
    raise UserError(f"observations must be a Box of one dimension, not {space}")
