"""Confidence intervals over goals: how far a mean over the sampled goals may be from the mean over all goals of the tasks.

Each goal contributes one value (the mean over its trials, which are not an independent sample). Tasks are fixed and weigh
the same; goals are a sample within their task. With m_h and s_h^2 the mean and variance of task h's n_h goals,

    mean = sum_h m_h / H        its variance V = sum_h V_h,    V_h = s_h^2 / n_h / H^2

If a task has a single goal, the variance of its goals is unknown; the task means then serve as the sample, and the interval
is never too short. For success, V must not vanish because all goals happen to agree. Therefore V is estimated after adding
one goal at each end of the range, shared among the tasks (Agresti and Coull 1998 for a proportion, Bonett and Price 2012 for
paired differences). `scripts/coverage` checks by simulation how often the intervals cover the truth.
"""

from collections.abc import Sequence
from math import inf
from typing import NamedTuple

import numpy as np
from scipy import optimize, special

CONFIDENCE = 0.95
_TAIL = (1 - CONFIDENCE) / 2


class Interval(NamedTuple):
    """A mean with its 95 % interval; the ends are None if they are unknown."""

    mean: float
    low: float | None
    high: float | None

    @property
    def sign(self) -> int | None:
        """1 or -1 if the whole interval lies above or below 0, 0 if it does not, None without ends."""
        if self.low is None or self.high is None:
            return None
        return int(self.low > 0) - int(self.high < 0)

    def text(self, form: str) -> str:
        """The interval as "0.42 [0.29, 0.56]", or "0.42 [–]" without ends."""
        if self.low is None or self.high is None:
            return f"{self.mean:{form}} [–]"
        return f"{self.mean:{form}} [{self.low:{form}}, {self.high:{form}}]"


def proportion(values: np.ndarray, tasks: Sequence[str] | None = None) -> Interval:
    """Mean of success rates in [0, 1] with a mid-P interval (Berry and Armitage 1995) for the effective number of goals.

    That is the number of goals with one trial each that gives the same variance: n for n goals of one task that each
    succeed or fail, more if several trials or the division into tasks make the mean more certain. The mid-P interval is the
    exact (Clopper-Pearson) one with the observed outcome counted half. Wilson's drops to 84 % coverage near 0 and 1.

    Args:
        values: (goals,), one rate each.
        tasks: the name of each goal's task; None: all are of one task.
    """
    samples = _samples(values, tasks)
    p = float(np.mean([np.mean(x) for x in samples]))
    m, variance = _with_both_ends(samples, 0.0, 1.0)
    # for n + 2 goals that succeed or fail, the unbiased V is m (1 - m) / (n + 1)
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


def mean(values: np.ndarray, tasks: Sequence[str] | None = None, least: float = -inf) -> Interval:
    """Mean of any figures with Student's interval (Welch's degrees of freedom for several tasks); no ends for one goal.

    Args:
        values: (goals,), in any unit.
        tasks: the name of each goal's task; None: all are of one task.
        least: lower bound of the figure, which also bounds the interval.
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
    return Interval(m, max(least, m - half), m + half)


def accuracy(values: np.ndarray, answers: int) -> Interval:
    """Mean accuracy of episodes with the interval of Korn and Graubard (1998), mid-P; no ends for one episode.

    An episode is a cluster of correlated answers. With p the mean and V its variance over episodes, the effective number of
    answers is p (1 - p) / V, at most their actual number; because V is estimated, it is multiplied by (z / t)^2, with
    Student's t for the episodes. The interval is that of a proportion of this many answers. If all answers are right, or all
    wrong, the correlation is unknown and each episode counts as one answer. With many episodes the interval approaches
    Student's interval of the mean; it never leaves [0, 1].

    Args:
        values: (episodes,), the share of right answers in each.
        answers: answers per episode.
    """
    n, p = len(values), float(np.mean(values))
    if n < 2:
        return Interval(p, None, None)
    worth = float(n)
    if 0 < p < 1:
        variance, most = float(np.var(values, ddof=1)) / n, n * answers
        worth = min(p * (1 - p) / variance, most) if variance > 0 else most
        worth *= float(special.ndtri(_TAIL) / special.stdtrit(n - 1, _TAIL)) ** 2
    return Interval(p, _mid_p(p * worth, worth), 1 - _mid_p((1 - p) * worth, worth))


def accuracy_change(after: np.ndarray, before: np.ndarray, answers: int) -> Interval:
    """Mean paired difference of accuracies, from the intervals of both (see `recovered`); no ends for one episode.

    Their correlation over n episodes is multiplied by n / (n + 1), as if one more episode had none, so it is never 1.

    Args:
        after, before: (episodes,), the share of right answers in each; the difference is after - before.
        answers: answers per episode.
    """
    n, spread = len(after), float(np.std(after) * np.std(before))
    together = float(np.mean((after - np.mean(after)) * (before - np.mean(before)))) / spread if spread > 0 else 0.0
    d, low, high = recovered(accuracy(after, answers), accuracy(before, answers), together * n / (n + 1))
    return Interval(d, None, None) if low is None or high is None else Interval(d, max(-1.0, low), min(1.0, high))


def of_episodes(measure: str, values: np.ndarray, answers: int) -> Interval:
    """Mean over episodes of a few-shot learner's measure: `accuracy`, or a mean squared error."""
    return accuracy(values, answers) if measure == "accuracy" else mean(values, least=0.0)


