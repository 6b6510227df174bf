"""Sentences that evaluations and reports share."""

from metarl.evaluation.control_schema import ControlEvaluation, UpstreamEvaluation
from metarl.evaluation.formatting import percent, percent_of
from metarl.evaluation.schema import Row
from metarl.evaluation.vocabulary import DETERMINISTIC, MODE
from metarl.system.counts import plural

TRANSDUCTIVE = (
    "Transductive: the queries of an episode, equally many of each class, are normalised together. An answer "
    "depends on the other queries, and figures say little about a single query."
)


def comparable(content: ControlEvaluation) -> tuple[str, Row]:
    """The figure of `all-goals` that compares with Meta-World's own: success at any step on held-out goals, last episode.

    Meta-World measures deterministic actions; sampled ones take their place if no others were played. Returns the kind of
    actions, and the figure with its interval.
    """
    by_mode = content["sides"]["test"]["by_episode"]
    mode = DETERMINISTIC if DETERMINISTIC in by_mode else MODE
    return mode, by_mode[mode]["success"][-1]


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
