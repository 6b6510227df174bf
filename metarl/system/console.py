"""Print the progress of commands: a bar with the time left on a terminal, plain lines elsewhere."""

import time
from collections.abc import Callable
from types import TracebackType
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bar

console = Console(highlight=False, soft_wrap=True)


def say(text: str) -> None:
    """Print a line."""
    console.print(text, markup=False)


class Progress:
    """Progress of work measured in environment steps.

    Args:
        total: total number of steps.
        done: steps done before.
        what: unit of the count.
        quiet: show nothing.
    """

    def __init__(self, total: int, done: int = 0, *, what: str = "steps", quiet: bool = False) -> None:
        self.quiet, self.total, self.first, self.began = quiet, total, done, time.perf_counter()
        self.live = console.is_terminal and not quiet
        self._parts_end = done
        self.bar = Bar(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn(what),
            TimeRemainingColumn(),
            TextColumn("left"),
            console=console,
            transient=True,
            speed_estimate_period=300,
        )
        self.task = self.bar.add_task("", total=total, completed=done)

    def __enter__(self) -> "Progress":
        if self.live:
            self.bar.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self.live:
            self.bar.stop()

    def within(self, done: float) -> None:
        """Move the bar to `done` steps."""
        if self.live:
            self.bar.update(self.task, completed=int(done))

    def part(self, total: int) -> Callable[[float], None]:
        """Begin the next part of the work, of `total` steps; returns a function that moves the bar to so many steps of it."""
        start, self._parts_end = self._parts_end, self._parts_end + total
        return lambda done: self.within(start + done)

    def line(self, done: int, metrics: dict[str, Any], speed: float) -> None:
        """Print the metrics of a training iteration.

        Args:
            done: steps of all iterations so far, counted as if no episode had ended early.
            metrics: of the iteration; `step` is the number of steps actually taken.
            speed: steps per second.
        """
        self.within(done)
        if self.quiet:
            return
        seconds_left = (time.perf_counter() - self.began) / max(1, done - self.first) * (self.total - done)
        trial = "success" if "success" in metrics else "return"  # environments need not report success
        form_of_trial = "4.2f" if trial == "success" else "7.1f"
        figures = " ".join(
            f"{label} {metrics[key]:{form}}"
            for key, label, form in (
                ("return", "return", "7.1f"),
                ("success", "success", "4.2f"),
                (f"{trial}_first_episode", "first episode", form_of_trial),
                (f"{trial}_last_episode", "last", form_of_trial),
                ("std", "std", "4.2f"),
                ("loss", "loss", "6.4f"),
                ("accuracy", "accuracy", "5.3f"),
                ("mse", "mse", "6.4f"),
                *(
                    (f"{part}_{measure}", name, form)
                    for part, name in (("validation", "| validation"), ("test", "| TEST"))
                    for measure, form in ((trial, form_of_trial), ("accuracy", "5.3f"), ("mse", "6.4f"))
                ),
            )
            if key in metrics
        )
        of = "of" if metrics["step"] == done else "of at most"
        say(f"{metrics['step']:>11,} {of} {self.total:,} steps  {speed:6,.0f}/s  {figures}  {clock(seconds_left)} left")
        console.file.flush()


def clock(seconds: float) -> str:
    """Format seconds as 1:02:03 or 2:03."""
    minutes, s = divmod(int(seconds + 0.5), 60)
    hours, m = divmod(minutes, 60)
    return f"{hours}:{m:02d}:{s:02d}" if hours else f"{m}:{s:02d}"
