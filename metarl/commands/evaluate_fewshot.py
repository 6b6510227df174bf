"""`metarl evaluate` for runs of few-shot learners; `metarl.commands.evaluate` chooses it."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from metarl.commands.evaluating import evaluate_runs
from metarl.evaluation.fewshot import Plan, evaluate_checkpoint
from metarl.evaluation.fewshot_schema import FewShotEvaluation
from metarl.evaluation.fewshot_tables import table
from metarl.evaluation.plots import plot_few_shot
from metarl.runs.checkpoints import Checkpoint
from metarl.runs.directory import Run


@dataclass(frozen=True)
class EvaluateFewShot:
    """Evaluate few-shot learners on train classes and on held-out classes. Prints a table and writes a file and a plot."""

    runs: tyro.conf.Positional[tuple[Path, ...]]
    """Run directories, or checkpoint folders in them. Several are evaluated in turn, and one plot shows all of them."""
    plan: Annotated[Plan, tyro.conf.arg(name="")] = Plan()
    agent: str | None = None
    """If the run's learner is your own: its file, PATH.py:NAME. metarl runs only files that you name here."""
    quiet: bool = False
    """Print nothing but errors."""
    debug: bool = False
    """Show a traceback with an error."""

    def main(self) -> int:
        """Run the command."""
        return evaluate_runs(self.runs, ByEpisodes(self.plan), self.agent, self.quiet)


@dataclass(frozen=True)
class ByEpisodes:
    """The protocol `episodes`; see `EvaluationProtocol`."""

    plan: Plan
    suite = None
    step = "update"
    plot = staticmethod(plot_few_shot)

    def keeps(self, run: Run) -> bool:
        """See `EvaluationProtocol`."""
        return True

    def measure(self, run: Run, checkpoint: Checkpoint, warnings: Sequence[str], quiet: bool) -> tuple[FewShotEvaluation, Path]:
        """See `EvaluationProtocol`."""
        return evaluate_checkpoint(run, checkpoint, self.plan, quiet)

    def table(self, run: Run, content: FewShotEvaluation) -> None:
        """See `EvaluationProtocol`."""
        table(content)
