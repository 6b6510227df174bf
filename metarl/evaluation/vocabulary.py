"""Sides, measures and colours: what evaluations, plots and reports call them."""

from typing import Any

SIDES = {"train": "train goals", "validation": "validation goals", "test": "held-out goals"}
COLORS = {"train": "#9a9a9a", "validation": "#2a8f55", "test": "#1f6fb4", "blind": "#c4572e"}
PALETTE = ("#1f6fb4", "#2a8f55", "#8a4fb0", "#b08a1f", "#5a5a5a", "#b0447a")


MEASURES = (
    ("success", "success", "+.2f"),
    ("last_success", "at the last step", "+.2f"),
    ("return", "return", "+,.0f"),
)
"""What an evaluation may measure: its name in the file, in words, and how a difference is written."""
MODE = "sampled"
"""The actions that the headline is about: those that the agent was trained with."""


def measured(content: dict[str, Any]) -> tuple[str, ...]:
    """What an evaluation measured: returns always, success where the environments tell it."""
    by_mode = next(iter(content["sides"].values()))["figures"]
    return tuple(measure for measure, _, _ in MEASURES if measure in next(iter(by_mode.values())))


def headline(content: dict[str, Any]) -> str:
    """The measure that a reader sees first: success, or the return where the environments tell no success."""
    return measured(content)[0]
