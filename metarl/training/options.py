"""Options of every training."""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from metarl.errors import UserError
from metarl.system.counts import Count
from metarl.system.ranges import check


@dataclass(frozen=True)
class LoopOptions:
    """Options of every training."""

    seed: int = 1
    """Seed of weights, sampling and exploration. It does not change goals or classes."""
    steps: Count = 2_000_000
    """Length of training in steps, such as 2e6; rounded up to whole iterations."""
    device: str = "auto"
    """auto, cpu or cuda."""
    preset: str | None = None
    """Named settings instead of the defaults (see `metarl list`). Options on the command line override the preset."""
    run_dir: Path | None = None
    """Directory of the run. Default: runs/<agent>_<suite>_s<seed>_<time>."""
    checkpoint_every: int = 1
    """Iterations between checkpoints."""
    keep_checkpoints: int = 3
    """Number of newest checkpoints to keep; 0: all."""
    evaluate_every: int = 0
    """Iterations between evaluations during training; 0: none."""
    evaluate_on: str = "validation"
    """Where to evaluate during training. validation: goals of the train tasks (classes) that are neither trained on nor held
    out. test: the held-out ones; choices made on these results bias later results on them, so reports mark the run."""
    quiet: bool = False
    """Print only errors."""
    debug: bool = False
    """Show a traceback with errors."""

    def __post_init__(self) -> None:
        check(
            self,
            steps="[1, inf)",
            checkpoint_every="[1, inf)",
            evaluate_every="[0, inf)",
            keep_checkpoints="[0, inf)",
            seed="[0, inf)",
        )
        if self.evaluate_on not in ("validation", "test"):
            raise UserError(f"evaluate_on must be validation or test, not {self.evaluate_on!r}")

    shorter: ClassVar[str]
    """The options that make an iteration smaller, for error messages."""

    @property
    def steps_per_iteration(self) -> int:
        """Steps per iteration."""
        raise NotImplementedError

    @property
    def iterations(self) -> int:
        """Number of iterations needed to reach `steps`."""
        return math.ceil(self.steps / self.steps_per_iteration)

    @property
    def total_steps(self) -> int:
        """Steps of all iterations: `steps`, rounded up."""
        return self.iterations * self.steps_per_iteration
