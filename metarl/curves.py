"""An evaluation as people read it: the table, the sentences above it, and the plot of the adaptation curve."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from rich.box import SIMPLE_HEAD
from rich.table import Table

from metarl.agents import adaptation_step
from metarl.cache import writing
from metarl.console import console, say
from metarl.counts import plural
from metarl.errors import UserError
from metarl.statistics import Interval

SIDES = {"train": "train goals", "validation": "validation goals", "test": "held-out goals"}
COLORS = {"train": "#9a9a9a", "validation": "#2a8f55", "test": "#1f6fb4", "blind": "#c4572e"}
_WORDS = {1: "better", -1: "WORSE", 0: "no clear difference", None: "which one goal cannot judge"}
"""By `Interval.sign`."""
PALETTE = ("#1f6fb4", "#2a8f55", "#8a4fb0", "#b08a1f", "#5a5a5a", "#b0447a")


MEASURES = (
    ("success", "success", "+.2f"),
    ("last_success", "at the last step", "+.2f"),
    ("return", "return", "+,.0f"),
)
"""What an evaluation may measure: its name in the file, in words, and how a difference is written."""


def measured(content: dict[str, Any]) -> tuple[str, ...]:
    """What an evaluation measured: returns always, success where the environments tell it."""
    by_mode = next(iter(content["sides"].values()))["figures"]
    return tuple(measure for measure, _, _ in MEASURES if measure in next(iter(by_mode.values())))


def headline(content: dict[str, Any]) -> str:
    """The measure that a reader sees first: success, or the return where the environments tell no success."""
    return measured(content)[0]


def _forms(content: dict[str, Any]) -> list[tuple[str, str, str]]:
    """`MEASURES` as far as measured; returns that stand alone may be small, and have a decimal more."""
    found = measured(content)
    return [(m, name, form if len(found) > 1 else "+,.1f") for m, name, form in MEASURES if m in found]


def verdict(content: dict[str, Any], side: str) -> str:
    """One sentence: what adaptation did to success and return, and whether the interval leaves a doubt."""
    figures, measures = content["sides"][side], []
    for measure, name, form in _forms(content):
        difference = Interval(*figures["gain"]["sampled"][measure])
        measures.append(f"{name} {difference.text(form)}, {_WORDS[difference.sign]}")
    k = content["episodes"] - 1
    return f"{SIDES[side].capitalize()}, after {plural(k, 'episode')} of experience against none: " + "; ".join(measures) + "."


def table(content: dict[str, Any]) -> None:
    """Print success and return by episode of the trial, with 95 % intervals over goals; fits 80 columns."""
    for side, figures in content["sides"].items():
        modes, trials = figures["by_episode"], content["trials"]
        say(
            f"\n{content['suite']}, {plural(len(figures['goals']), SIDES[side].removesuffix('s'))}, "
            f"{plural(trials, 'trial')} each"
        )
        grid = Table(box=SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))
        grid.add_column("\nep.", justify="right", no_wrap=True)
        for mode in modes:
            if headline(content) == "success":
                grid.add_column(f"{mode} actions:\nsuccess [95 %]", no_wrap=True)
                grid.add_column("last\nstep", no_wrap=True)
                grid.add_column("\nreturn", no_wrap=True)
            else:
                grid.add_column(f"{mode} actions:\nreturn [95 %]", no_wrap=True)
        for e in range(content["episodes"]):
            if e and content["adapt_every"] and e % content["adapt_every"] == 0:
                grid.add_section()
            grid.add_row(str(e + 1), *[cell for measures in modes.values() for cell in _cells(measures, e)])
        blind = figures.get("goal_blind")
        if blind:
            grid.add_section()
            grid.add_row(
                "blind", *_cells(blind["by_episode"]["sampled"], 0), *[""] * (len(measured(content)) * (len(modes) - 1))
            )
        console.print(grid)
        if figures["by_task"]:
            _task_table(figures["by_task"])
        say(verdict(content, side))
    if {"train", "test"} <= content["sides"].keys():
        say(_gap(content))
    if headline(content) == "success":
        say("\nep.: episode of the trial. Success: at any step of the episode; beside it at the last. Intervals: over goals.")
    else:
        say("\nep.: episode of the trial. The environments tell no success: all figures are returns. Intervals: over goals.")
    if content["adapt_every"]:
        say(f"Lines separate episodes between which the agent took a {adaptation_step(content['agent'])}.")
    if any("goal_blind" in figures for figures in content["sides"].values()):
        say("blind: hovers at the centre of the train goals with the agent's own noise, and never learns where the goal is.")
    if (content["suite"], content["suite_seed"]) != tuple(content["trained_on"].values()):
        trained = content["trained_on"]
        say(f"The run was trained on {trained['suite']}, suite seed {trained['suite_seed']}; the held-out goals are of "
            f"{content['suite']}, suite seed {content['suite_seed']}.")  # fmt: skip
    if "test" not in content["sides"]:
        say("Nothing here was held out: the figures say how well it learned its tasks, not how well it adapts to new ones.")
    say(f"1 run (seed {content['run_seed']}): other seeds may differ by more than these intervals.")


def _task_table(by_task: dict[str, Any]) -> None:
    """Each task's first and last episode, by sampled actions."""
    grid = Table(box=SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))
    grid.add_column("\ntask")
    told = all("success" in figures["by_episode"]["sampled"] for figures in by_task.values())
    if told:
        grid.add_column("success, sampled:\nfirst -> last ep. [95 %]", no_wrap=True)
        grid.add_column("at the last step:\nfirst -> last ep.", no_wrap=True)
    grid.add_column("return:\nfirst -> last ep.", no_wrap=True)
    for name, figures in by_task.items():
        by = figures["by_episode"]["sampled"]
        row = [f"{by['success'][0][0]:.2f} -> {_short(by['success'][-1])}"] if told else []
        row += [f"{by['last_success'][0][0]:.2f} -> {by['last_success'][-1][0]:.2f}"] if told else []
        grid.add_row(name, *row, f"{by['return'][0][0]:,.0f} -> {by['return'][-1][0]:,.0f}")
    console.print(grid)


