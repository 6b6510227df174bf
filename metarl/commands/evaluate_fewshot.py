"""`metarl evaluate` of few-shot learners."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import tyro

from metarl.evaluation.fewshot import Plan, evaluate_checkpoint
from metarl.evaluation.fewshot_tables import plot, table
from metarl.runs.directory import Run
from metarl.runs.evaluations import keep
from metarl.sharing.opening import open_run
from metarl.system.console import say
from metarl.system.file_names import file_name
from metarl.system.user_code import arguments, name_again


@dataclass(frozen=True)
class EvaluateFewShot:
    """Evaluate few-shot learners on classes that they trained on and on held-out classes: a table, a file and a plot."""

    runs: tyro.conf.Positional[tuple[Path, ...]]
    """A run directory, or a checkpoint's folder in one; several: each is evaluated, and one plot shows them all."""
    plan: Annotated[Plan, tyro.conf.arg(name="")] = Plan()
    agent: str | None = None
    """Of a run of a learner of your own: its file, PATH.py:NAME. Files are run only where they are named here."""
    quiet: bool = False
    """Print nothing but errors."""
    debug: bool = False
    """Show a traceback with an error."""

    def main(self) -> int:
        """Run the command."""
        opened = [open_run(path) for path in self.runs]
        contents = [self._one(run, named) for run, named in opened]
        if len(contents) > 1:
            beside = file_name(*(run.path.name for run, _ in opened[1:]))
            picture = opened[0][0].path / "evaluations" / f"beside_{beside}.png"
            plot(contents, picture)
            if not self.quiet:
                say(f"\nall in one plot: {picture}")
        return 0

    def _one(self, run: Run, named: Path | None) -> dict[str, Any]:
        checkpoint = run.usable(named, "evaluating")
        how = f"metarl evaluate {run.path}{arguments(run.config, '')}"
        for change in name_again(checkpoint.config, self.agent, how=how):
            say(f"Beware: {change}")
        content, path = evaluate_checkpoint(run, checkpoint, self.plan, self.quiet)
        stays = keep(run, path) if named is None else None
        plot([content], path.with_suffix(".png"))
        if not self.quiet:
            table(content)
            say(f"\nwritten: {path}\n         {path.with_suffix('.png')}")
            if stays:
                say(stays)
        return content
