"""`metarl compare`: compares two runs on the same goals or episodes, or several runs grouped by agent."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Literal

import tyro
from rich.box import SIMPLE_HEAD
from rich.markup import escape
from rich.table import Table

from metarl.agents import CONTROL, FEW_SHOT
from metarl.errors import UserError
from metarl.evaluation.aggregates import probability_of_improvement
from metarl.evaluation.comparison import OPTIONS, ByEpisode, ByGoal, Pairing, groups
from metarl.evaluation.intervals import Interval
from metarl.evaluation.measures import SUCCESS, Measure
from metarl.evaluation.plots import plot_profiles
from metarl.evaluation.reading import checked, evaluation, training
from metarl.evaluation.schema import Content
from metarl.evaluation.shown import best, evaluations
from metarl.evaluation.vocabulary import MODE, goal
from metarl.sharing.opening import open_run
from metarl.system.console import console, say
from metarl.system.counts import plural

_KINDS = {CONTROL: "of an agent that acts", FEW_SHOT: "of a few-shot learner"}


@dataclass(frozen=True)
class Compare:
    """Compare evaluated runs: two by paired differences on the same goals, three or more with their seeds grouped by agent.

    Few-shot learners are paired by episode. Intervals are 95 %: for two runs over goals or episodes, for more runs over runs.
    """

    runs: tyro.conf.Positional[tuple[Path, ...]]
    """Two or more run directories, checkpoint folders in them, or evaluation files."""
    side: Literal["train", "validation", "test"] = "test"
    """Which goals to compare on; for few-shot learners, which classes."""
    mode: Literal["sampled", "deterministic"] = "sampled"
    """Which actions to compare; does not apply to few-shot learners."""
    anyway: bool = False
    """Compare runs even if suite, goals, episode length or the like differ; the output then says so."""
    plot: Path | None = None
    """Draw performance profiles of success to this png, svg or pdf file (three or more runs)."""
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
        how = self._pairing(contents)
        problems = how.problems(contents)
        if problems and not self.anyway:
            raise UserError(f"these cannot be compared: {'; '.join(problems)}. --anyway compares them all the same")
        if self.plot and len(contents) < 3:
            raise UserError("--plot draws the profiles of several runs: name at least three")
        for note in (*filter(None, notes), *(f"Beware: {problem}" for problem in problems)):
            say(note)
        if len(contents) == 2:
            _pair(how, *contents)
        else:
            self._groups(how, groups(contents))
        return 0

    def _pairing(self, contents: Sequence[Content]) -> Pairing:
        """Choose how to compare these; raises UserError if their kinds differ or an option does not apply to their kind."""
        kinds = [str(training(content)) for content in contents]
        if len(set(kinds)) > 1:
            each = ", ".join(f"{content['run']} is {_KINDS[kind]}" for content, kind in zip(contents, kinds))
            raise UserError(f"runs of different kinds cannot be compared: {each}")
        if kinds[0] == CONTROL:
            return ByGoal(self.side, self.mode)
        if self.mode != MODE:
            raise UserError("--mode is for agents that act: a few-shot learner has no actions")
        if self.plot:
            raise UserError("--plot draws profiles of success, which few-shot learners do not have: metarl report draws curves")
        return ByEpisode(self.side)

    def _groups(self, how: Pairing, by_label: dict[str, list[Content]]) -> None:
        every = [content for contents in by_label.values() for content in contents]
        where = f"{every[0]['suite']}, {how.where}"
        measures = how.measures(every)
        if self.plot and SUCCESS not in measures:
            raise UserError("--plot draws profiles of success, which these environments do not report")
        acting = isinstance(how, ByGoal)
        say(f"\n{where}, last episode of the trial" if acting else f"\n{where}{_ways(every[0])}")
        for measure in measures:
            rows = {label: how.summary(contents, measure) for label, contents in by_label.items()}
            grid = _grid(measure.heading, "runs", *(f"{name} [95 %]" for name in next(iter(rows.values()))))
            for label, contents in by_label.items():
                grid.add_row(escape(label), _seeds(contents), *map(measure.text, rows[label].values()))
            console.print(grid)
            values = {label: measure.direction * how.scores(contents, measure) for label, contents in by_label.items()}
            for first, second in combinations(values, 2):
                better = probability_of_improvement(values[second], values[first])
                say(f"A run of {second} is better than one of {first} with probability {better.text('.2f')}")
        samples = "runs, each with all its tasks" if acting else "runs; for a single run, over its episodes"
        say(f"\nIntervals: bootstrap over {samples}. With few runs they are too short: in simulations they held")
        of_one = " For one run they are unknown." if acting else ""
        say(f"the truth in 75 % of cases with 3 runs, in 83 % with 5, in 91 % with 10.{of_one}")
        if self.plot:
            profiles = {label: how.scores(contents, SUCCESS) for label, contents in by_label.items()}
            plot_profiles(profiles, f"{where}, last episode", self.plot)
            say(f"written: {self.plot}")


def _pair(how: Pairing, a: Content, b: Content) -> None:
    for name, content in (("A", a), ("B", b)):
        say(f"{name}: {_title(content)}")
    measures = how.measures([a, b])
    count = how.paired(a, b, measures[-1]).count
    a, b = how.common(a, b)
    if isinstance(how, ByGoal):
        goals = plural(count, goal(how.side))
        say(f"\n{goals} that both were evaluated on, {how.mode} actions; B minus A is paired by goal")
    elif count:
        say(f"\n{plural(count, 'episode')} of {how.where} that both answered; B minus A is paired by episode")
    else:
        say(f"\n{how.where.capitalize()}; they answered different episodes, so B minus A is not paired")
    grid = _grid("", "A", "B", "B minus A [95 %]", *(["B better on"] if count else []))
    for when, at in how.points([a, b]).items():
        for measure in measures:
            ends = [_mean(how, content, measure, at) for content in (a, b)]
            paired = how.paired(a, b, measure, at)
            better = [paired.improvement.text(".2f")] if paired.improvement else []
            grid.add_row(f"{when}: {measure.heading}", *ends, measure.text(paired.difference, "+"), *better)
        grid.add_section()
    console.print(grid)
    if isinstance(how, ByGoal):
        _by_task(how, a, b)
    last = list(how.points([a, b]))[-1]
    for measure in measures:
        say(_verdict(last, how, measure, how.paired(a, b, measure, how.points([a, b])[last]).difference))
    if count:
        word = "lower" if measures[0].direction < 0 else "higher"
        tasks = " Tasks weigh the same." if isinstance(how, ByGoal) else ""
        say(f"\nB better on: share of {how.unit}s on which B's figure is {word} [95 %], ties counting half.{tasks}")
    say(f"1 run each: other seeds may differ by more than these intervals, which are over {how.unit}s.")


def _by_task(how: ByGoal, a: Content, b: Content) -> None:
    """Print the last episode per task, if there are several tasks."""
    tasks = how.tasks(a)
    if len(tasks) < 2:
        return
    measures = how.measures([a, b])
    head, *others = dict.fromkeys((measures[0], measures[-1]))
    names = [f"{measure.name}: B minus A [95 %]" for measure in others]
    grid = _grid("last episode", f"{head.name}: A", "B", "B minus A [95 %]", *names)
    for name in tasks:
        task_a, task_b = how.of_task(a, name), how.of_task(b, name)
        means = [_mean(how, content, head, -1) for content in (task_a, task_b)]
        differences = [measure.text(how.paired(task_a, task_b, measure).difference, "+") for measure in (head, *others)]
        grid.add_row(escape(name), *means, *differences)
    console.print(grid)


def load(path: Path) -> tuple[Content, str | None]:
    """Load the evaluation of a run directory, a checkpoint's folder or a file; also returns a note to print, or None.

    For a run, the evaluation also holds the training settings, under "settings".

    Raises:
        UserError: there is no evaluation, or its protocol is neither `all-goals` nor `episodes`.
    """
    if path.is_file():
        return evaluation(path), None
    run, named = open_run(path)
    content = best(evaluations(run, named.name if named else None))
    if content is None and not named and run.evaluation().exists():
        evaluation(run.evaluation())  # raises an error that says what is wrong with the file
    if content is None:
        raise UserError(f"{path} has no evaluation yet: metarl evaluate {path}")
    content, checkpoints = checked(content, path), run.checkpoints()
    options = {key: run.config["options"][key] for key in OPTIONS[str(training(content))] if key in run.config["options"]}
    settings = {**options, **run.config["settings"]}
    note = None
    if named is None and checkpoints and checkpoints[-1].name != content["checkpoint"]:
        note = f"{path} was evaluated at step {content['step']:,}, but has trained further since: metarl evaluate {path}"
    return {**content, "settings": settings}, note


def _verdict(when: str, how: Pairing, measure: Measure, difference: Interval) -> str:
    """Which run is better after all experience, as far as the interval shows."""
    words = {1: "B is better", -1: "A is better", 0: "no difference shown", None: f"one {how.unit} cannot judge"}
    sign = None if difference.sign is None else measure.direction * difference.sign
    return f"{when.capitalize()}, {measure.heading}: {words[sign]}, B minus A {measure.text(difference, '+')}."


def _title(content: Content) -> str:
    run = f"{content['run']} ({content['agent']} trained on {content['trained_on']['suite']}, seed {content['run_seed']}, "
    if "measure" in content:
        shape = plural(content["shots"], "shot")
        return f"{run}{plural(content['step'], 'update')}{_ways(content)}, {shape})"
    before = plural(content["episodes"] - 1, "episode")
    return f"{run}{plural(content['step'], 'step')}; its last episode follows {before} of experience)"


def _ways(content: Content) -> str:
    return f", {content['ways']} ways" if content["measure"] == "accuracy" else ""


def _seeds(contents: Sequence[Content]) -> str:
    seeds = [content["run_seed"] for content in contents]
    twice = f", seed {', '.join(map(str, sorted({s for s in seeds if seeds.count(s) > 1})))} more than once"
    return f"{plural(len(set(seeds)), 'seed')}{twice if len(set(seeds)) < len(seeds) else ''}"


def _mean(how: Pairing, content: Content, measure: Measure, at: int) -> str:
    return f"{measure.scale * float(how.scores([content], measure, at).mean()):{measure.form}}"


def _grid(*columns: str) -> Table:
    grid = Table(box=SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))
    for column in columns:
        grid.add_column(column)
    return grid
