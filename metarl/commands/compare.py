"""`metarl compare`: two runs on the same goals, or several runs of some agents with their seeds together."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any, Literal

import numpy as np
import tyro
from rich.box import SIMPLE_HEAD
from rich.markup import escape
from rich.table import Table

from metarl.errors import UserError
from metarl.evaluation.comparison import (
    NEEDED,
    OPTIONS,
    Content,
    aggregate,
    groups,
    incomparable,
    paired,
    performance_profile,
    probability_of_improvement,
    scores,
)
from metarl.evaluation.intervals import Interval
from metarl.evaluation.plots import save_figure
from metarl.evaluation.vocabulary import SIDES, measured
from metarl.runs.evaluations import best, evaluations
from metarl.sharing.opening import open_run
from metarl.system.console import console, say
from metarl.system.counts import plural

MEASURES = {
    "success": ("success (any step)", ".2f"),
    "last_success": ("success (last step)", ".2f"),
    "return": ("return", ",.0f"),
}


@dataclass(frozen=True)
class Compare:
    """Compare evaluated runs: two by their paired differences on the same goals, more with their seeds grouped by agent.

    Intervals are 95 %: of two runs over goals, of several runs over runs.
    """

    runs: tyro.conf.Positional[tuple[Path, ...]]
    """Run directories, checkpoints' folders in them, or files of evaluations; two or more."""
    side: Literal["train", "validation", "test"] = "test"
    """Which goals."""
    mode: Literal["sampled", "mean"] = "sampled"
    """Which actions."""
    anyway: bool = False
    """Compare also what differs in suite, goals, horizon and the like; it is said."""
    plot: Path | None = None
    """Where to draw performance profiles of success (several runs), a png, svg or pdf."""
    debug: bool = False
    """Show a traceback with an error."""

    def main(self) -> int:
        """Run the command."""
        if len(self.runs) < 2:
            raise UserError("name at least two runs to compare")
        named = [path.resolve() for path in self.runs]
        if len(set(named)) < len(named):
            raise UserError("the same run is named twice")
        contents, notes = zip(*map(load, self.runs))
        problems = incomparable(contents, self.side)
        if problems and not self.anyway:
            raise UserError(f"these cannot be compared: {'; '.join(problems)}. --anyway compares them all the same")
        if self.plot and len(contents) < 3:
            raise UserError("--plot draws the profiles of several runs: name at least three")
        for note in (*filter(None, notes), *(f"Beware: {problem}" for problem in problems)):
            say(note)
        if len(contents) == 2:
            self._two(*contents)
        else:
            self._several(groups(contents))
        return 0

    def _two(self, a: Content, b: Content) -> None:
        for name, content in (("A", a), ("B", b)):
            say(f"{name}: {_title(content)}")
        measures = _measures(a, b)
        goals = paired(a, b, self.side, self.mode, "return").goals
        one, other = (content["sides"][self.side]["goals"] for content in (a, b))
        a, b = _only(a, self.side, other), _only(b, self.side, one)
        say(
            f"\n{plural(goals, SIDES[self.side].removesuffix('s'))} that both were "
            f"evaluated on, {self.mode} actions; B minus A is paired by goal"
        )
        grid = _grid("", "A", "B", "B minus A [95 %]", "B better on")
        for episode, when in ((0, "first episode"), (-1, "last episode")):
            for measure, (name, form) in measures.items():
                ends = [f"{_mean(content, self.side, self.mode, measure, episode):{form}}" for content in (a, b)]
                found = paired(a, b, self.side, self.mode, measure, episode)
                grid.add_row(f"{when}: {name}", *ends, found.difference.text("+" + form), found.improvement.text(".2f"))
            grid.add_section()
        console.print(grid)
        self._by_task(a, b)
        for measure, (name, form) in measures.items():
            say(_verdict(name, form, paired(a, b, self.side, self.mode, measure).difference))
        say("\nB better on: share of goals on which B's figure is higher [95 %], ties counting half. Tasks weigh the same.")
        say("1 run each: other seeds may differ by more than these intervals, which are over goals.")

    def _by_task(self, a: Content, b: Content) -> None:
        """The last episode by task, where there are several."""
        tasks = list(dict.fromkeys(name for name, _ in a["sides"][self.side]["goals"]))
        if len(tasks) < 2:
            return
        head = next(iter(_measures(a, b)))
        form = _measures(a, b)[head][1]
        others = ["return: B minus A [95 %]"] if head == "success" else []
        grid = _grid("last episode", f"{head}: A", "B", "B minus A [95 %]", *others)
        for name in tasks:
            mine = [goal for goal in a["sides"][self.side]["goals"] if goal[0] == name]
            one, other = _only(a, self.side, mine), _only(b, self.side, mine)
            means = [f"{_mean(content, self.side, self.mode, head):{form}}" for content in (one, other)]
            found = [paired(one, other, self.side, self.mode, m).difference for m in dict.fromkeys((head, "return"))]
            grid.add_row(escape(name), *means, *(d.text(f) for d, f in zip(found, (f"+{form}", "+,.0f"))))
        console.print(grid)

    def _several(self, found: dict[str, list[Content]]) -> None:
        some = next(iter(found.values()))[0]
        say(f"\n{some['suite']}, {SIDES[self.side]}, {self.mode} actions, last episode of the trial")
        measures = _measures(*(content for contents in found.values() for content in contents))
        if self.plot and "success" not in measures:
            raise UserError("--plot draws profiles of success, which these environments do not tell")
        for measure, (name, form) in measures.items():
            values = {label: scores(contents, self.side, self.mode, measure) for label, contents in found.items()}
            grid = _grid(name, "runs", "mean [95 %]", "interquartile mean [95 %]", "median of tasks [95 %]")
            for label, contents in found.items():
                intervals = aggregate(values[label]).values()
                grid.add_row(escape(label), _seeds(contents), *(interval.text(form) for interval in intervals))
            console.print(grid)
            for one, other in combinations(values, 2):
                better = probability_of_improvement(values[other], values[one])
                say(f"A run of {other} is better than one of {one} with probability {better.text('.2f')}")
        say("\nIntervals: bootstrap over runs, each with all its tasks. Over few runs they are too short: simulated, they held")
        say("the truth in 75 % of cases with 3 runs, in 83 % with 5, in 91 % with 10. Of one run they are unknown.")
        if self.plot:
            profiles = {label: scores(contents, self.side, self.mode, "success") for label, contents in found.items()}
            plot_profiles(profiles, f"{some['suite']}, {SIDES[self.side]}, {self.mode} actions, last episode", self.plot)
            say(f"written: {self.plot}")


