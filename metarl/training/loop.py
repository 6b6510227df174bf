"""The training loop: iterations, progress, checkpoints and Ctrl-C, for environments and data sets.

`metarl.training.sessions` calls `train`, which writes checkpoints and metrics into the run directory.
"""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from safetensors.torch import save as save_tensors

from metarl.errors import UserError
from metarl.learner import Agent, Metrics, NonFiniteError, Source
from metarl.runs.checkpoints import copied, split
from metarl.runs.directory import Run
from metarl.runs.io_spec import IoSpec
from metarl.runs.options import LoopOptions
from metarl.system.console import Progress, say
from metarl.system.counts import plural
from metarl.system.devices import one_thread
from metarl.system.files import write_atomically
from metarl.system.interrupts import held, interruptible
from metarl.system.machine import EnergyMeter
from metarl.system.user_code import resume_command


class Training(Protocol):
    """The interface that the loop needs of a set-up training; see `metarl.training.setup.set_up`."""

    @property
    def options(self) -> LoopOptions:
        """Options such as the length of training and the interval of checkpoints."""

    @property
    def agent(self) -> Agent:
        """The agent to train."""

    @property
    def source(self) -> Source:
        """The source of its batches."""

    def announcement(self) -> str:
        """A description of the training for the user."""

    def io_spec(self) -> IoSpec:
        """The agent's inputs and outputs: see `metarl.runs.io_spec`."""

    def close(self) -> None:
        """Free environments and other resources."""


class Evaluator(NamedTuple):
    """Evaluates an agent during training.

    Attributes:
        check: raises a `UserError` if there is nothing to evaluate on.
        measure: evaluates the current agent at a step, and returns the metrics to log.
    """

    check: Callable[[Any], None]
    measure: Callable[[Run, Any, int], Metrics]


def train(run: Run, setup: Training, evaluator: Evaluator, start: int = 0, step: int = 0) -> None:
    """Train from iteration `start` to the end, with a checkpoint before the first step and after iterations.

    Ctrl-C and SIGTERM abandon the current iteration, save the state after the last complete one and raise
    KeyboardInterrupt; a second signal ends the process at once.

    Raises:
        UserError: a file could not be written, or the loss became NaN (data for a diagnosis is saved).
        KeyboardInterrupt: training was interrupted; the run can be resumed.
    """
    options, agent, source = setup.options, setup.agent, setup.source
    total, per = options.iterations, options.steps_per_iteration
    border = (step, start, copied(agent.state_dict()))
    saved, meter = start, EnergyMeter()
    if start == 0:
        run.save(*border, options.keep_checkpoints)
    with one_thread(), interruptible(), Progress(options.total_steps, start * per, quiet=options.quiet) as bar:
        try:
            for iteration in range(start, total):
                began, began_cpu = time.perf_counter(), time.process_time()
                source.progress = lambda share, i=iteration: bar.within((i + 0.5 * share) * per)  # type: ignore[misc]
                metrics = agent.iterate(source, iteration)
                seconds, cpu_seconds = time.perf_counter() - began, time.process_time() - began_cpu
                report = source.report()
                steps_taken = int(report.pop("steps"))
                if options.evaluate_every and (iteration + 1) % options.evaluate_every == 0:
                    metrics |= evaluator.measure(run, setup, step + steps_taken)
                with held():
                    step += steps_taken
                    border = (step, iteration + 1, copied(agent.state_dict()))
                    line: dict[str, Any] = {"iteration": iteration, "step": step, **report, **metrics}
                    cost = {
                        "seconds": round(seconds, 3),
                        "cpu_seconds": round(cpu_seconds, 3),  # of all threads of this process
                        "steps_per_second": round(steps_taken / seconds, 1),
                    }
                    joules = meter.joules()
                    run.log({**line, **cost, **({} if joules is None else {"joules": round(joules, 1)})})
                    if (iteration + 1) % options.checkpoint_every == 0 or iteration + 1 == total:
                        run.save(*border, options.keep_checkpoints)
                        saved = iteration + 1
                bar.line((iteration + 1) * per, line, steps_taken / seconds)
        except NonFiniteError as error:
            folder = run.path / f"failure-{iteration}"
            _keep_failure(folder, agent, error)
            raise UserError(
                f"iteration {iteration}: {error}. The last checkpoint is kept; weights and data of the failing minibatch "
                f"are in {folder}"
            ) from None
        except KeyboardInterrupt:
            if border[1] > saved:
                run.save(*border, options.keep_checkpoints)
            discarded = f"iteration {border[1]} was discarded; " if border[1] < total else ""
            command = resume_command(run.config, run.path)
            say(f"\nInterrupted: {discarded}saved at {plural(border[0], 'step')}. Resume with: {command}")
            raise
        finally:
            setup.close()
            run.close()


def _keep_failure(folder: Path, agent: Agent, error: NonFiniteError) -> None:
    tensors, _ = split({"data": error.tensors, "agent": agent.state_dict()})
    write_atomically(folder / "tensors.safetensors", save_tensors(tensors))
