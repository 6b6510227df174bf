"""Rename keys of evaluations of earlier versions."""

from typing import Any

from metarl.evaluation.vocabulary import DETERMINISTIC

KEYS = {"horizon": "max_episode_steps"}
"""Keys of version 0.2 and their current names."""
ACTIONS = {"mean": DETERMINISTIC}
"""Kinds of actions of version 0.2 and their current names."""
_BY_ACTIONS = ("by_episode", "gain", "figures")
"""Keys of a side, and of a task in it, whose values are by kind of actions."""


def migrated(content: dict[str, Any]) -> dict[str, Any]:
    """The content of an evaluation file under current names.

    Raises:
        LookupError, TypeError, AttributeError, RecursionError: it is damaged.
    """
    if "trials" in content:  # by the protocol all-goals
        sides = {side: _side(part) for side, part in content["sides"].items()}
        content = {**content, "sides": sides}
    return {KEYS.get(key, key): value for key, value in content.items()}


def _side(part: dict[str, Any]) -> dict[str, Any]:
    side = _by_actions(part)
    if side.get("by_task"):
        side["by_task"] = {task: _by_actions(figures) for task, figures in side["by_task"].items()}
    if side.get("goal_blind"):
        side["goal_blind"] = _side(side["goal_blind"])
    return side


def _by_actions(part: dict[str, Any]) -> dict[str, Any]:
    renamed = {
        key: {ACTIONS.get(actions, actions): figures for actions, figures in part[key].items()}
        for key in _BY_ACTIONS
        if key in part
    }
    return {**part, **renamed}
