"""`metarl evaluate`: of runs of agents that act, and the choice between the kinds of evaluation."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro

from metarl.agents import AGENTS, FEW_SHOT, entry
from metarl.commands.arguments import Named, glance
from metarl.commands.evaluate_external import EvaluateOwn
from metarl.commands.evaluate_fewshot import EvaluateFewShot
from metarl.envs import SUITES
from metarl.errors import UserError
from metarl.evaluation.checkpoint import evaluate_checkpoint
from metarl.evaluation.plan import PROTOCOL, Plan
from metarl.evaluation.plots import plot
from metarl.evaluation.tables import table
from metarl.runs.directory import Run
from metarl.runs.evaluations import keep
from metarl.sharing.locations import is_packed
from metarl.sharing.opening import open_run
from metarl.system.console import say
from metarl.system.counts import plural
from metarl.system.file_names import file_name
from metarl.system.ranges import check
from metarl.system.user_code import arguments, is_named, label_of, name_again, run_file


@dataclass(frozen=True)
class Evaluate:
    """Evaluate runs on the goals that they trained on and on held-out goals: a table, evaluation.json and a plot.

    Every goal gets the same number of trials, every trial the same number of full episodes. Figures are shown by episode
    of the trial: episode 1 is before any experience (k = 0). An interrupted evaluation goes on where it stopped.

    An agent of your own is evaluated by metarl evaluate --agent module:factory SUITE.
    """

    runs: tyro.conf.Positional[tuple[Path, ...]]
    """A run directory, or a checkpoint's folder in one; several: each is evaluated, and one plot shows them all."""
    plan: Annotated[Plan, tyro.conf.arg(name="")] = Plan()
    protocol: Literal["all-goals", "metaworld"] = "all-goals"
    """all-goals; or metaworld: the figure of Meta-World's own evaluation code, to stand beside published ones."""
    agent: str | None = None
    """Of a run of an agent of your own: its file, PATH.py:NAME. Files are run only where they are named here."""
    seeds: int = 1
    """metaworld: evaluations, with the seeds seed, seed + 1, ...; published figures are of one."""
    quiet: bool = False
    """Print nothing but errors."""
    debug: bool = False
    """Show a traceback with an error."""

    def __post_init__(self) -> None:
        if not self.runs:
            raise UserError("name at least one run")
        check(self, seeds="[1, inf)")
        if self.seeds > 1 and self.protocol == PROTOCOL:
            raise UserError("seeds is of --protocol metaworld; all-goals repeats by --trials")
        plain = Plan()
        alike = (self.plan.trials, self.plan.train_goals, self.plan.validation_goals)
        if self.protocol != PROTOCOL and alike != (plain.trials, plain.train_goals, plain.validation_goals):
            raise UserError(
                "--trials, --train-goals and --validation-goals are of --protocol all-goals: stock's rules have none"
            )

    def main(self) -> int:
        """Run the command."""
        opened = [open_run(path) for path in self.runs]  # so that a wrong one is refused before any work
        try:
            contents = [self._one(run, named) for run, named in opened]
        except KeyboardInterrupt:
            say("\nInterrupted: the same command goes on where it stopped")
            raise
        if len(contents) > 1 and self.protocol == PROTOCOL:
            first, *others = (run.path for run, _ in opened)
            picture = first / "evaluations" / f"beside_{file_name(*(path.name for path in others))}.png"
            plot(contents, picture)
            if not self.quiet:
                say(f"\nall in one plot: {picture}")
        return 0

    def _one(self, run: Run, named: Path | None) -> dict[str, Any]:
        checkpoint = run.usable(named, "evaluating")
        if not self.quiet:
            say(f"Evaluating {run.path.name}, checkpoint {checkpoint.path.name} ({plural(checkpoint.step, 'step')})")
        how, plan = f"metarl evaluate {run.path}{arguments(run.config, '')}", self.plan
        changed = name_again(checkpoint.config, plan.suite, self.agent, how=how)
        for change in changed:
            say(f"Beware: {change}")
        if plan.suite and is_named(plan.suite):
            label = label_of(plan.suite)
            plan = replace(plan, suite=None if label == run.config["suite"] else label)
        if self.protocol != PROTOCOL:
            from metarl.evaluation import metaworld as metaworld_protocol

            return metaworld_protocol.command(run, checkpoint, plan, seeds=self.seeds, quiet=self.quiet)
        content, path = evaluate_checkpoint(run, checkpoint, plan, quiet=self.quiet, warnings=changed)
        stays = None
        if named is None and plan.suite is None and plan.suite_seed is None:
            stays = keep(run, path)
        picture = path.with_suffix(".png")
        plot([content], picture)
        if not self.quiet:
            table(content)
            say(f"\nwritten: {path}\n         {picture}")
            if stays:
                say(stays)
        return content


def command(args: list[str]) -> int:
    """`metarl evaluate`: of robots, or of a few-shot learner, as the first run that is named; or of an agent of one's own.

    `--agent` beside a run names the file of the agent that it trained; without a run it is an agent to evaluate.
    """
    given = glance(args, Evaluate, EvaluateFewShot, EvaluateOwn)
    place = next((Path(text) for text in given.places if _is_run(text)), None)
    command: type[Any] = Evaluate
    if place is not None:
        command = EvaluateFewShot if _training(place, given) == FEW_SHOT else Evaluate
    elif "agent" in given.options:
        command = EvaluateOwn
    return tyro.cli(command, prog="metarl evaluate", args=args).main()


def _is_run(text: str) -> bool:
    """Whether this names a run, or is meant to; a suite is none, whatever folders there are."""
    path = Path(text)
    is_suite = text.partition(":")[0] in {suite.partition(":")[0] for suite in SUITES}
    return is_packed(path) or (path.is_dir() and (not is_suite or (path / "config.json").exists()))


def _training(place: Path, given: Named) -> str:
    """The kind of training of a run; "" where only a file that is not named knows it."""
    config = open_run(place)[0].config
    agent, named = config["agent"], given.options.get("agent")
    if is_named(named) and label_of(str(named)) == agent:
        return entry(run_file(str(named)).label).training
    if is_named(agent) and not given.help:  # its kind of training, and so its options, are unknown
        name_again(config, how=f"metarl evaluate {place}{arguments(config, '')}")
    return AGENTS[agent].training if agent in AGENTS else ""
