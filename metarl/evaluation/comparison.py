"""Comparing evaluations: two on the same goals, and several runs of each agent as Agarwal et al. 2021 (rliable) do it.

`contents` are evaluation files as dicts (see `metarl.evaluation.checkpoint`); scores are (runs, tasks). Aggregates, performance
profiles and the probability of improvement have rliable's definitions. In one thing the bootstrap differs: rliable draws the
runs of each task by themselves, since there a run knows a single task. Here one run is scored on all tasks, and its scores
rise and fall together, so runs are drawn whole. In simulations of ten runs that are good or bad at all of five tasks, 95 %
intervals drawn whole held the truth in 93 % of cases, those drawn task by task in 65 %. A bootstrap over few runs is too
short all the same: 91 % with ten, 83 % with five, 75 % with three (`scripts/coverage`).
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from metarl.errors import UserError
from metarl.evaluation import intervals as statistics
from metarl.evaluation.intervals import CONFIDENCE, Interval

Content = dict[str, Any]
Array = np.ndarray
RESAMPLES = 5000
"""Draws of a bootstrap."""
_ENDS = (50 * (1 - CONFIDENCE), 50 * (1 + CONFIDENCE))
NEEDED = {
    "suite": "suite",
    "suite_seed": "suite seed (other goals)",
    "horizon": "horizon",
    "reward": "reward function",
    "terminate_on_success": "terminate on success",
}
"""What evaluations must have in common, and how it is called."""
OPTIONS = ("num_envs", "episodes_per_trial", "horizon", "reward", "goals", "suite_seed", "terminate_on_success")
"""Options of training that make runs differ in more than their seed."""


@dataclass(frozen=True)
class Paired:
    """Two evaluations on the same goals."""

    difference: Interval
    """The second minus the first, every task weighing the same."""
    improvement: Interval
    """Share of goals on which the second is better, ties counting half."""
    goals: int
    """How many goals they have in common."""


def scores(contents: Sequence[Content], side: str, mode: str, measure: str, episode: int = -1) -> Array:
    """(runs, tasks): each run's mean over a task's goals and trials; tasks in the order of the first run's goals.

    Raises:
        UserError: an evaluation lacks the side, the mode or a task.
    """
    by_run = [_by_task(content, side, mode, measure, episode) for content in contents]
    for content, tasks in zip(contents, by_run):
        if tasks.keys() != by_run[0].keys():
            raise UserError(f"{content['run']} was not evaluated on the same tasks as {contents[0]['run']}")
    return np.array([[np.mean(tasks[name]) for name in by_run[0]] for tasks in by_run])


def aggregate(scores: Array) -> dict[str, Interval]:
    """Mean, interquartile mean and median over runs and tasks, with percentile bootstrap intervals; no ends for one run.

    The interquartile mean leaves out the lowest and the highest quarter of all runs' and tasks' scores; the median is over
    tasks, of each one's mean over runs.
    """
    drawn = scores[_draws(len(scores))]
    return {name: _interval(statistic, scores, drawn) for name, statistic in _AGGREGATES.items()}


def performance_profile(scores: Array, thresholds: Array) -> Array:
    """(thresholds, 3): share of runs and tasks with a score above each threshold, and its ends (NaN for one run)."""
    share = (scores[:, :, None] > np.asarray(thresholds)).mean(1)  # (runs, thresholds)
    ends = np.full((2, len(thresholds)), np.nan)
    if len(scores) > 1:
        ends = np.percentile(_weights(len(scores)) @ share, _ENDS, axis=0)
    return np.stack([share.mean(0), *ends], 1)


def probability_of_improvement(a: Array, b: Array) -> Interval:
    """Probability that a run of `a` scores higher than a run of `b`, the mean over tasks, ties counting half.

    (Mann and Whitney's U over the number of pairs.) The ends are None where either has one run.
    """
    wins = ((a[:, None] > b[None]) + 0.5 * (a[:, None] == b[None])).mean(-1)  # (runs of a, runs of b)
    if min(len(a), len(b)) < 2:
        return Interval(float(wins.mean()), None, None)
    drawn = np.einsum("ra,ab,rb->r", _weights(len(a)), wins, _weights(len(b), stream=1))
    return _with_ends(float(wins.mean()), drawn)


def paired(a: Content, b: Content, side: str, mode: str, measure: str, episode: int = -1) -> Paired:
    """The evaluation `b` minus `a`, on the goals that both have.

    Raises:
        UserError: an evaluation lacks the side or the mode, or they have no goal in common.
    """
    first, second = (_by_goal(content, side, mode, measure, episode) for content in (a, b))
    both = [goal for goal in first if goal in second]
    if not both:
        raise UserError(f"{a['run']} and {b['run']} have no {side} goal in common")
    one, other = (np.array([found[goal] for goal in both]) for found in (first, second))
    names = [name for name, _ in both]
    interval = statistics.mean if measure == "return" else statistics.difference
    won = (other > one) + 0.5 * (other == one)
    return Paired(interval(other - one, names), statistics.proportion(won, names), len(both))


def incomparable(contents: Sequence[Content], side: str | None = None) -> list[str]:
    """What forbids to compare these evaluations on a side (None: on any), a sentence each; empty: nothing does.

    Trials of different lengths may be compared: how much experience agents need is what sets them apart.
    """
    found = []
    for key, name in NEEDED.items():
        values = [content.get(key) for content in contents]
        if any(value != values[0] for value in values):
            each = ", ".join(f"{content['run']} has {value}" for content, value in zip(contents, values))
            found.append(f"the {name} differs: {each}")
    for one in contents[0]["sides"] if side is None else (side,):
        goals = [_goals(content["sides"][one]) for content in contents if one in content["sides"]]
        if any(set(some) != set(goals[0]) for some in goals):
            found.append(f"the {one} goals are not the same")
    return found


def groups(contents: Sequence[Content]) -> dict[str, list[Content]]:
    """The seeds of one agent and settings together, by a label that says the agent and what sets its groups apart.

    Settings are those of training that a content carries under "settings", as `metarl.commands.compare.load` adds them.
    """
    found: dict[str, list[Content]] = {}
    for content in contents:
        found.setdefault(json.dumps(_traits(content), sort_keys=True, default=str), []).append(content)
    traits = [_traits(some[0]) for some in found.values()]
    labels = []
    for mine in traits:
        kin = [other for other in traits if other["agent"] == mine["agent"]]
        apart = [key for key in mine if any(other.get(key) != mine[key] for other in kin)]
        labels.append(", ".join([mine["agent"], *(f"{key} {mine[key]}" for key in apart)]))
    return dict(zip(labels, found.values()))


def _traits(content: Content) -> dict[str, Any]:
    """All but the seed that makes a run what it is."""
    same = {key: content[key] for key in ("agent", "step", "adapt_every")}
    return {**same, "trained on": list(content["trained_on"].values()), **content.get("settings", {})}


def _by_goal(content: Content, side: str, mode: str, measure: str, episode: int) -> dict[tuple[str, str], float]:
    """The mean over trials by goal, that is by task name and parameters."""
    figures = content["sides"].get(side)
    if figures is None:
        raise UserError(f"the evaluation of {content['run']} has no {side} goals; it has {', '.join(content['sides'])}")
    if mode not in figures["figures"]:
        raise UserError(f"the evaluation of {content['run']} has no {mode} actions; it has {', '.join(figures['figures'])}")
    values = np.array(figures["figures"][mode][measure])
    return dict(zip(_goals(figures), values[:, :, episode].mean(1).tolist()))


def _goals(side: dict[str, Any]) -> list[tuple[str, str]]:
    return [(name, json.dumps(params)) for name, params in side["goals"]]


def _by_task(content: Content, side: str, mode: str, measure: str, episode: int) -> dict[str, list[float]]:
    found: dict[str, list[float]] = {}
    for (name, _), value in _by_goal(content, side, mode, measure, episode).items():
        found.setdefault(name, []).append(value)
    return found


def _interquartile_mean(scores: Array) -> Array:
    flat = np.sort(scores.reshape(*scores.shape[:-2], -1), axis=-1)
    cut = flat.shape[-1] // 4
    return flat[..., cut : flat.shape[-1] - cut].mean(-1)


_AGGREGATES: dict[str, Callable[[Array], Array]] = {
    "mean": lambda scores: scores.mean((-2, -1)),
    "iqm": _interquartile_mean,
    "median": lambda scores: np.median(scores.mean(-2), -1),
}
"""Of (..., runs, tasks)."""


def _interval(statistic: Callable[[Array], Array], scores: Array, drawn: Array) -> Interval:
    if len(scores) < 2:
        return Interval(float(statistic(scores)), None, None)
    return _with_ends(float(statistic(scores)), statistic(drawn))


def _with_ends(mean: float, drawn: Array) -> Interval:
    """Percentiles of the draws; no ends where all draws are alike: runs that agree do not tell how far others would be."""
    low, high = map(float, np.percentile(drawn, _ENDS))
    return Interval(mean, low, high) if np.ptp(drawn) > 1e-12 * max(1.0, abs(mean)) else Interval(mean, None, None)


def _draws(runs: int, stream: int = 0) -> Array:
    """(draws, runs): which runs each draw has; always the same for a number of runs."""
    return np.random.default_rng((runs, stream)).integers(runs, size=(RESAMPLES, runs))


def _weights(runs: int, stream: int = 0) -> Array:
    """(draws, runs): the share that each run has in a draw."""
    return (_draws(runs, stream)[:, :, None] == np.arange(runs)).mean(1)
