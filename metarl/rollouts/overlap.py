"""Collect an iteration ahead: while the agent learns from one, the policy before that update plays the next (`--overlap`)."""

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING, NamedTuple

from metarl.learner import Agent, Metrics, State
from metarl.nn.program import Program
from metarl.rollouts.rollout import Rollout
from metarl.system.interrupts import held, results

if TYPE_CHECKING:
    from metarl.rollouts.trials import Trials


class Snapshot(Agent):
    """A policy that does not change while the agent learns; it acts in compiled code only."""

    def __init__(self, program: Program, keep_states: int) -> None:
        self._program, self.keep_states = program, keep_states

    def program(self, state: State) -> Program:
        """See `Agent.program`."""
        return self._program


class Collected(NamedTuple):
    """An iteration's rollout, the learner's state after it, and its metrics."""

    rollout: Rollout
    state: State
    report: Metrics


class CancelledError(Exception):
    """Raised in the thread that collects when its result is not needed any more."""


class Ahead:
    """A `Source` of one trial per environment and iteration that collects the next iteration in a thread of its own.

    The first iteration, also after a resume, is played by the policy before the agent's last update (`previous_program`), so
    that a resumed training equals an uninterrupted one.

    Args:
        trials: plays the trials.
        iterations: length of training.
    """

    def __init__(self, trials: "Trials", iterations: int) -> None:
        self.trials, self.iterations = trials, iterations
        self.env, self.num_tasks, self.device, self.episodes = trials.env, trials.num_tasks, trials.device, trials.episodes
        self.progress: Callable[[float], None] = lambda share: None
        trials.progress = self._note
        self._pool = ThreadPoolExecutor(1, "metarl-overlap")
        self._pending: Future[Collected] | None = None
        self._cancelled, self._share = False, 0.0

    def begin(self, iteration: int) -> None:
        """Set the iteration that `collect` returns next."""
        self.iteration = iteration

    def collect(self, learner: Agent, state: State, phase: int) -> tuple[Rollout, State]:
        """Wait for the iteration's rollout, and start to collect the next one with the learner's policy of now."""
        pending = self._pending or self._start(self.iteration, learner.previous_program(state), learner, state)
        ((rollout, after, self._report),) = results([pending], lambda: self.progress(self._share))
        self._pending = None
        if self.iteration + 1 < self.iterations:
            self._pending = self._start(self.iteration + 1, learner.program(state), learner, state)
        return rollout, after

    def report(self) -> Metrics:
        """See `Source`."""
        return dict(self._report)

    def close(self) -> None:
        """Stop collecting."""
        self._cancelled = True
        with held():
            self._pool.shutdown()

    def _start(self, iteration: int, program: Program, learner: Agent, state: State) -> "Future[Collected]":
        self._share = 0.0
        with held():
            return self._pool.submit(self._collect, iteration, Snapshot(program, learner.keep_states), state)

    def _collect(self, iteration: int, snapshot: Snapshot, state: State) -> Collected:
        self.trials.begin(iteration)
        rollout, after = self.trials.collect(snapshot, state, 0)
        return Collected(rollout, after, self.trials.report())

    def _note(self, share: float) -> None:
        if self._cancelled:
            raise CancelledError
        self._share = share