def _measures(*contents: Content) -> dict[str, tuple[str, str]]:
    """Those of `MEASURES` that all of the evaluations have: environments of one's own need not tell success."""
    found = {key: value for key, value in MEASURES.items() if all(key in measured(content) for content in contents)}
    return found if len(found) > 1 else {"return": ("return", ",.1f")}


def load(path: Path) -> tuple[Content, str | None]:
    """The evaluation of a run directory, of a checkpoint's folder in one, or in a file; and what is to be said about it.

    A run's settings of training stand in it under "settings".

    Raises:
        UserError: there is none, or it is not an evaluation of all goals.
    """
    if path.is_file():
        return _read(path), None
    run, named = open_run(path)
    found = best(evaluations(run, named.name if named else None))
    if found is None and not named and run.evaluation().exists():
        _read(run.evaluation())  # says what is wrong with it
    if found is None:
        raise UserError(f"{path} has no evaluation yet: metarl evaluate {path}")
    content, checkpoints = _checked(found, path), run.checkpoints()
    options = {key: run.config["options"][key] for key in OPTIONS if key in run.config["options"]}
    content["settings"] = {**options, **run.config["settings"]}
    note = None
    if named is None and checkpoints and checkpoints[-1].name != content["checkpoint"]:
        note = f"{path} was evaluated at step {content['step']:,}, and has gone on since: metarl evaluate {path}"
    return content, note


