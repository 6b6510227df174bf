"""The plot of adaptation curves."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from metarl.agents import adaptation_step
from metarl.errors import UserError
from metarl.evaluation.vocabulary import COLORS, PALETTE, SIDES, headline
from metarl.system.counts import plural
from metarl.system.files import writing


def plot(contents: Sequence[dict[str, Any]], path: Path) -> None:
    """Draw adaptation curves: success and return against episodes of experience.

    One evaluation: train and held-out goals, sampled and mean actions. Several: each one's held-out goals.

    Raises:
        UserError: the file cannot be written.
    """
    from matplotlib import rc_context

    style: Any = {"axes.spines.top": False, "axes.spines.right": False, "axes.grid": True, "grid.alpha": 0.25}
    with rc_context({"font.size": 11, **style}):
        save_figure(_drawn(contents), path)


def save_figure(figure: Any, path: Path) -> None:
    """Write a figure of matplotlib's, which needs no backend: whatever MPLBACKEND or a notebook says stays as it is.

    Raises:
        UserError: the file cannot be written, or its ending is of no format.
    """
    try:
        with writing(str(path)):
            path.parent.mkdir(parents=True, exist_ok=True)
            figure.savefig(path, dpi=120)
    except ValueError as error:  # no such format
        if isinstance(error, UserError):
            raise
        raise UserError(f"could not write {path}: {error}") from None


def _drawn(contents: Sequence[dict[str, Any]]) -> Any:
    from matplotlib.figure import Figure

    shown = {"success": "success (at any step)", "return": "return of the episode"}
    if any(headline(content) == "return" for content in contents):
        del shown["success"]
    figure = Figure(figsize=(5 * len(shown), 4.2), layout="constrained")
    axes = figure.subplots(1, len(shown), squeeze=False)[0]
    one, longest = contents[0], max(content["episodes"] for content in contents)
    for axis, (measure, label) in zip(axes, shown.items()):
        for curve in _curves(contents):
            mean, low, high = np.array(curve.figures[curve.mode][measure], float).T  # an unknown end becomes NaN: no band
            experience = range(len(mean))
            axis.plot(
                experience,
                mean,
                "-" if curve.mode == "sampled" else "--",
                color=curve.color,
                lw=2,
                marker="o",
                ms=4,
                label=curve.label,
            )
            axis.fill_between(experience, low, high, color=curve.color, alpha=0.12, lw=0)
        blind = one["sides"].get("test", {}).get("goal_blind")
        if blind:
            value = blind["by_episode"]["sampled"][measure][0][0]
            axis.axhline(value, color=COLORS["blind"], lw=1.5, ls=":", label="goal-blind, held-out goals")
        if len(contents) == 1 and one["adapt_every"]:
            for k in range(one["adapt_every"], longest, one["adapt_every"]):
                axis.axvline(k - 0.5, color="0.6", lw=1)
            axes[0].annotate(
                adaptation_step(one["agent"]),
                (one["adapt_every"] - 0.5, 0.03),
                xycoords=("data", "axes fraction"),
                rotation=90,
                fontsize=8,
                color="0.4",
                ha="right",
            )
        axis.set_xlabel("episodes of experience with the goal (k)")
        axis.set_title(label, loc="left", fontsize=11)
        axis.set_xticks(range(longest))
    if "success" in shown:
        axes[0].set_ylim(-0.03, 1.03)
    axes[-1].legend(frameon=False, fontsize=9, loc="best", handlelength=3.5)
    what = " and ".join(f"{c['agent']} ({plural(c['step'], 'step')}, seed {c['run_seed']})" for c in contents)
    suites = " and ".join(dict.fromkeys(content["suite"] for content in contents))
    figure.suptitle(f"{what} on {suites}; bands: 95 % intervals over goals", x=0.01, ha="left", fontsize=11, wrap=True)
    return figure


class _Curve(NamedTuple):
    """A line in the plot: figures by mode and measure, which mode, and how it looks."""

    figures: dict[str, Any]
    mode: str
    color: str
    label: str


def _curves(contents: Sequence[dict[str, Any]]) -> Iterator[_Curve]:
    for i, content in enumerate(contents):
        for side, figures in content["sides"].items():
            for mode in figures["by_episode"]:
                if len(contents) == 1:
                    yield _Curve(figures["by_episode"], mode, COLORS[side], f"{SIDES[side]}, {mode} actions")
                elif side == "test":
                    name = f"{content['agent']} ({content['run']}), {mode} actions"
                    yield _Curve(figures["by_episode"], mode, PALETTE[i % len(PALETTE)], name)