def change_of_episodes(measure: str, after: np.ndarray, before: np.ndarray, answers: int) -> Interval:
    """Mean paired difference of a few-shot learner's measure."""
    return accuracy_change(after, before, answers) if measure == "accuracy" else mean(after - before)


def recovered(a: Sequence[float | None], b: Sequence[float | None], correlation: float = 0.0) -> Interval:
    """a minus b by the method of variance estimates recovery (Newcombe 1998, method 10; for any means, Zou and Donner 2008).

    Adds the squared distances of the ends from the means, minus a term for the correlation of the two means. Intervals
    within [0, 1] give one within [-1, 1] if the correlation is not negative.

    Args:
        a, b: mean and ends; the ends are None if they are unknown.
        correlation: of the means; 0: independent.
    """
    d = (a[0] or 0.0) - (b[0] or 0.0)
    if None in a or None in b:
        return Interval(d, None, None)
    (m, low, high), (n, bottom, top) = ([float(x or 0.0) for x in i] for i in (a, b))

    def apart(x: float, y: float) -> float:
        return max(x**2 - 2 * correlation * x * y + y**2, 0.0) ** 0.5

    return Interval(d, d - apart(m - low, top - n), d + apart(high - m, n - bottom))


def _samples(values: np.ndarray, tasks: Sequence[str] | None) -> list[np.ndarray]:
    """The values by task, or one sample of the task means if any task has a single goal."""
    if tasks is None:
        return [values]
    samples = [values[np.array(tasks) == name] for name in dict.fromkeys(tasks)]
    if len(samples) > 1 and min(map(len, samples)) < 2:
        return [np.array([np.mean(x) for x in samples])]
    return samples


def _with_both_ends(samples: list[np.ndarray], low: float, high: float) -> tuple[float, float]:
    """Mean and its estimated variance after adding one goal at each end of the range, shared among the tasks."""
    share, m, variance = 1 / len(samples), 0.0, 0.0
    for x in samples:
        n = len(x) + 2 * share
        center = (x.sum() + share * (low + high)) / n
        squares = np.sum((x - center) ** 2) + share * ((low - center) ** 2 + (high - center) ** 2)
        m += float(center) * share
        variance += float(squares) / n / (n - 1) * share**2
    return m, variance


def _mid_p(successes: float, n: float) -> float:
    """The lower end: p with P(more successes) + P(exactly as many) / 2 = 2.5 %; arguments need not be whole numbers."""
    if successes <= 0:
        return 0.0

    def tail(p: float) -> float:
        at_least = special.betainc(successes, n - successes + 1, p)
        more = special.betainc(successes + 1, n - successes, p) if successes < n else 0.0
        return float(at_least + more) / 2 - _TAIL

    return float(optimize.brentq(tail, 0.0, min(1.0, successes / n)))
