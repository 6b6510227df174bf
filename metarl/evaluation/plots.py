"""Draws plots of evaluations: adaptation curves, curves over shots, performance profiles."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from metarl.agents import adaptation_step
from metarl.errors import UserError
from metarl.evaluation.aggregates import performance_profile
from metarl.evaluation.control_schema import ControlEvaluation
from metarl.evaluation.fewshot_schema import FewShotEvaluation
from metarl.evaluation.measures import RETURN, SUCCESS, headline
from metarl.evaluation.vocabulary import COLORS, MODE, PALETTE, SIDES
from metarl.system.counts import plural
from metarl.system.files import writing


def band(axis: Any, rows: Any, label: str, color: str | None = None, style: str = "-", x: Any = None) -> None:
    """Draw a curve with its interval.

    Args:
        axis: the axes to draw on.
        rows: an interval for each point; no band is drawn where an end is unknown.
        label, color, style: of the line.
        x: the points; default: 0, 1, ...
    """
    mean, low, high = np.array(rows, float).T  # an unknown end becomes NaN
    points = list(range(len(mean)) if x is None else x)
    (line,) = axis.plot(points, mean, style, color=color, lw=1.8, marker="o", ms=3.5, label=label)
    axis.fill_between(points, low, high, color=line.get_color(), alpha=0.16, lw=0)


def profile(axis: Any, scores: np.ndarray, label: str, color: str | None = None, style: str = "-") -> None:
    """Draw the share of runs and tasks above each success rate, with its interval; scores are (runs, tasks)."""
    rates = np.linspace(0, 1, 101)
    share, low, high = performance_profile(scores, rates).T
    (line,) = axis.step(rates, share, style, where="post", color=color, lw=1.8, label=label)
    axis.fill_between(rates, low, high, step="post", color=line.get_color(), alpha=0.15, lw=0)


def plot_profiles(scores: dict[str, np.ndarray], title: str, path: Path) -> None:
    """Draw the performance profiles of groups of runs.

    Raises:
        UserError: the file cannot be written.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6, 4), layout="constrained")
    axis = figure.subplots()
    for label, values in scores.items():
        profile(axis, values, f"{label} ({plural(len(values), 'run')})")
    axis.set(xlabel="success", ylabel="share of runs and tasks above", ylim=(-0.03, 1.03))
    axis.set_title(title, loc="left", fontsize=10)
    _legend(figure, axis)
    save_figure(figure, path)


def plot_few_shot(contents: Sequence[FewShotEvaluation], path: Path) -> None:
    """Draw the measure against shots: held-out classes solid, training classes dashed.

    Raises:
        UserError: the file cannot be written.
    """
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    figure = Figure(figsize=(6, 4), layout="constrained")
    axis = figure.subplots()
    for content in contents:
        for side, where, style in (("test", "held-out", "-"), ("train", "training", "--")):
            if side in content["sides"]:
                label = f"{content['agent']} ({content['run']}), {where} classes"
                band(axis, content["sides"][side]["by_shots"], label, style=style)
    axis.set(xlabel="examples of each class", ylabel=contents[0]["measure"])
    axis.xaxis.set_major_locator(MaxNLocator(integer=True))
    axis.set_title(f"{contents[0]['suite']}, {contents[0]['ways']} ways", loc="left", fontsize=10)
    _legend(figure, axis)
    save_figure(figure, path)


def plot(contents: Sequence[ControlEvaluation], path: Path) -> None:
    """Draw adaptation curves: success and return against episodes of experience.

    For one evaluation, shows all its sides and kinds of actions; for several, the held-out goals of each.

    Raises:
        UserError: the file cannot be written.
    """
    from matplotlib import rc_context

    style: Any = {"axes.spines.top": False, "axes.spines.right": False, "axes.grid": True, "grid.alpha": 0.25}
    with rc_context({"font.size": 11, **style}):
        save_figure(_drawn(contents), path)


