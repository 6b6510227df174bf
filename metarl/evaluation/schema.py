"""Checks of evaluation files: everything that a report or a packed model uses must be there."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from metarl.evaluation.fewshot_schema import known
from metarl.evaluation.vocabulary import SIDES

MEASURES = ("success", "last_success", "return")
"""What an evaluation must hold, or returns alone where environments tell no success.

Those of `metarl.evaluation.all_goals`, which would import torch: a report is to be quick.
"""
_MODES = ("sampled", "mean")
FAULTS = (OSError, ValueError, LookupError, TypeError, AttributeError, OverflowError, RecursionError)
"""What reading and checking a file raises where it is not what it should be."""
_OPTIONAL = {"engine": str, "adapt_every": int}
_NEEDED = {
    "run": str,
    "agent": str,
    "suite": str,
    "suite_seed": int,
    "run_seed": int,
    "checkpoint": str,
    "step": int,
    "trials": int,
    "episodes": int,
    "horizon": int,
    "reward": str,
    "terminate_on_success": bool,
    "sides": dict,
}


def _number(value: Any) -> bool:
    return isinstance(value, int | float) and math.isfinite(value)


def whole(content: dict[str, Any]) -> dict[str, Any]:
    """An evaluation in which all that a report uses is there, under known keys. Its first fault raises one of `FAULTS`."""
    _header(content)
    content["trained_on"] = content.get("trained_on") or {key: content[key] for key in ("suite", "suite_seed")}
    if not isinstance(content["trained_on"]["suite"], str) or not isinstance(content["trained_on"]["suite_seed"], int):
        raise ValueError("a value of the wrong kind")
    content.setdefault("adapt_every", None)
    if any(content.get(key) is not None and not isinstance(content[key], kind) for key, kind in _OPTIONAL.items()):
        raise ValueError("a value of the wrong kind")
    known(content["sides"], SIDES)
    told = any("success" in measures for side in content["sides"].values() for measures in side["by_episode"].values())
    needed = MEASURES if told else MEASURES[-1:]
    for side in content["sides"].values():
        side.setdefault("by_task", {})
        names = [str(name) for name, _ in side["goals"]]
        for figures in (side, *side["by_task"].values()):
            _statistics(figures, content["episodes"], needed)
        if side.get("goal_blind"):
            _statistics(side["goal_blind"], None, needed)
        known(side["figures"], _MODES)
        for mode in {"sampled", *side["figures"]}:
            for measure in needed:
                shape = np.array(side["figures"][mode][measure], dtype=float).shape
                if shape != (len(names), content["trials"], content["episodes"]) or not names:
                    raise ValueError("figures of another shape")
    return content


def _statistics(figures: dict[str, Any], episodes: int | None, measures: Sequence[str]) -> None:
    known(figures["by_episode"], _MODES)
    for mode in {"sampled", *figures["by_episode"]}:
        known(figures["by_episode"][mode], MEASURES)
        for measure in measures:
            rows = np.array(figures["by_episode"][mode][measure], dtype=float)  # null becomes NaN
            gain = np.array(figures["gain"][mode][measure], dtype=float)
            if rows.shape != (episodes or len(rows), 3) or gain.shape != (3,) or np.isnan(rows[:, 0]).any():
                raise ValueError("statistics of another shape")


def whole_stock(content: dict[str, Any]) -> dict[str, Any]:
    """An evaluation by Meta-World's protocol in which all that a report uses is there."""
    side = content["sides"]["test"]
    texts = all(isinstance(content[key], str) for key in ("engine", "checkpoint"))
    counts = all(isinstance(content[key], int) for key in ("episodes", "episodes_counted", "evaluations"))
    if not texts or not counts or not _number(side["success"]) or not 0 <= side["success"] <= 1:
        raise ValueError("a value of the wrong kind")
    return content


def _header(content: dict[str, Any]) -> None:
    if (
        any(not isinstance(content[key], kind) for key, kind in _NEEDED.items())
        or min(content["trials"], content["episodes"]) < 1
    ):
        raise ValueError("a value of the wrong kind")
