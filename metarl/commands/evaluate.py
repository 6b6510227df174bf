"""`metarl evaluate`: chooses the kind of evaluation, and evaluates runs of agents that act."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro

from metarl.agents import AGENTS, FEW_SHOT, entry
from metarl.commands.arguments import CommandLine, read_command_line
from metarl.commands.evaluate_external import EvaluateExternal
from metarl.commands.evaluate_fewshot import EvaluateFewShot
from metarl.commands.evaluating import check_seeds, evaluate_runs
from metarl.envs import SUITES
from metarl.errors import UserError
from metarl.evaluation import metaworld
from metarl.evaluation.checkpoint import evaluate_checkpoint
from metarl.evaluation.control_schema import ControlEvaluation, UpstreamEvaluation
from metarl.evaluation.plan import Plan
from metarl.evaluation.plots import plot
from metarl.evaluation.tables import table
from metarl.evaluation.vocabulary import ALL_GOALS
from metarl.evaluation.wording import upstream_sentence
from metarl.runs.checkpoints import Checkpoint
from metarl.runs.directory import Run
from metarl.sharing.locations import is_packed
from metarl.sharing.opening import open_run
from metarl.system.console import say
from metarl.system.ranges import check
from metarl.system.user_code import arguments, is_named, label_of, name_again, run_file


@dataclass(frozen=True)
class Evaluate:
    """Evaluate runs on their train goals and on held-out goals. Prints a table and writes evaluation.json and a plot.

    Every goal gets the same number of trials, every trial the same number of full episodes. The table shows one row per
    episode of the trial: episode 1 is before any experience (k = 0). Repeat an interrupted command to continue it.

    To evaluate an agent that metarl did not train, use metarl evaluate --agent module:factory SUITE.
    """

    runs: tyro.conf.Positional[tuple[Path, ...]]
    """Run directories, or checkpoint folders in them. Several are evaluated in turn, and all-goals draws them in one plot."""
    plan: Annotated[Plan, tyro.conf.arg(name="")] = Plan()
    protocol: Literal["all-goals", "metaworld"] = "all-goals"
    """all-goals: every goal counts equally; metaworld: Meta-World's own evaluation code, to compare with published numbers."""
    agent: str | None = None
    """If the run's agent is your own: its file, PATH.py:NAME. metarl runs only files that you name here."""
    seeds: int = 1
    """metaworld: number of evaluations, with the seeds seed, seed + 1, ...; published figures use one."""
    quiet: bool = False
    """Print nothing but errors."""
    debug: bool = False
    """Show a traceback with an error."""

    def __post_init__(self) -> None:
        if not self.runs:
            raise UserError("name at least one run")
        check(self, seeds="[1, inf)")
        check_seeds(self.protocol, self.seeds)
        plain = Plan()
        alike = (self.plan.trials, self.plan.train_goals, self.plan.validation_goals)
        if self.protocol != ALL_GOALS and alike != (plain.trials, plain.train_goals, plain.validation_goals):
            raise UserError("--trials, --train-goals and --validation-goals are for --protocol all-goals only")

    def main(self) -> int:
        """Run the command."""
        protocol = AllGoals(self.plan) if self.protocol == ALL_GOALS else Metaworld(self.plan, self.seeds)
        return evaluate_runs(self.runs, protocol, self.agent, self.quiet)


@dataclass(frozen=True)
class AllGoals:
    """The protocol `all-goals`; see `EvaluationProtocol`."""

    plan: Plan
    step = "step"
    plot = staticmethod(plot)

    @property
    def suite(self) -> str | None:
        """See `EvaluationProtocol`."""
        return self.plan.suite

    def keeps(self, run: Run) -> bool:
        """See `EvaluationProtocol`; true if the plan plays only the run's own goals."""
        return _of_run(self.plan, run).suite is None and self.plan.suite_seed is None

    def measure(self, run: Run, checkpoint: Checkpoint, warnings: Sequence[str], quiet: bool) -> tuple[ControlEvaluation, Path]:
        """See `EvaluationProtocol`."""
        return evaluate_checkpoint(run, checkpoint, _of_run(self.plan, run), quiet=quiet, warnings=warnings)

    def table(self, run: Run, content: ControlEvaluation) -> None:
        """See `EvaluationProtocol`."""
        table(content)


@dataclass(frozen=True)
class Metaworld:
    """Meta-World's own protocol; see `EvaluationProtocol`."""

    plan: Plan
    seeds: int
    step = "step"
    plot = None

    @property
    def suite(self) -> str | None:
        """See `EvaluationProtocol`."""
        return self.plan.suite

    def keeps(self, run: Run) -> bool:
        """See `EvaluationProtocol`."""
        return False

    def measure(
        self, run: Run, checkpoint: Checkpoint, warnings: Sequence[str], quiet: bool
    ) -> tuple[UpstreamEvaluation, Path]:
        """See `EvaluationProtocol`."""
        return metaworld.evaluate_checkpoint(run, checkpoint, _of_run(self.plan, run), seeds=self.seeds, quiet=quiet)

    def table(self, run: Run, content: UpstreamEvaluation) -> None:
        """See `EvaluationProtocol`; if there is an `all-goals` evaluation too, also explain why its figures differ."""
        metaworld.table(content)
        ours = metaworld.all_goals(run, content)
        if ours is not None:
            say(upstream_sentence(content, ours))


def _of_run(plan: Plan, run: Run) -> Plan:
    """Replace a suite's file in the plan by the suite's label, or by None if it is the run's own suite."""
    if not plan.suite or not is_named(plan.suite):
        return plan
    label = label_of(plan.suite)
    return replace(plan, suite=None if label == run.experiment.suite else label)


def command(args: list[str]) -> int:
    """`metarl evaluate`: parse the arguments by the kind of the first run named (acting agent or few-shot), and evaluate.

    With a run, `--agent` names the file of the agent that it trained; without a run, it names the agent to evaluate.
    """
    line = read_command_line(args, Evaluate, EvaluateFewShot, EvaluateExternal)
    place = next((Path(text) for text in line.positionals if _is_run(text)), None)
    command: type[Any] = Evaluate
    if place is not None:
        command = EvaluateFewShot if _training(place, line) == FEW_SHOT else Evaluate
    elif "agent" in line.options:
        command = EvaluateExternal
    return tyro.cli(command, prog="metarl evaluate", args=args).main()


def _is_run(text: str) -> bool:
    """Whether the text names a run. A folder with a suite's name counts only if it holds config.json."""
    path = Path(text)
    is_suite = text.partition(":")[0] in {suite.partition(":")[0] for suite in SUITES}
    return is_packed(path) or (path.is_dir() and (not is_suite or (path / "config.json").exists()))


def _training(place: Path, line: CommandLine) -> str:
    """The run's kind of training; "" if only the agent's file could tell and it is not named."""
    config = open_run(place)[0].config
    agent, named = config["agent"], line.options.get("agent")
    if is_named(named) and label_of(str(named)) == agent:
        return entry(run_file(str(named)).label).training
    if is_named(agent) and not line.help:  # its kind of training, and therefore its options, are unknown
        name_again(config, how=f"metarl evaluate {place}{arguments(config, '')}")
    return AGENTS[agent].training if agent in AGENTS else ""
