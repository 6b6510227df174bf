"""Groups the runs of a report into comparisons, and collects the reasons why others cannot be compared."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

from metarl.agents import CONTROL, FEW_SHOT
from metarl.reports.control import comparison as robots_comparing
from metarl.reports.fewshot import comparison as fewshot_comparing
from metarl.reports.sections import Comparison, Section


class _Way(NamedTuple):
    """How to compare runs of one kind of training: find reasons against it, and make the comparison."""

    what: str
    reasons: Callable[[Sequence[Section]], list[str]]
    compared: Callable[[Sequence[Section], str], Comparison]


_WAYS = {
    CONTROL: _Way("agents that act, measured by success or return", robots_comparing.reasons, robots_comparing.compared),
    FEW_SHOT: _Way("few-shot learners, measured by their answers", fewshot_comparing.reasons, fewshot_comparing.compared),
}


def compare(sections: Sequence[Section]) -> list[Comparison]:
    """Compare all runs that can be compared, and give the reasons why others cannot; [] for a single run."""
    if len(sections) < 2:
        return []
    reasons = [f"{s.run.name} was not evaluated." for s in sections if not s.run.evaluation]
    kinds = {kind: [s for s in sections if s.run.training == kind] for kind in dict.fromkeys(s.run.training for s in sections)}
    if len(kinds) > 1:
        each = "; ".join(f"{', '.join(s.run.name for s in of_kind)}: {_WAYS[kind].what}" for kind, of_kind in kinds.items())
        reasons.append(f"They are of different kinds: {each}.")
    comparisons: list[Comparison] = []
    for kind, of_kind in kinds.items():
        alike: list[list[Section]] = []
        for section in of_kind:
            if section.run.evaluation:
                fitting = next((group for group in alike if not _WAYS[kind].reasons([*group, section])), None)
                fitting.append(section) if fitting is not None else alike.append([section])
        if len(alike) > 1:
            reasons += _WAYS[kind].reasons([section for group in alike for section in group])
        for group in alike:
            if len(group) > 1:
                title = f"Comparison {len(comparisons) + 1}" if comparisons else "Comparison"
                comparisons.append(_WAYS[kind].compared(group, title))
    return [*([Comparison("Runs that are not compared", reasons=reasons)] if reasons else []), *comparisons]
