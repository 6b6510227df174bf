"""Create random generators, each determined by the run's seed, a purpose, an iteration and an environment."""

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch

TASKS, RESETS, ACTIONS, SHUFFLE, WEIGHTS, EVALUATION = range(6)
"""Purposes of random streams."""


def generator(seed: int, stream: int, *where: int) -> np.random.Generator:
    """Return the generator of (seed, stream, iteration, environment); it is independent of all other generators."""
    return np.random.default_rng(np.random.SeedSequence((seed, stream, *where)))


@contextmanager
def initial_weights(seed: int) -> Iterator[None]:
    """Within it torch draws initial weights, determined by the run's seed; torch's own generator stays as it was."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(int(generator(seed, WEIGHTS).integers(2**31)))
        yield
