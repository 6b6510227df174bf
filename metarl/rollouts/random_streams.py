"""Create random generators, each determined by the run's seed, a purpose, an iteration and a slot."""

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    pass


TASKS, RESETS, ACTIONS, SHUFFLE, WEIGHTS, EVALUATION = range(6)
"""Purposes of random streams."""


def generator(seed: int, stream: int, *where: int) -> np.random.Generator:
    """Return the generator of (seed, stream, iteration, slot); it is independent of all other generators."""
    return np.random.default_rng(np.random.SeedSequence((seed, stream, *where)))
