"""Sentences that evaluations and reports share."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from metarl.evaluation.control_schema import ControlEvaluation, UpstreamEvaluation
from metarl.evaluation.formatting import percent, percent_of
from metarl.evaluation.schema import Content, Row
from metarl.evaluation.shown import as_trained
from metarl.evaluation.vocabulary import DETERMINISTIC, MODE
from metarl.runs.looks import Look, suite_seed
from metarl.system.counts import plural

TRANSDUCTIVE = (
    "Transductive: the queries of an episode, equally many of each class, are normalised together. An answer "
    "depends on the other queries, and figures say little about a single query."
)

_MOST_CHECKPOINTS = 5
"""The most checkpoints that a sentence lists."""


def comparable(content: ControlEvaluation) -> tuple[str, Row]:
    """The figure of `all-goals` that compares with Meta-World's own: success at any step on held-out goals, last episode.

    Meta-World measures deterministic actions; sampled ones take their place if no others were played. Returns the kind of
    actions, and the figure with its interval.
    """
    by_mode = content["sides"]["test"]["by_episode"]
    mode = DETERMINISTIC if DETERMINISTIC in by_mode else MODE
    return mode, by_mode[mode]["success"][-1]


def rules_of(upstream: Content) -> str:
    """Name the version of Meta-World whose rules an evaluation under its own protocol follows."""
    version = upstream.get("rules")
    return f"rules of Meta-World {version}" if version else "rules of an unknown version of Meta-World"


def upstream_sentence(upstream: UpstreamEvaluation, content: ControlEvaluation) -> str:
    """Compare Meta-World's own figure with that of `all-goals`, and explain why they differ."""
    mode, ours = comparable(content)
    theirs = upstream["sides"]["test"]["success"]
    both = (
        f"Meta-World's own evaluation reports {percent(theirs)} for this checkpoint; with every goal weighted equally it is "
        f"{percent_of(ours)} ({mode} actions)."
    )
    if round(100 * theirs) == round(100 * ours[0]):
        return f"{both} Here the two agree."
    if theirs < ours[0]:
        return (
            f"{both} Meta-World measured {plural(upstream['episodes_counted'], 'episode')} of a "
            f"task in each of {plural(upstream['evaluations'], 'draw')} of "
            f"goals, after {plural(upstream['episodes'], 'episode')} of experience; the other figure covers every goal, after "
            f"{content['episodes'] - 1}."
        )
    return (
        f"{both} Meta-World's protocol ends an episode at its first success, starts the next one at once, and counts a task's "
        "episodes until a quota is full. Easy goals, solved quickly, fill that quota before hard ones have ended a single "
        "episode, and never enter the figure. Compare it only with figures made in the same way."
    )


def said_of_looks(
    looks: Sequence[Look] | None,
    evaluations: Sequence[Content],
    suite: str,
    options: Mapping[str, Any],
    what: str,
    step: str,
) -> list[str]:
    """Sentences on how often held-out goals or classes were evaluated and, of the training's suite, on which checkpoints.

    If there are more evaluations than looks, earlier versions made some and did not count: the number is a lower bound.

    Args:
        looks: the counted evaluations on them, see `Run.looks`; None: unknown, and nothing is said.
        evaluations: those in files.
        suite, options: of the training.
        what: goals or classes.
        step: the word for a step of the training.
    """
    said, trained_on = [], (suite, suite_seed(options))
    held_out = [content for content in evaluations if "test" in content["sides"]]
    for own, name in ((True, suite), (False, "other suites or suite seeds")):
        counted = Counter(look["step"] for look in looks or () if ((look["suite"], look["suite_seed"]) == trained_on) == own)
        stored = Counter(int(content["step"]) for content in held_out if as_trained(content) == own)
        times = counted | stored
        if times and looks is not None:
            bound = "" if times == counted else "at least "
            where = _where(times, step) if own else ""
            said.append(f"Held-out {what} of {name} were evaluated {bound}{_times(times.total())}{where}.")
    return said


def _where(times: Counter[int], step: str) -> str:
    """The checkpoints that were evaluated, given how many times each was."""
    steps = sorted(times)
    if steps == [0]:  # also an agent of the user's, whose steps are unknown
        return ""
    if len(steps) == 1:
        return f", at {plural(steps[0], step)}"
    if len(steps) > _MOST_CHECKPOINTS:
        return f", at {len(steps)} checkpoints from {steps[0]:,} to {plural(steps[-1], step)}"
    *others, last = (f"{'' if times[n] == 1 else f'{_times(times[n])} '}at {plural(n, step)}" for n in steps)
    return f": {', '.join(others)}, and {last}"


def _times(n: int) -> str:
    return {1: "once", 2: "twice"}.get(n, f"{n:,} times")
