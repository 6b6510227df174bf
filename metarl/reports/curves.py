"""Drawing helpers that the figures of all kinds of runs share: bars with intervals, axes and learning curves."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter, MaxNLocator

from metarl.evaluation.measures import ERROR, Measure
from metarl.reports.drawing import INK, Picture, legend_below, one_axis, picture

_MOST_POINTS = 300
Line = tuple[str, str, str]
"""Label, colour and line style."""


def series(lines: list[dict[str, float]], key: str, most: int = _MOST_POINTS) -> np.ndarray:
    """Steps and values, (2, n); averages neighbours if there are more than `most` points, which could not be seen."""
    pairs = np.array([(line["step"], line[key]) for line in lines if key in line], dtype=float).reshape(-1, 2)
    if len(pairs) > most:
        pairs = np.array([part.mean(0) for part in np.array_split(pairs, most)])
    return pairs.T


def learning(
    name: str,
    title: str,
    lines: Sequence[tuple[Line, np.ndarray]],
    x: str,
    show: Callable[[float], str],
    length: str,
    caption: str,
    measure: Measure | None,
) -> Picture:
    """Draw a learning curve.

    Args:
        name: the name of its files.
        title: the figure's title.
        lines: the lines to draw, with their points from `series`.
        x: the unit of the steps.
        show: formats the values.
        length: the length of the training, in words.
        caption: the figure's caption.
        measure: the measure shown; None: a loss.
    """

    def draw(figure: Figure) -> None:
        axis = one_axis(figure, title, x)
        for (label, color, style), (steps, values) in lines:
            axis.plot(steps, values, style if len(steps) > 1 else "o", color=color, lw=1.6, ms=4, label=label)
        count_steps(axis)
        limits(axis, measure)
        legend_below(figure, axis)

    ends = "; ".join(f"{line[0]}: from {show(values[0])} to {show(values[-1])}" for line, (_, values) in lines)
    return picture(name, caption, f"Learning curve, {title.lower()} over {length}. {ends}.", draw)


def count_steps(axis: Any, most: int = 5) -> None:
    """Label the x axis with steps in short form, such as 1.5 M, in at most so many intervals."""
    axis.xaxis.set_major_locator(MaxNLocator(most))
    axis.xaxis.set_major_formatter(EngFormatter())


def limits(axis: Any, measure: Measure | None, *, small: bool = False) -> None:
    """Set the y limits: full range for shares; from 0 for errors and losses; from 0, or a lower minimum, for returns.

    Small axes have fewer ticks.
    """
    if measure is None or measure == ERROR:
        axis.set_ylim(0)
    elif measure.bounded:
        axis.set_ylim(-0.03, 1.03)
        axis.set_yticks(*(part[:: 2 if small else 1] for part in _QUARTERS))
    else:
        axis.set_ylim(min(0.0, axis.get_ylim()[0]))
        axis.yaxis.get_major_locator().set_params(nbins=3 if small else "auto")
        axis.yaxis.set_major_formatter("{x:,.10g}")  # keep the locator's decimals: -17.5 must not become -18


_QUARTERS = [0, 0.25, 0.5, 0.75, 1], ["0", "25 %", "50 %", "75 %", "100 %"]


def whole_steps(axis: Any) -> None:
    """Use whole numbers on the x axis."""
    axis.xaxis.get_major_locator().set_params(integer=True)


def bars(axis: Any, labels: Sequence[str], parts: Sequence[tuple[float, Any, str, str | None]], height: float) -> None:
    """Draw horizontal bars of shares with their intervals, from top to bottom.

    Args:
        axis: the axes to draw on.
        labels: of the rows.
        parts: a bar's offset below the middle of its row, the rows' intervals, colour and label.
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
