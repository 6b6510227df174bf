"""File formats of evaluations of acting agents, with their checkers: `all-goals` and Meta-World's own protocol."""

from collections.abc import Sequence
from typing import Any, NotRequired, TypedDict, cast

import numpy as np

from metarl.evaluation.measures import OF_GOALS, SUCCESS
from metarl.evaluation.schema import Header, Row, Trained, known, number, true, typed
from metarl.evaluation.vocabulary import MODES, SIDES


class Statistics(TypedDict):
    """Rows by mode and measure: one per episode of the trial, and the last episode minus the first."""

    by_episode: dict[str, dict[str, list[Row]]]
    gain: dict[str, dict[str, Row]]


class OfTask(Statistics):
    """The statistics of a task, and its number of goals."""

    goals: int


class Side(Statistics):
    """One side: its goals, statistics over all goals and per task, and figures by mode and measure.

    Figures are (goals, trials, episodes). A goal is a task's name and parameters; `axes` names the parameters.
    """

    goals: list[list[Any]]
    axes: NotRequired[list[str]]
    by_task: dict[str, OfTask]
    std: NotRequired[list[float] | None]
    figures: dict[str, dict[str, list[Any]]]
    goal_blind: NotRequired["Side"]


class ControlHeader(Header):
    """Keys of all evaluations of acting agents."""

    suite_seed: int
    trained_on: NotRequired[Trained]
    adapt_every: NotRequired[int | None]
    max_episode_steps: int
    reward: str


class ControlEvaluation(ControlHeader):
    """An evaluation with the same number of trials for every goal. Older files lack the keys that are not required."""

    trials: int
    episodes: int
    terminate_on_success: bool
    engine: NotRequired[str]
    confidence: NotRequired[float]
    warnings: NotRequired[list[str]]
    sides: dict[str, Side]


UpstreamFigures = TypedDict("UpstreamFigures", {"success": float, "return": float, "by_task": dict[str, float]})
"""Meta-World's figures: means over tasks, and success per task."""


class UpstreamSide(UpstreamFigures):
    """The mean over seeds, and the figures for each seed."""

    seeds: dict[str, UpstreamFigures]


class UpstreamEvaluation(ControlHeader):
    """An evaluation under Meta-World's own protocol.

    `rules` is the version of Meta-World whose rules it follows; older files lack it.
    """

    rules: NotRequired[str | None]
    engine: str
    episodes: int
    terminate_on_success: bool
    evaluations: int
    episodes_counted: int
    sides: dict[str, UpstreamSide]


def whole(content: dict[str, Any]) -> ControlEvaluation:
    """Check that an evaluation has everything a report uses, under known keys. The first fault raises one of `FAULTS`."""
    typed(content, ControlEvaluation)
    true(min(content["trials"], content["episodes"]) >= 1)
    content["trained_on"] = content.get("trained_on") or {key: content[key] for key in ("suite", "suite_seed")}
    typed(content["trained_on"], Trained)
    content.setdefault("adapt_every", None)
    known(content["sides"], SIDES)
    successes = any(SUCCESS.key in measures for side in content["sides"].values() for measures in side["by_episode"].values())
    needed = [measure.key for measure in (OF_GOALS if successes else OF_GOALS[-1:])]
    for side in content["sides"].values():
        side.setdefault("by_task", {})
        goals = [str(name) for name, _ in side["goals"]]
        for figures in (side, *side["by_task"].values()):
            _statistics(figures, content["episodes"], needed)
        if side.get("goal_blind"):
            _statistics(side["goal_blind"], None, needed)
        known(side["figures"], MODES)
        for mode in {MODES[0], *side["figures"]}:
            for measure in needed:
                shape = np.array(side["figures"][mode][measure], dtype=float).shape
                true(shape == (len(goals), content["trials"], content["episodes"]), bool(goals))
    return cast(ControlEvaluation, content)


def _statistics(figures: dict[str, Any], episodes: int | None, measures: Sequence[str]) -> None:
    known(figures["by_episode"], MODES)
    for mode in {MODES[0], *figures["by_episode"]}:
        known(figures["by_episode"][mode], [measure.key for measure in OF_GOALS])
        for measure in measures:
            rows = np.array(figures["by_episode"][mode][measure], dtype=float)  # null becomes NaN
            gain = np.array(figures["gain"][mode][measure], dtype=float)
            true(rows.shape == (episodes or len(rows), 3), gain.shape == (3,))
            true(not np.isnan(rows[:, 0]).any())


def whole_upstream(content: dict[str, Any]) -> UpstreamEvaluation:
    """Check that an evaluation under Meta-World's protocol has everything a report uses; raises one of `FAULTS`."""
    side = content["sides"]["test"]
    true(all(isinstance(content[key], str) for key in ("engine", "checkpoint")))
    true(all(isinstance(content[key], int) for key in ("step", "episodes", "episodes_counted", "evaluations")))
    true(isinstance(content.get("trained_on") or {}, dict))
    true(number(side["success"]))
    true(0 <= side["success"] <= 1)
    content.setdefault("rules", (content.get("packages") or {}).get("metaworld"))
    true(isinstance(content["rules"], str | None))
    return cast(UpstreamEvaluation, content)