def _gap(content: dict[str, Any]) -> str:
    """How much better the agent is on what it trained on."""
    train, test = (content["sides"][side]["by_episode"]["sampled"] for side in ("train", "test"))
    gaps = [f"{name} {train[measure][-1][0] - test[measure][-1][0]:{form}}" for measure, name, form in _forms(content)]
    return f"Generalisation gap, train minus held-out in the last episode: {', '.join(gaps)}."


def _cells(measures: dict[str, Any], e: int) -> list[str]:
    middle, low, top = measures["return"][e]
    if "success" not in measures:
        return [f"{middle:,.1f}" + ("" if top is None else f" [{low:,.1f},{top:,.1f}]")]
    spread = "" if top is None else f"±{top - middle:,.0f}"
    return [_short(measures["success"][e]), f"{measures['last_success'][e][0]:.2f}", f"{middle:,.0f}{spread}"]


def _short(interval: Sequence[float]) -> str:
    return Interval(*interval).text(".2f").replace(", ", ",")


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
                experience, mean, "-" if curve.mode == "sampled" else "--", color=curve.color, lw=2, marker="o", ms=4,
                label=curve.label,
            )  # fmt: skip
            axis.fill_between(experience, low, high, color=curve.color, alpha=0.12, lw=0)
        blind = one["sides"].get("test", {}).get("goal_blind")
        if blind:
            value = blind["by_episode"]["sampled"][measure][0][0]
            axis.axhline(value, color=COLORS["blind"], lw=1.5, ls=":", label="goal-blind, held-out goals")
        if len(contents) == 1 and one["adapt_every"]:
            for k in range(one["adapt_every"], longest, one["adapt_every"]):
                axis.axvline(k - 0.5, color="0.6", lw=1)
            axes[0].annotate(
                adaptation_step(one["agent"]), (one["adapt_every"] - 0.5, 0.03), xycoords=("data", "axes fraction"),
                rotation=90, fontsize=8, color="0.4", ha="right",
            )  # fmt: skip
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
