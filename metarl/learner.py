"""Define the interfaces of agents: `Learner`, `Agent`, `Source`, and the data that passes between them."""

import warnings
from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor

State = Any
"""A learner's knowledge of its tasks: a tensor, or a dict or tuple of states; the first axis of every tensor is the task."""

Metrics = dict[str, float]


class PolicyInput(NamedTuple):
    """A policy's input: the observation and the result of the previous action (zeros at the start of a trial).

    The previous action, reward and done carry over between the episodes of a trial.

    Attributes:
        obs: (..., observation) float32.
        previous_action: (..., action) float32; discrete actions one-hot.
        previous_reward: (...,) float32.
        previous_done: (...,) float32, 1 where the previous step ended an episode.
    """

    obs: Tensor
    previous_action: Tensor
    previous_reward: Tensor
    previous_done: Tensor


class Learner(Protocol):
    """An object that adapts to tasks. Row i of state, query, prediction and support is task i; rows never mix."""

    def initial_state(self, num_tasks: int) -> State:
        """Return the state before any experience."""

    def predict(self, state: State, query: Any) -> tuple[Any, State]:
        """Answer a query; for robots, `query` is a `PolicyInput` and the answer a distribution over actions."""

    def adapt(self, state: State, support: Any) -> State:
        """Learn from each task's support (for robots, a `Rollout`)."""


class Source(Protocol):
    """Produces training batches; the only part of training that accesses data or environments."""

    num_tasks: int
    progress: Callable[[float], None]

    def begin(self, iteration: int) -> None:
        """Draw the tasks of an iteration; they depend on its number only."""

    def collect(self, learner: Learner, state: State, phase: int) -> tuple[Any, State]:
        """Collect one batch; the learner's state may change during collection (RL²)."""

    def report(self) -> Metrics:
        """Return the metrics of the last collected iteration, and its `steps`."""


class Agent:
    """A trainable learner with an outer step over batches of tasks; subclasses implement the methods.

    Attributes:
        phases: collections per iteration. RL²: 1; gradient-based adaptation: inner steps + 1.
        adapt_every: episodes between calls of `adapt` in evaluation and videos; None: the episodes of a training phase.
        resample: "never": an environment keeps its task for a whole trial; "episode": in training it gets a new task every
            episode.
        keep_states: training rollouts contain the state before every k-th step, for this k; 0: none.
        first_std: standard deviation of the first Box actions, with mean 0; None: they are spread over the space.
    """

    phases = 1
    adapt_every: int | None = None
    resample = "never"
    keep_states = 1
    first_std: float | None = None

    def bind_env(self, env: Any) -> None:
        """Receive the environment before play; only for agents that may see more than observations."""

    def validate(self, source: Any) -> None:
        """Raise `UserError` if this source cannot train the agent."""

    def initial_state(self, num_tasks: int) -> State:
        """See `Learner`."""
        raise NotImplementedError

    def begin(self, num_tasks: int) -> State:
        """Deprecated name of `initial_state`."""
        warnings.warn("Agent.begin is now Agent.initial_state", FutureWarning, stacklevel=2)
        return self.initial_state(num_tasks)

    def predict(self, state: State, query: Any) -> tuple[Any, State]:
        """See `Learner`."""
        raise NotImplementedError

    def adapt(self, state: State, support: Any) -> State:
        """See `Learner`."""
        return state

    def program(self, state: State) -> Any:
        """The policy in this state as a `metarl.nn.program.Program`, for compiled acting; None: it has no compiled form."""
        return None

    def previous_program(self, state: State) -> Any:
        """Like `program`, for the policy before the last `update`; agents with a setting `overlap` need it."""
        return None

    def update(self, batches: list[Any], iteration: int) -> Metrics:
        """Perform the outer step.

        Raises:
            NonFiniteError: the loss is not finite.
        """
        raise NotImplementedError

    def iterate(self, source: Source, iteration: int) -> Metrics:
        """Run one training iteration; agents with their own loop override this."""
        source.begin(iteration)
        state = self.initial_state(source.num_tasks)
        batches = []
        for phase in range(self.phases):
            batch, state = source.collect(self, state, phase)
            batches.append(batch)
            if phase + 1 < self.phases:
                with torch.no_grad():
                    state = self.adapt(state, batch)
        return self.update(batches, iteration)

    optimizer: Any
    """A cached property of agents that have an optimiser, created at first use."""

    def moments(self) -> dict[str, Any]:
        """Return the optimiser's state by parameter number; empty if the optimiser has not been used yet."""
        used = "optimizer" in vars(self)
        return {str(i): value for i, value in self.optimizer.state_dict()["state"].items()} if used else {}

    def load_moments(self, moments: dict[str, Any]) -> None:
        """Create a new optimiser and load the result of `moments` into it."""
        vars(self).pop("optimizer", None)
        if moments:
            groups = self.optimizer.state_dict()["param_groups"]
            self.optimizer.load_state_dict({"state": {int(i): v for i, v in moments.items()}, "param_groups": groups})

    def state_dict(self) -> dict[str, Any]:
        """Return all state needed to resume: nested dicts of tensors and JSON values."""
        raise NotImplementedError

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore the result of `state_dict`."""
        raise NotImplementedError


class NonFiniteError(ArithmeticError):
    """The loss became NaN or infinite."""

    def __init__(self, message: str, tensors: dict[str, Tensor]) -> None:
        super().__init__(message)
        self.tensors = tensors


def where(mask: Tensor, new: State, old: State) -> State:
    """Select rows of `new` where the mask (num_tasks,) is True, of `old` elsewhere."""
    if new is old:
        return old
    if isinstance(new, Tensor):
        return torch.where(mask.view(-1, *[1] * (new.dim() - 1)), new, old)
    if isinstance(new, dict):
        return {key: where(mask, new[key], old[key]) for key in new}
    parts = [where(mask, a, b) for a, b in zip(new, old)]
    return type(new)(*parts) if hasattr(new, "_fields") else tuple(parts)


def distance(a: State, b: State) -> Any:
    """Return the Euclidean distance between two states of the same tasks, (num_tasks,); 0.0 if they are one object."""

    def squares(a: State, b: State) -> Any:
        if a is b:
            return 0.0
        if isinstance(a, Tensor):
            return (a - b).square().flatten(1).sum(1)
        pairs = [(a[key], b[key]) for key in a] if isinstance(a, dict) else zip(a, b)
        return sum(squares(x, y) for x, y in pairs)

    return squares(a, b) ** 0.5


def __getattr__(name: str) -> Any:
    if name == "Step":  # the name in version 0.2
        warnings.warn("metarl.learner.Step is now metarl.learner.PolicyInput", FutureWarning, stacklevel=2)
        return PolicyInput
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
