"""Prints an evaluation of an acting agent in the terminal: tables, and sentences below them."""

from collections.abc import Sequence
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.table import Table

from metarl.agents import adaptation_step
from metarl.evaluation.control_schema import ControlEvaluation, OfTask
from metarl.evaluation.intervals import Interval
from metarl.evaluation.measures import SUCCESS, headline, measured
from metarl.evaluation.vocabulary import MODE, SIDES, goal
from metarl.system.console import console, say
from metarl.system.counts import plural

_WORDS = {1: "better", -1: "WORSE", 0: "no clear difference", None: "inconclusive with one goal"}
"""Verdicts by `Interval.sign`."""


def verdict(content: ControlEvaluation, side: str) -> str:
    """One sentence on how adaptation changed success and return, and whether the interval leaves any doubt."""
    figures, measures = content["sides"][side], []
    for measure in measured(content):
        difference = figures["gain"][MODE][measure.key]
        measures.append(f"{measure.name} {measure.text(difference, '+')}, {_WORDS[Interval(*difference).sign]}")
    k = content["episodes"] - 1
    return f"{SIDES[side].capitalize()}, after {plural(k, 'episode')} of experience versus none: " + "; ".join(measures) + "."


def table(content: ControlEvaluation) -> None:
    """Print success and return for each episode of the trial, with 95 % intervals over goals; fits 80 columns."""
    for side, figures in content["sides"].items():
        modes, trials = figures["by_episode"], content["trials"]
        say(f"\n{content['suite']}, {plural(len(figures['goals']), goal(side))}, {plural(trials, 'trial')} each")
        grid = Table(box=SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))
        grid.add_column("\nep.", justify="right", no_wrap=True)
        for mode in modes:
            if headline(content) == SUCCESS:
                grid.add_column(f"{mode}:\nsuccess [95 %]", no_wrap=True)
                grid.add_column("last\nstep", no_wrap=True)
                grid.add_column("\nreturn", no_wrap=True)
            else:
                grid.add_column(f"{mode}:\nreturn [95 %]", no_wrap=True)
        for e in range(content["episodes"]):
            if e and content["adapt_every"] and e % content["adapt_every"] == 0:
                grid.add_section()
            grid.add_row(str(e + 1), *[cell for measures in modes.values() for cell in _cells(measures, e)])
        blind = figures.get("goal_blind")
        if blind:
            grid.add_section()
            grid.add_row("blind", *_cells(blind["by_episode"][MODE], 0), *[""] * (len(measured(content)) * (len(modes) - 1)))
        console.print(grid)
        if figures["by_task"]:
            _task_table(figures["by_task"])
        say(verdict(content, side))
    if {"train", "test"} <= content["sides"].keys():
        say(_gap(content))
    say("\nep.: episode of the trial, with sampled or deterministic actions. Intervals: over goals.")
    if headline(content) == SUCCESS:
        say("Success: at any step of the episode, then at the last.")
    else:
        say("The environments report no success: all figures are returns.")
    if content["adapt_every"]:
        say(f"Lines separate episodes between which the agent took a {adaptation_step(content['agent'])}.")
    if any("goal_blind" in figures for figures in content["sides"].values()):
        say("blind: hovers at the centre of the train goals with the agent's own noise, and never learns where the goal is.")
    if (content["suite"], content["suite_seed"]) != tuple(content["trained_on"].values()):
        trained = content["trained_on"]
        say(
            f"The run was trained on {trained['suite']}, suite seed {trained['suite_seed']}; the held-out goals are of "
            f"{content['suite']}, suite seed {content['suite_seed']}."
        )
    if "test" not in content["sides"]:
        say("Nothing here was held out: the figures say how well it learned its tasks, not how well it adapts to new ones.")
    say(f"1 run (seed {content['run_seed']}): other seeds may differ by more than these intervals.")


def _task_table(by_task: dict[str, OfTask]) -> None:
    """Print the first and last episode of each task, with sampled actions."""
    grid = Table(box=SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))
    grid.add_column("\ntask")
    successes = all("success" in figures["by_episode"][MODE] for figures in by_task.values())
    if successes:
        grid.add_column("success, sampled:\nfirst -> last ep. [95 %]", no_wrap=True)
        grid.add_column("at the last step:\nfirst -> last ep.", no_wrap=True)
    grid.add_column("return:\nfirst -> last ep.", no_wrap=True)
    for name, figures in by_task.items():
        by = figures["by_episode"][MODE]
        row = [f"{by['success'][0][0]:.2f} -> {_short(by['success'][-1])}"] if successes else []
        row += [f"{by['last_success'][0][0]:.2f} -> {by['last_success'][-1][0]:.2f}"] if successes else []
        grid.add_row(name, *row, f"{by['return'][0][0]:,.0f} -> {by['return'][-1][0]:,.0f}")
    console.print(grid)


def _gap(content: ControlEvaluation) -> str:
    """The sentence on how much better the agent is on train goals than on held-out goals."""
    train, test = (content["sides"][side]["by_episode"][MODE] for side in ("train", "test"))
    gaps = [f"{m.name} {train[m.key][-1][0] - test[m.key][-1][0]:+{m.form}}" for m in measured(content)]
    return f"Generalisation gap, train minus held-out in the last episode: {', '.join(gaps)}."


def _cells(measures: dict[str, Any], e: int) -> list[str]:
    middle, low, top = measures["return"][e]
    if "success" not in measures:
        return [f"{middle:,.1f}" + ("" if top is None else f" [{low:,.1f},{top:,.1f}]")]
    spread = "" if top is None else f"±{top - middle:,.0f}"
    return [_short(measures["success"][e]), f"{measures['last_success'][e][0]:.2f}", f"{middle:,.0f}{spread}"]


def _short(interval: Sequence[float]) -> str:
    return Interval(*interval).text(".2f").replace(", ", ",")
