"""Intervals over goals: how far a mean over the goals at hand may be from the mean over all goals of these tasks.

Everywhere: a value a goal (the mean over its trials, which are no sample of their own); tasks are fixed and weigh the
same, and goals are a sample within their task. With m_h and s_h^2 the mean and variance of task h's n_h goals,

    mean = sum_h m_h / H        its variance V = sum_h V_h,    V_h = s_h^2 / n_h / H^2

Where a task has a single goal, nothing is known about its goals' variance: then the tasks' means are taken as the sample,
which is never too short. For success, V must not vanish because all goals happen to agree. So before V is estimated, the
sample gets one more goal at each end of the range, shared out over the tasks (Agresti and Coull 1998 for a proportion,
Bonett and Price 2012 for paired differences). `scripts/coverage` checks by simulation how often the intervals hold the
truth.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy import optimize, special

CONFIDENCE = 0.95
_TAIL = (1 - CONFIDENCE) / 2


class Interval(NamedTuple):
    """A mean with its 95 % interval; the ends are None where they cannot be known."""

    mean: float
    low: float | None
    high: float | None

    @property
    def sign(self) -> int | None:
        """1 or -1 where the whole interval lies above or below 0, 0 where it does not, None without ends."""
        if self.low is None or self.high is None:
            return None
        return int(self.low > 0) - int(self.high < 0)

    def text(self, form: str) -> str:
        """As "0.42 [0.29, 0.56]"; without ends "0.42 [–]"."""
        if self.low is None or self.high is None:
            return f"{self.mean:{form}} [–]"
        return f"{self.mean:{form}} [{self.low:{form}}, {self.high:{form}}]"


def proportion(values: np.ndarray, tasks: Sequence[str] | None = None) -> Interval:
    """Mean of success rates in [0, 1] with a mid-P interval (Berry and Armitage 1995) of the effective number of goals.

    That number is how many goals with one trial each would leave the same variance: n for n goals of one task that each
    succeed or fail, more where several trials or the division into tasks make the mean more certain. The mid-P interval
    is the exact (Clopper-Pearson) one with the observed outcome counted half. Wilson's dips to 84 % coverage near 0 and 1.

    Args:
        values: (goals,), a rate each.
        tasks: the name of each goal's task; None: all are of one task.
    """
    samples = _samples(values, tasks)
    p = float(np.mean([np.mean(x) for x in samples]))
    m, variance = _with_both_ends(samples, 0.0, 1.0)
    # an unbiased V of n + 2 goals that succeed or fail is m (1 - m) / (n + 1)
    n = m * (1 - m) / variance - 1
    return Interval(p, _mid_p(p * n, n), 1 - _mid_p((1 - p) * n, n))


def difference(values: np.ndarray, tasks: Sequence[str] | None = None) -> Interval:
    """Mean of paired differences of success rates, in [-1, 1], with Bonett and Price's adjusted Wald interval (2012).

    Args:
        values: (goals,), one rate minus another on the same goal.
        tasks: the name of each goal's task; None: all are of one task.
    """
    samples = _samples(values, tasks)
    d = float(np.mean([np.mean(x) for x in samples]))
    m, variance = _with_both_ends(samples, -1.0, 1.0)
    half = -float(special.ndtri(_TAIL)) * variance**0.5
    return Interval(d, max(-1.0, min(d, m - half)), min(1.0, max(d, m + half)))


def mean(values: np.ndarray, tasks: Sequence[str] | None = None) -> Interval:
    """Mean of any figures with Student's interval, over several tasks with Welch's degrees of freedom; no ends for one goal.

    Args:
        values: (goals,), in any unit.
        tasks: the name of each goal's task; None: all are of one task.
    """
    samples = _samples(values, tasks)
    m = float(np.mean([np.mean(x) for x in samples]))
    if len(samples[0]) < 2:
        return Interval(m, None, None)
    each = np.array([np.var(x, ddof=1) / len(x) for x in samples]) / len(samples) ** 2
    variance = float(each.sum())
    if variance == 0:
        return Interval(m, m, m)
    # Welch and Satterthwaite: V^2 / sum_h V_h^2 / (n_h - 1)
    freedom = variance**2 / np.sum(each**2 / [len(x) - 1 for x in samples])
    half = float(special.stdtrit(freedom, 1 - _TAIL)) * variance**0.5
    return Interval(m, m - half, m + half)


def _samples(values: np.ndarray, tasks: Sequence[str] | None) -> list[np.ndarray]:
    """The values by task; the tasks' means, as one sample, where a task has a single goal."""
    if tasks is None:
        return [values]
    samples = [values[np.array(tasks) == name] for name in dict.fromkeys(tasks)]
    if len(samples) > 1 and min(map(len, samples)) < 2:
        return [np.array([np.mean(x) for x in samples])]
    return samples


def _with_both_ends(samples: list[np.ndarray], low: float, high: float) -> tuple[float, float]:
    """Mean and its estimated variance after one goal at each end of the range was added, shared out over the tasks."""
    share, m, variance = 1 / len(samples), 0.0, 0.0
    for x in samples:
        n = len(x) + 2 * share
        center = (x.sum() + share * (low + high)) / n
        squares = np.sum((x - center) ** 2) + share * ((low - center) ** 2 + (high - center) ** 2)
        m += float(center) * share
        variance += float(squares) / n / (n - 1) * share**2
    return m, variance


def _mid_p(successes: float, n: float) -> float:
    """The lower end: p at which P(more than this many successes) + P(just as many) / 2 is 2.5 %; neither need be whole."""
    if successes <= 0:
        return 0.0

    def tail(p: float) -> float:
        at_least = special.betainc(successes, n - successes + 1, p)
        more = special.betainc(successes + 1, n - successes, p) if successes < n else 0.0
        return float(at_least + more) / 2 - _TAIL

    return float(optimize.brentq(tail, 0.0, min(1.0, successes / n)))