def plot_profiles(profiles: dict[str, np.ndarray], title: str, path: Path) -> None:
    """Draw the share of runs and tasks above each success rate, by group of runs (runs, tasks), with its interval."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6, 4), layout="constrained")
    axis = figure.subplots()
    thresholds = np.linspace(0, 1, 101)
    for label, values in profiles.items():
        share, low, high = performance_profile(values, thresholds).T
        (line,) = axis.step(thresholds, share, where="post", lw=2, label=f"{label} ({plural(len(values), 'run')})")
        axis.fill_between(thresholds, low, high, step="post", color=line.get_color(), alpha=0.15, lw=0)
    axis.set(xlabel="success", ylabel="share of runs and tasks above", ylim=(-0.03, 1.03))
    axis.set_title(title, loc="left", fontsize=10)
    axis.legend(frameon=False, fontsize=9)
    save_figure(figure, path)


def _read(file: Path) -> Content:
    try:
        content = json.loads(file.read_text())
    except OSError as error:
        raise UserError(f"could not read {file}: {error.strerror}") from None
    except (ValueError, RecursionError):
        raise UserError(f"{file} is damaged or no evaluation") from None
    return _checked(content, file)


def _checked(content: Any, file: Path) -> Content:
    sides = content.get("sides") if isinstance(content, dict) else None
    known = isinstance(sides, dict) and sides.keys() <= SIDES.keys()
    if not sides or not known or not all(isinstance(side, dict) and "figures" in side for side in sides.values()):
        raise UserError(f"{file} is no evaluation of all goals (metarl evaluate RUN makes one)")
    if not {"trained_on", "run_seed", "step", *NEEDED} <= content.keys():
        raise UserError(f"{file} was made by another version of metarl: evaluate that run again")
    return content


def _verdict(name: str, form: str, difference: Interval) -> str:
    """Who is better in the last episode, as far as the interval shows it."""
    words = {1: "B is better", -1: "A is better", 0: "no difference shown", None: "one goal cannot judge"}
    return f"Last episode, {name}: {words[difference.sign]}, B minus A {difference.text('+' + form)}."


def _title(content: Content) -> str:
    trained, k = content["trained_on"]["suite"], content["episodes"] - 1
    return (
        f"{content['run']} ({content['agent']} trained on {trained}, seed "
        f"{content['run_seed']}, {plural(content['step'], 'step')}; "
        f"its last episode follows {k} of experience)"
    )


def _seeds(contents: Sequence[Content]) -> str:
    seeds = [content["run_seed"] for content in contents]
    twice = f", seed {', '.join(map(str, sorted({s for s in seeds if seeds.count(s) > 1})))} more than once"
    return f"{plural(len(set(seeds)), 'seed')}{twice if len(set(seeds)) < len(seeds) else ''}"


def _mean(content: Content, side: str, mode: str, measure: str, episode: int = -1) -> float:
    return float(scores([content], side, mode, measure, episode).mean())


def _only(content: Content, side: str, goals: list[Any]) -> Content:
    """The evaluation with none but these goals of a side; a goal is its task's name and parameters."""
    whole = content["sides"][side]
    mine = [i for i, goal in enumerate(whole["goals"]) if goal in goals]
    figures = {mode: {k: [v[i] for i in mine] for k, v in measures.items()} for mode, measures in whole["figures"].items()}
    return {**content, "sides": {side: {"goals": [whole["goals"][i] for i in mine], "figures": figures}}}


def _grid(*columns: str) -> Table:
    grid = Table(box=SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))
    for column in columns:
        grid.add_column(column)
    return grid
