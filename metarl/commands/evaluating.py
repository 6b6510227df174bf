"""Evaluates runs under a protocol and shows the results; shared by all forms of `metarl evaluate`."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Protocol

from metarl.errors import UserError
from metarl.evaluation.schema import Content
from metarl.evaluation.shown import keep
from metarl.evaluation.vocabulary import ALL_GOALS
from metarl.runs.checkpoints import Checkpoint
from metarl.runs.directory import Run
from metarl.sharing.opening import open_run
from metarl.system.console import say
from metarl.system.counts import plural
from metarl.system.file_names import file_name
from metarl.system.user_code import arguments, name_again

Plot = Callable[[Sequence[Any], Path], None]
"""Draws one evaluation, or several in one plot, to a file."""


class EvaluationProtocol(Protocol):
    """A protocol: how to evaluate runs of one kind and show the results."""

    @property
    def suite(self) -> str | None:
        """A suite other than the run's, as the user named it."""

    @property
    def step(self) -> str:
        """The word for a step of the run's training."""

    @property
    def plot(self) -> Plot | None:
        """Draws evaluations; None: the protocol has no plot."""

    def keeps(self, run: Run) -> bool:
        """Whether the file may become evaluation.json, which report and pack show."""

    def measure(self, run: Run, checkpoint: Checkpoint, warnings: Sequence[str], quiet: bool) -> tuple[Any, Path]:
        """Evaluate a checkpoint and write the file in evaluations/; returns its content and its path.

        Args:
            run, checkpoint: what to evaluate.
            warnings: what a reader of the file should know.
            quiet: whether to hide the progress.
        """

    def table(self, run: Run, content: Any) -> None:
        """Print the figures."""


def check_seeds(protocol: str, seeds: int) -> None:
    """Raise UserError unless the protocol plays so many seeds: `all-goals` plays one."""
    if seeds > 1 and protocol == ALL_GOALS:
        raise UserError("--seeds is for --protocol metaworld; for all-goals use --trials")


def evaluate_runs(paths: Sequence[Path], protocol: EvaluationProtocol, agent: str | None, quiet: bool) -> int:
    """Evaluate runs, and draw several in one plot too. Returns the exit status.

    Args:
        paths: run directories, or checkpoint folders in them.
        protocol: how to evaluate them.
        agent: the file of the user-defined agent, PATH.py:NAME.
        quiet: whether to print nothing but errors.
    """
    opened = [open_run(path) for path in paths]  # all at once, so that a wrong path is refused before any work
    try:
        contents = [_evaluate(run, named, protocol, agent, quiet) for run, named in opened]
    except KeyboardInterrupt:
        say("\nInterrupted: repeat the command to resume")
        raise
    if len(contents) > 1 and protocol.plot:
        first, *others = (run.path for run, _ in opened)
        picture = first / "evaluations" / f"beside_{file_name(*(path.name for path in others))}.png"
        protocol.plot(contents, picture)
        if not quiet:
            say(f"\nall in one plot: {picture}")
    return 0


def _evaluate(run: Run, named: Path | None, protocol: EvaluationProtocol, agent: str | None, quiet: bool) -> Content:
    checkpoint = run.usable(named, "evaluating")
    if not quiet:
        say(f"Evaluating {run.path.name}, checkpoint {checkpoint.path.name} ({plural(checkpoint.step, protocol.step)})")
    how = f"metarl evaluate {run.path}{arguments(run.config, '')}"
    changed = name_again(checkpoint.config, protocol.suite, agent, how=how)
    for change in changed:
        say(f"Beware: {change}")
    content, path = protocol.measure(run, checkpoint, changed, quiet)
    show(run, content, path, protocol.table, protocol.plot, keeps=named is None and protocol.keeps(run), quiet=quiet)
    return content


def show(
    run: Run,
    content: Any,
    path: Path,
    table: Callable[[Run, Any], None],
    plot: Plot | None,
    *,
    keeps: bool,
    quiet: bool,
    note: str | None = None,
) -> bool:
    """Draw and print an evaluation that was written, and make it evaluation.json if `keeps` allows.

    Args:
        run: the run that was evaluated.
        content: the evaluation.
        path: its file.
        table: prints the figures.
        plot: draws them; None: no plot.
        keeps: whether it may become evaluation.json.
        quiet: whether to print nothing.
        note: printed after the file's name; default: the path of the plot.

    Returns:
        Whether another evaluation remains evaluation.json.
    """
    stays = keep(run, path) if keeps else None
    picture = path.with_suffix(".png")
    if plot:
        plot([content], picture)
    if not quiet:
        table(run, content)
        drawn = f"\n         {picture}" if plot else ""
        say(f"\nwritten: {path}{drawn if note is None else note}")
        if stays:
            say(stays)
    return bool(stays)
