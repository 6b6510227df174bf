"""Chooses which of a run's evaluations is shown. evaluations/ keeps all; evaluation.json, report, pack and compare show one.

That one is on the suite that the run trained on, of the newest evaluated checkpoint, and the largest of these: it has the most
episodes on held-out goals or classes. Among equals it is the newest. `content` is the content of an evaluation file.
"""

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from metarl.evaluation.schema import FAULTS, Content, read
from metarl.evaluation.vocabulary import ALL_GOALS, EPISODES, goal
from metarl.system.counts import plural
from metarl.system.files import write_atomically, writing

if TYPE_CHECKING:
    from metarl.runs.directory import Run  # it imports torch, which would slow down reports

C = TypeVar("C", bound=Content)


def as_trained(content: Content) -> bool:
    """Whether an evaluation is on the suite that the run trained on."""
    trained_on = content.get("trained_on") or {}
    return all(content.get(key) == value for key, value in trained_on.items())


def rank(content: Content) -> tuple[bool, int, int, int]:
    """The key by which evaluations are ordered; the highest is shown.

    Raises:
        LookupError, TypeError: the protocol is neither `all-goals` nor `episodes`.
    """
    if "trials" not in content:
        return as_trained(content), content["step"], content["episodes"], content["queries"]
    goals = {side: len(figures["goals"]) for side, figures in content["sides"].items()}
    each = content["trials"] * content["episodes"]
    return as_trained(content), content["step"], goals.get("test", 0) * each, sum(goals.values()) * each


def best(contents: Iterable[C]) -> C | None:
    """The evaluation to show; among equals the first."""
    return max(contents, key=rank, default=None)


def extent(content: Content) -> str:
    """The amount of evaluation in words: goals, trials and episodes, or episodes and queries."""
    if "trials" not in content:
        shape = f"{content['ways']} ways, {plural(content['shots'], 'shot')}"
        shape = shape if content["measure"] == "accuracy" else "regression"
        return f"{plural(content['episodes'], 'episode')} ({shape}, {plural(content['queries'], 'query')})"
    goals = {side: len(figures["goals"]) for side, figures in content["sides"].items()}
    side = "test" if "test" in goals else next(iter(goals))
    each = f"{plural(content['trials'], 'trial')} x {plural(content['episodes'], 'episode')}"
    return f"{plural(goals[side], goal(side))} x {each}"


def evaluations(run: "Run", checkpoint: str | None = None) -> list[Content]:
    """A run's evaluations on the suite it trained on, newest first; `checkpoint` (a folder's name) keeps only that one's."""
    files = [file for kind in (ALL_GOALS, EPISODES) for file in (run.path / "evaluations").glob(f"{kind}_*.json")]
    files.sort(key=lambda file: file.stat().st_mtime_ns, reverse=True)
    distinct: list[Content] = []
    for content in filter(None, map(_ranked, (run.evaluation(), *files))):
        if rank(content)[0] and content not in distinct and checkpoint in (None, content.get("checkpoint")):
            distinct.append(content)
    return distinct


def keep(run: "Run", path: Path) -> str | None:
    """Copy a new evaluation to evaluation.json, unless that ranks higher; then return a sentence that says so.

    Args:
        run: the run that was evaluated.
        path: the evaluation's file in evaluations/.
    """
    before, now = _ranked(run.evaluation()), _ranked(path)
    assert now is not None
    if before is not None and rank(before) > rank(now):
        return f"evaluation.json, which report and pack show, remains the larger one: {extent(before)}. Both are kept"
    with writing(f"{run.path}/evaluation.json"):
        write_atomically(run.path / "evaluation.json", path.read_bytes())
    return None


def _ranked(file: Path) -> Content | None:
    """The evaluation in a file; None if there is none that `rank` can order."""
    try:
        content = read(file)
        rank(content)
    except FAULTS:
        return None
    return content
