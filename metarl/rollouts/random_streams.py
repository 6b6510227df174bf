"""Streams of random numbers, each a function of a seed, a purpose, an iteration and an environment."""

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    pass


TASKS, RESETS, ACTIONS, SHUFFLE, WEIGHTS, EVALUATION = range(6)
"""Streams of random numbers."""


def generator(seed: int, stream: int, *where: int) -> np.random.Generator:
    """The stream (seed, stream, iteration, slot): independent of everything drawn elsewhere."""
    return np.random.default_rng(np.random.SeedSequence((seed, stream, *where)))
