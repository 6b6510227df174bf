"""The table and the plot of an evaluation of a few-shot learner."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from rich.box import SIMPLE_HEAD
from rich.table import Table

from metarl.evaluation import intervals as statistics
from metarl.evaluation.plots import save_figure
from metarl.evaluation.vocabulary import SIDES
from metarl.evaluation.wording import TRANSDUCTIVE
from metarl.system.console import console, say
from metarl.system.counts import plural


def table(content: dict[str, Any]) -> None:
    """Show the figures: a row for each number of shots."""
    percent = content["measure"] == "accuracy"
    what = f"{content['ways']}-way accuracy, percent" if percent else "mean squared error"
    grid = Table(box=SIMPLE_HEAD, title=f"{content['agent']} on {content['suite']}: {what}", title_justify="left")
    for column in ("shots", *(SIDES[side].replace("goals", "classes") for side in content["sides"])):
        grid.add_column(column, justify="right")
    for k in range(content["shots"] + 1):
        grid.add_row(str(k), *(_cell(one["by_shots"][k], percent) for one in content["sides"].values()))
    console.print(grid)
    steps = content["sides"]["test"].get("by_steps")
    if steps:
        grid = Table(box=SIMPLE_HEAD, title="After so many gradient steps on all shots, held-out classes", title_justify="left")
        for column in ("steps", what, f"minus that of {steps['taken']}, which it takes"):
            grid.add_column(column, justify="right")
        for n, level, change in zip(steps["steps"], steps["measured"], steps["difference"]):
            grid.add_row(str(n), _cell(level, percent), _cell(change, percent, "+"))
        console.print(grid)
    say(
        f"Mean [95 % interval] over {plural(content['episodes'], 'episode')} of "
        f"{plural(content['queries'], 'query')} a class; 1 seed."
    )
    say(f"Split: {content['split']}.")
    if content["transductive"]:
        say(TRANSDUCTIVE)


def _cell(interval: Sequence[float], percent: bool, sign: str = "") -> str:
    shown = statistics.Interval(*(x if x is None else x * (100 if percent else 1) for x in interval))
    return shown.text(f"{sign}.{2 if percent else 4}f")


def plot(contents: list[dict[str, Any]], path: Path) -> None:
    """Draw the measure against shots; held-out classes as lines, training classes dashed."""
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    figure = Figure(figsize=(6, 4), layout="constrained")
    axis = figure.subplots()
    for content in contents:
        for side, style in (("test", "-"), ("train", "--")):
            if side not in content["sides"]:
                continue
            mean, low, high = np.array(content["sides"][side]["by_shots"], float).T
            label = f"{content['agent']} ({content['run']}), {'held-out' if side == 'test' else 'training'} classes"
            (line,) = axis.plot(range(len(mean)), mean, style, marker="o", ms=4, label=label)
            axis.fill_between(range(len(mean)), low, high, color=line.get_color(), alpha=0.15, lw=0)
    axis.set(xlabel="examples of each class", ylabel=contents[0]["measure"])
    axis.xaxis.set_major_locator(MaxNLocator(integer=True))
    axis.set_title(f"{contents[0]['suite']}, {contents[0]['ways']} ways", loc="left", fontsize=10)
    axis.legend(frameon=False, fontsize=8)
    save_figure(figure, path)
