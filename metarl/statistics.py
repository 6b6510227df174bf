"""Intervals over goals: how far a mean over the goals at hand may be from the mean over all goals."""

from typing import NamedTuple

import numpy as np
from scipy import stats

CONFIDENCE = 0.95


class Interval(NamedTuple):
    """A mean with its 95 % interval."""

    mean: float
    low: float
    high: float


def proportion(values: np.ndarray) -> Interval:
    """Mean of success rates in [0, 1], one a goal, with Wilson's interval (Wilson 1927), goals being the sample.

    A goal's rate over several trials varies no more than one trial's outcome, so the interval is never too short, and
    unlike a bootstrap's it does not vanish where every goal succeeds.
    """
    n, p = len(values), float(np.mean(values))
    z = float(stats.norm.ppf(0.5 + CONFIDENCE / 2))
    # (p + z^2 / 2n +- z sqrt(p (1 - p) / n + z^2 / 4n^2)) / (1 + z^2 / n)
    center = (p + z * z / (2 * n)) / (1 + z * z / n)
    half = z * np.sqrt(p * (1 - p) / n + z * z / (4 * n * n)) / (1 + z * z / n)
    return Interval(p, float(max(0.0, center - half)), float(min(1.0, center + half)))


def mean(values: np.ndarray) -> Interval:
    """Mean of any figures, one a goal, with Student's interval; infinite for a single goal."""
    n, m = len(values), float(np.mean(values))
    if n < 2:
        return Interval(m, -np.inf, np.inf)
    half = float(stats.t.ppf(0.5 + CONFIDENCE / 2, n - 1) * np.std(values, ddof=1) / np.sqrt(n))
    return Interval(m, m - half, m + half)
