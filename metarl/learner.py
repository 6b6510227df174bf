"""The contracts: what learns (`Learner`, `Agent`), what it learns from (`Source`), and what passes between them."""

import warnings
from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor

State = Any
"""What a learner knows of its tasks: a tensor, or a dict or tuple of states; the first axis of every tensor is the task."""

Metrics = dict[str, float]


class PolicyInput(NamedTuple):
    """What an agent is asked: the observation, and what became of its previous action (zeros at a trial's start).

    The previous action, reward and done are the true ones, across the borders of episodes too.

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
    """What adapts to tasks. Row i of state, query, prediction and support is task i; rows never mix."""

    def begin(self, num_tasks: int) -> State:
        """The state before anything is known of the tasks."""

    def predict(self, state: State, query: Any) -> tuple[Any, State]:
        """Answer a query; robots: `query` is a `PolicyInput` and the answer a distribution over actions."""

    def adapt(self, state: State, support: Any) -> State:
        """Learn from the support (robots: a `Rollout`) of each task."""


class Source(Protocol):
    """Where batches come from; the only thing that touches data or environments."""

    num_tasks: int
    progress: Callable[[float], None]

    def begin(self, iteration: int) -> None:
        """Draw the tasks of an iteration, a function of its number alone."""

    def collect(self, learner: Learner, state: State, phase: int) -> tuple[Any, State]:
        """Collect one batch; the learner's state may change while it is collected (RL²)."""

    def report(self) -> Metrics:
        """What is worth logging of the iteration just collected, and its `steps`."""


class Agent:
    """A learner that is trained: an outer step over batches of tasks. Subclasses give the verbs.

    Attributes:
        phases: collections an iteration. RL²: 1; gradient-based adaptation: inner steps + 1.
        adapt_every: episodes of experience after which `adapt` is called where the agent is evaluated or filmed; None: as
            many as a phase has in training.
        resample: "never": a slot keeps its task for a whole trial; "episode": in training it gets another for every episode.
        keep_states: a rollout for training holds the state before every k-th step, for this k; 0: none.
        first_std: standard deviation of the first Box actions, drawn around 0; None: they are spread over the space.
    """

    phases = 1
    adapt_every: int | None = None
    resample = "never"
    keep_states = 1
    first_std: float | None = None

    def meet(self, env: Any) -> None:
        """Look at the environment before it is played: only for agents that are shown more than observations."""

    def accept(self, source: Any) -> None:
        """Raise a `UserError` where the source's iterations are none that the agent can train on."""

    def begin(self, num_tasks: int) -> State:
        """See `Learner`."""
        raise NotImplementedError

    def predict(self, state: State, query: Any) -> tuple[Any, State]:
        """See `Learner`."""
        raise NotImplementedError

    def adapt(self, state: State, support: Any) -> State:
        """See `Learner`."""
        return state

    def update(self, batches: list[Any], iteration: int) -> Metrics:
        """The outer step.

        Raises:
            NonFiniteError: the loss is not finite.
        """
        raise NotImplementedError

    def iterate(self, source: Source, iteration: int) -> Metrics:
        """One iteration of training; an agent with a loop of its own overrides it."""
        source.begin(iteration)
        state = self.begin(source.num_tasks)
        batches = []
        for phase in range(self.phases):
            batch, state = source.collect(self, state, phase)
            batches.append(batch)
            if phase + 1 < self.phases:
                with torch.no_grad():
                    state = self.adapt(state, batch)
        return self.update(batches, iteration)

    optimizer: Any
    """A cached property of agents that have one: it is made when it is first needed."""

    def moments(self) -> dict[str, Any]:
        """The optimiser's, by the number of the parameter; nothing where it was not needed yet."""
        made = "optimizer" in vars(self)
        return {str(i): value for i, value in self.optimizer.state_dict()["state"].items()} if made else {}

    def load_moments(self, moments: dict[str, Any]) -> None:
        """Give a new optimiser what `moments` gave."""
        vars(self).pop("optimizer", None)
        if moments:
            groups = self.optimizer.state_dict()["param_groups"]
            self.optimizer.load_state_dict({"state": {int(i): v for i, v in moments.items()}, "param_groups": groups})

    def state_dict(self) -> dict[str, Any]:
        """All that resume needs: nested dicts of tensors and of what JSON can hold."""
        raise NotImplementedError

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take over what `state_dict` gave."""
        raise NotImplementedError


class NonFiniteError(ArithmeticError):
    """The loss became NaN or infinite."""

    def __init__(self, message: str, tensors: dict[str, Tensor]) -> None:
        super().__init__(message)
        self.tensors = tensors


def where(mask: Tensor, new: State, old: State) -> State:
    """Rows of `new` where the mask (num_tasks,) is True, of `old` elsewhere."""
    if new is old:
        return old
    if isinstance(new, Tensor):
        return torch.where(mask.view(-1, *[1] * (new.dim() - 1)), new, old)
    if isinstance(new, dict):
        return {key: where(mask, new[key], old[key]) for key in new}
    parts = [where(mask, a, b) for a, b in zip(new, old)]
    return type(new)(*parts) if hasattr(new, "_fields") else tuple(parts)


def distance(a: State, b: State) -> Any:
    """Euclidean distance between two states of the same tasks, (num_tasks,); 0.0 where they are one object."""

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