def save_figure(figure: Any, path: Path) -> None:
    """Write a matplotlib figure, without a backend: the setting of MPLBACKEND or a notebook has no effect and stays.

    Raises:
        UserError: the file cannot be written, or its ending names no format.
    """
    try:
        with writing(str(path)):
            path.parent.mkdir(parents=True, exist_ok=True)
            figure.savefig(path, dpi=120)
    except ValueError as error:  # unknown format
        if isinstance(error, UserError):
            raise
        raise UserError(f"could not write {path}: {error}") from None


def _legend(figure: Any, axis: Any, columns: int = 1) -> None:
    """Put the legend of one pair of axes below the figure, where it covers no curve; the figure grows by its rows."""
    handles, labels = axis.get_legend_handles_labels()
    figure.set_figheight(figure.get_figheight() + 0.2 * -(-len(labels) // columns))
    figure.legend(handles, labels, loc="outside lower left", ncols=columns, frameon=False, fontsize=9)


def _drawn(contents: Sequence[ControlEvaluation]) -> Any:
    from matplotlib.figure import Figure

    head = headline(*contents)
    titles = {measure: _TITLES[measure.key] for measure in dict.fromkeys((head, RETURN if head == SUCCESS else head))}
    figure = Figure(figsize=(5 * len(titles), 4.2), layout="constrained")
    axes = figure.subplots(1, len(titles), squeeze=False)[0]
    first, longest = contents[0], max(content["episodes"] for content in contents)
    for axis, (measure, title) in zip(axes, titles.items()):
        for curve in _curves(contents):
            style = "-" if curve.mode == MODE else "--"
            band(axis, curve.figures[curve.mode][measure.key], curve.label, curve.color, style)
        blind = first["sides"]["test"].get("goal_blind") if "test" in first["sides"] else None
        if blind:
            value = blind["by_episode"][MODE][measure.key][0][0]
            axis.axhline(value, color=COLORS["blind"], lw=1.5, ls=":", label="goal-blind, held-out goals")
        if len(contents) == 1 and first["adapt_every"] and first["adapt_every"] < longest:
            for k in range(first["adapt_every"], longest, first["adapt_every"]):
                axis.axvline(k - 0.5, color="0.6", lw=1)
            axes[0].annotate(
                adaptation_step(first["agent"]),
                (first["adapt_every"] - 0.5, 0.03),
                xycoords=("data", "axes fraction"),
                rotation=90,
                fontsize=8,
                color="0.4",
                ha="right",
            )
        axis.set_xlabel("episodes of experience with the goal (k)")
        axis.set_title(title, loc="left", fontsize=11)
        axis.set_xticks(range(longest))
    if head.bounded:
        axes[0].set_ylim(-0.03, 1.03)
    _legend(figure, axes[0], columns=len(axes))
    what = " and ".join(f"{c['agent']} ({plural(c['step'], 'step')}, seed {c['run_seed']})" for c in contents)
    suites = " and ".join(dict.fromkeys(content["suite"] for content in contents))
    figure.suptitle(f"{what} on {suites}; bands: 95 % intervals over goals", x=0.01, ha="left", fontsize=11, wrap=True)
    return figure


_TITLES = {"success": "success (at any step)", "return": "return of the episode"}


class _Curve(NamedTuple):
    """A line in the plot: figures by mode and measure, the mode to draw, and its look."""

    figures: dict[str, Any]
    mode: str
    color: str
    label: str


def _curves(contents: Sequence[ControlEvaluation]) -> Iterator[_Curve]:
    for i, content in enumerate(contents):
        for side, figures in content["sides"].items():
            for mode in figures["by_episode"]:
                if len(contents) == 1:
                    yield _Curve(figures["by_episode"], mode, COLORS[side], f"{SIDES[side]}, {mode} actions")
                elif side == "test":
                    name = f"{content['agent']} ({content['run']}), {mode} actions"
                    yield _Curve(figures["by_episode"], mode, PALETTE[i % len(PALETTE)], name)
