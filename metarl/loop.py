"""The one loop of training: iterations, progress, checkpoints, Ctrl-C. It knows neither robots nor data sets."""

import math
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Protocol

from safetensors.torch import save as save_tensors

from metarl.cache import write_atomically
from metarl.console import Progress, say
from metarl.counts import Count, plural
from metarl.devices import one_thread
from metarl.errors import UserError
from metarl.interrupts import held, interruptible
from metarl.learner import Agent, Metrics, NonFiniteError, Source
from metarl.machine import EnergyMeter
from metarl.ranges import check
from metarl.run import Run, copied, split
from metarl.userfiles import resume_command


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
            self, steps="[1, inf)", checkpoint_every="[1, inf)", evaluate_every="[0, inf)", keep_checkpoints="[0, inf)",
            seed="[0, inf)",
        )  # fmt: skip
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


class Training(Protocol):
    """What the loop needs of what a configuration stands for."""

    @property
    def options(self) -> LoopOptions:
        """How long, how often to save, and the like."""

    @property
    def agent(self) -> Agent:
        """What is trained."""

    @property
    def source(self) -> Source:
        """Where its batches come from."""

    def announcement(self) -> str:
        """What is trained on what, for how long, in words."""

    def interface(self) -> dict[str, Any]:
        """What the agent is built for: see `metarl.interface`."""

    def evaluate(self, run: Run, step: int) -> Metrics:
        """What `evaluate_every` logs."""

    def check_evaluation(self) -> None:
        """Raise a `UserError` where there is nothing to evaluate on during training."""

    def close(self) -> None:
        """Free what it holds."""


def train(run: Run, setup: Training, start: int = 0, step: int = 0) -> None:
    """Train from iteration `start` to the end, with a checkpoint before the first step and at borders of iterations.

    Ctrl-C and SIGTERM give the current iteration up, save the last border and raise KeyboardInterrupt; a second one
    ends the process at once.

    Raises:
        UserError: a file could not be written, or the loss became NaN (what is needed to look into it is saved).
        KeyboardInterrupt: interrupted; the run can be resumed.
    """
    options, agent, source = setup.options, setup.agent, setup.source
    total, per = options.iterations, options.steps_per_iteration
    border = (step, start, copied(agent.state_dict()))
    saved, meter = start, EnergyMeter()
    if start == 0:
        run.save(*border, options.keep_checkpoints)
    with (
        one_thread(), interruptible(), Progress(options.total_steps, start * per, quiet=options.quiet) as bar
    ):  # fmt: skip
        try:
            for iteration in range(start, total):
                began, began_cpu = time.perf_counter(), time.process_time()
                source.progress = lambda share, i=iteration: bar.within((i + 0.5 * share) * per)  # type: ignore[misc]
                metrics = agent.iterate(source, iteration)
                seconds, cpu_seconds = time.perf_counter() - began, time.process_time() - began_cpu
                report = source.report()
                taken = int(report.pop("steps"))
                if options.evaluate_every and (iteration + 1) % options.evaluate_every == 0:
                    metrics |= setup.evaluate(run, step + taken)
                with held():
                    step += taken
                    border = (step, iteration + 1, copied(agent.state_dict()))
                    line: dict[str, Any] = {"iteration": iteration, "step": step, **report, **metrics}
                    cost = {
                        "seconds": round(seconds, 3), "cpu_seconds": round(cpu_seconds, 3),  # of all threads of this process
                        "steps_per_second": round(taken / seconds, 1),
                    }  # fmt: skip
                    joules = meter.joules()
                    run.log({**line, **cost, **({} if joules is None else {"joules": round(joules, 1)})})
                    if (iteration + 1) % options.checkpoint_every == 0 or iteration + 1 == total:
                        run.save(*border, options.keep_checkpoints)
                        saved = iteration + 1
                bar.line((iteration + 1) * per, line, taken / seconds)
        except NonFiniteError as error:
            folder = run.path / f"failure-{iteration}"
            _keep_failure(folder, agent, error)
            raise UserError(
                f"iteration {iteration}: {error}. The last checkpoint stands; weights and data of the failing minibatch "
                f"are in {folder}"
            ) from None
        except KeyboardInterrupt:
            if border[1] > saved:
                run.save(*border, options.keep_checkpoints)
            given_up = f"iteration {border[1]} was given up; " if border[1] < total else ""
            go_on = resume_command(run.config, run.path)
            say(f"\nInterrupted: {given_up}saved at {plural(border[0], 'step')}. Go on with: {go_on}")
            raise
        finally:
            setup.close()
            run.close()


def _keep_failure(folder: Path, agent: Agent, error: NonFiniteError) -> None:
    tensors, _ = split({"data": error.tensors, "agent": agent.state_dict()})
    write_atomically(folder / "tensors.safetensors", save_tensors(tensors))
