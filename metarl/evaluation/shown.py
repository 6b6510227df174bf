"""Which of a run's evaluations is shown. All are kept, in evaluations/; evaluation.json, report, pack and compare show one.

It is of the suite that was trained on, of the newest checkpoint that was evaluated, and of these the largest: the most episodes
on what was held out. Of equal ones it is the newest. `content` is what a file of an evaluation holds.
"""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from metarl.evaluation.schema import Content
from metarl.evaluation.vocabulary import ALL_GOALS, EPISODES, goal
from metarl.system.counts import plural
from metarl.system.files import write_atomically, writing

if TYPE_CHECKING:
    from metarl.runs.directory import Run  # with it comes torch, and a report is to be quick

C = TypeVar("C", bound=Content)


def rank(content: Content) -> tuple[bool, int, int, int]:
    """By what evaluations are ordered; the highest is shown.

    Raises:
        LookupError, TypeError: it is no evaluation by all goals or by episodes.
    """
    trained_on = content.get("trained_on") or {}
    own = all(content.get(key) == value for key, value in trained_on.items())
    if "trials" not in content:
        return own, content["step"], content["episodes"], content["queries"]
    goals = {side: len(figures["goals"]) for side, figures in content["sides"].items()}
    each = content["trials"] * content["episodes"]
    return own, content["step"], goals.get("test", 0) * each, sum(goals.values()) * each


def best(contents: Iterable[C]) -> C | None:
    """The one that is shown; of equal ones the first."""
    return max(contents, key=rank, default=None)


def extent(content: Content) -> str:
    """How much was played, in words."""
    if "trials" not in content:
        shape = f"{content['ways']} ways, {plural(content['shots'], 'shot')}"
        shape = shape if content["measure"] == "accuracy" else "regression"
        return f"{plural(content['episodes'], 'episode')} ({shape}, {plural(content['queries'], 'query')})"
    goals = {side: len(figures["goals"]) for side, figures in content["sides"].items()}
    side = "test" if "test" in goals else next(iter(goals))
    each = f"{plural(content['trials'], 'trial')} x {plural(content['episodes'], 'episode')}"
    return f"{plural(goals[side], goal(side))} x {each}"


def evaluations(run: "Run", checkpoint: str | None = None) -> list[Content]:
    """A run's evaluations on what it trained on, or those of a checkpoint, by its folder's name; the newest first."""
    files = [file for kind in (ALL_GOALS, EPISODES) for file in (run.path / "evaluations").glob(f"{kind}_*.json")]
    files.sort(key=lambda file: file.stat().st_mtime_ns, reverse=True)
    read = [content for file in (run.evaluation(), *files) if (content := _read(file)) is not None]
    found: list[Content] = []
    for content in read:
        if rank(content)[0] and content not in found and checkpoint in (None, content.get("checkpoint")):
            found.append(content)
    return found


def keep(run: "Run", path: Path) -> str | None:
    """Make a new evaluation evaluation.json, unless the one that is there is larger: then say so.

    Args:
        run: whose it is.
        path: its file in evaluations/.
    """
    before, now = _read(run.evaluation()), _read(path)
    assert now is not None
    if before is not None and rank(before) > rank(now):
        return f"evaluation.json, which report and pack show, stays the larger one: {extent(before)}. Both are kept"
    with writing(f"{run.path}/evaluation.json"):
        write_atomically(run.path / "evaluation.json", path.read_bytes())
    return None


def _read(file: Path) -> Content | None:
    try:
        content = json.loads(file.read_text())
        rank(content)
    except (OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError):
        return None
    return content
