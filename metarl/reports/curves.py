"""What the figures of all kinds of runs are made of: bars with intervals, axes, and learning curves."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter, MaxNLocator

from metarl.evaluation.measures import ERROR, Measure
from metarl.reports.drawing import INK, Picture, one_axis, picture

_MOST_POINTS = 300
Line = tuple[str, str, str]
"""Label, colour and style."""


def series(lines: list[dict[str, float]], key: str) -> np.ndarray:
    """Steps and values, (2, n); neighbours are averaged where there are more than can be seen."""
    pairs = np.array([(line["step"], line[key]) for line in lines if key in line], dtype=float).reshape(-1, 2)
    if len(pairs) > _MOST_POINTS:
        pairs = np.array([part.mean(0) for part in np.array_split(pairs, _MOST_POINTS)])
    return pairs.T


def learning(
    name: str,
    title: str,
    lines: Sequence[tuple[Line, np.ndarray]],
    x: str,
    show: Callable[[float], str],
    over: str,
    caption: str,
    measure: Measure | None,
) -> Picture:
    """A learning curve.

    Args:
        name: of its files.
        title: heads it.
        lines: see `series`.
        x: what its steps are.
        show: how its values are written.
        over: how long the training was, in words.
        caption: what it shows.
        measure: what it is of; None: a loss.
    """

    def draw(figure: Figure) -> None:
        axis = one_axis(figure, title, x)
        for (label, color, style), (steps, values) in lines:
            axis.plot(steps, values, style if len(steps) > 1 else "o", color=color, lw=1.6, ms=4, label=label)
        count_steps(axis)
        limits(axis, measure)
        axis.legend(loc="best")

    ends = "; ".join(f"{line[0]}: from {show(values[0])} to {show(values[-1])}" for line, (_, values) in lines)
    return picture(name, caption, f"Learning curve, {title.lower()} over {over}. {ends}.", draw)


def count_steps(axis: Any) -> None:
    """Steps from left to right, such as 1.5 M."""
    axis.xaxis.set_major_locator(MaxNLocator(5))
    axis.xaxis.set_major_formatter(EngFormatter())


def limits(axis: Any, measure: Measure | None) -> None:
    """The whole range of a share from top to bottom; errors and losses from 0; returns from 0, or their lowest below it."""
    if measure is None or measure == ERROR:
        axis.set_ylim(0)
    elif measure.bounded:
        axis.set_ylim(-0.03, 1.03)
        axis.set_yticks(*_QUARTERS)
    else:
        axis.set_ylim(min(0.0, axis.get_ylim()[0]))
        axis.yaxis.set_major_formatter("{x:,.10g}")  # as exact as the locator sets them: -17.5 is not -18


_QUARTERS = [0, 0.25, 0.5, 0.75, 1], ["0", "25 %", "50 %", "75 %", "100 %"]


def whole_steps(axis: Any) -> None:
    """Whole numbers from left to right."""
    axis.xaxis.get_major_locator().set_params(integer=True)


def bars(axis: Any, labels: Sequence[str], parts: Sequence[tuple[float, Any, str, str | None]], height: float) -> None:
    """Horizontal bars of shares with their intervals, from top to bottom.

    Args:
        axis: where.
        labels: of the rows.
        parts: how far below the middle of its row a bar lies, the rows' intervals, colour and label.
        height: of a bar.
    """
    for offset, rows, color, label in parts:
        mean, low, high = np.array(rows, dtype=float).T
        y = np.arange(len(labels)) + offset
        axis.barh(y, mean, height, color=color, alpha=0.75, label=label)
        axis.hlines(y, low, high, color=INK, lw=0.9)
    axis.set_yticks(range(len(labels)), labels)
    axis.set_ylim(len(labels) - 0.5, -0.5)
    axis.set_xlim(0, 1.01)
    axis.set_xticks(*_QUARTERS)
    axis.grid(axis="y", visible=False)
