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
    """Of weights, sampling and exploration. It moves neither goals nor classes."""
    steps: Count = 2_000_000
    """How long to train, such as 2e6; rounded up to whole iterations."""
    device: str = "auto"
    """auto, cpu or cuda."""
    preset: str | None = None
    """Published settings instead of this project's own: see `metarl list`. Options given beside it still count."""
    run_dir: Path | None = None
    """Where the run is kept. Default: runs/<agent>_<suite>_s<seed>_<time>."""
    checkpoint_every: int = 1
    """Iterations between checkpoints."""
    keep_checkpoints: int = 3
    """How many of the newest checkpoints are kept; 0: all."""
    evaluate_every: int = 0
    """Iterations between evaluations during training; 0: none."""
    evaluate_on: str = "validation"
    """validation: goals of the train tasks (classes) that are neither trained on nor held out. test: the held-out ones; a run
    whose figures on them were seen while choices were made says little of new ones, so reports mark it."""
    quiet: bool = False
    """Print nothing but errors."""
    debug: bool = False
    """Show a traceback with an error."""

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
    """The options that make an iteration smaller."""

    @property
    def steps_per_iteration(self) -> int:
        """Steps of an iteration."""
        raise NotImplementedError

    @property
    def iterations(self) -> int:
        """Iterations that reach `steps`."""
        return math.ceil(self.steps / self.steps_per_iteration)

    @property
    def total_steps(self) -> int:
        """Steps of all iterations: `steps`, rounded up."""
        return self.iterations * self.steps_per_iteration
