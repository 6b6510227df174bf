"""Opens what a long evaluation of a run needs: a journal of its finished parts, and a progress bar."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from metarl.runs.directory import Run
from metarl.system.console import Progress
from metarl.system.devices import one_thread
from metarl.system.journal import Journal

UNIT = "steps of evaluation"
"""What the progress of an acting agent's evaluation counts."""


@contextmanager
def session(
    run: Run, name: str, work: Mapping[str, Any], total: int, *, unit: str = UNIT, quiet: bool = False
) -> Iterator[tuple[Journal, Progress]]:
    """Open the journal and the progress bar of an evaluation, with torch on one thread.

    The block plays the evaluation and writes its file; then the journal is deleted. If the block is interrupted, the journal
    stays, and the same evaluation continues from it.

    Args:
        run: the run that is evaluated.
        name: the name of the evaluation's file, without its ending.
        work: everything that determines the parts; JSON.
        total: the length of the progress bar, in `unit`.
        unit: what the progress bar counts.
        quiet: show no progress.
    """
    journal = Journal(run.path / "evaluations" / f".{name}.partial", dict(work))
    with one_thread(), Progress(total, what=unit, quiet=quiet) as bar:
        yield journal, bar
    journal.finish()
