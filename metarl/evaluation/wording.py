"""Sentences that evaluations and reports share."""

from metarl.evaluation.control_schema import ControlEvaluation, StockEvaluation
from metarl.evaluation.formatting import percent, percent_of
from metarl.evaluation.vocabulary import MODE
from metarl.system.counts import plural

TRANSDUCTIVE = (
    "Transductive: the queries of an episode, equally many of each class, are normalised together. An answer "
    "depends on the other queries, and figures say little about a single query."
)


def stock_sentence(stock: StockEvaluation, content: ControlEvaluation) -> str:
    """Compare Meta-World's own figure with that of `all-goals`, and explain why they differ."""
    alike = content["sides"]["test"]["by_episode"]
    mode = "mean" if "mean" in alike else MODE  # stock uses mean actions
    ours, theirs = alike[mode]["success"][-1], stock["sides"]["test"]["success"]
    both = (
        f"Meta-World's own evaluation reports {percent(theirs)} for this checkpoint; with every goal weighted equally it is "
        f"{percent_of(ours)} ({mode} actions)."
    )
    if round(100 * theirs) == round(100 * ours[0]):
        return f"{both} Here the two agree."
    if theirs < ours[0]:
        return (
            f"{both} Stock measured {plural(stock['episodes_counted'], 'episode')} of a "
            f"task in each of {plural(stock['evaluations'], 'draw')} of "
            f"goals, after {plural(stock['episodes'], 'episode')} of experience; the other figure covers every goal, after "
            f"{content['episodes'] - 1}."
        )
    return (
        f"{both} The stock protocol ends an episode at its first success, starts the next one at once, and counts a task's "
        "episodes until a quota is full. Easy goals, solved quickly, fill that quota before hard ones have ended a single "
        "episode, and never enter the figure. Compare it only with figures made in the same way."
    )
