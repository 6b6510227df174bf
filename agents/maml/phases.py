"""The data of an outer step of MAML: one `Phase` per collection, and the interface that the outer steps need."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor

from metarl.nn.distributions import Distribution
from metarl.nn.policies import FeedForwardPolicy
from metarl.optim.inner_loop import Params
from metarl.rollouts.rollout import Rollout


class Phase(NamedTuple):
    """The steps of one collection, as the update needs them. The task is the first axis: (G, rows, ...).

    Attributes:
        x: scaled observations.
        action, log_prob: the actions taken, and their log-probabilities when they were sampled.
        old: the distributions that the actions were sampled from.
        advantage: advantages, standardised within each task.
        weight: weight of each row in its task's mean; 0 for invalid rows.
        credit: credit of each row for the task's return after adaptation; see `MAML._credited`.
    """

    x: Tensor
    action: Tensor
    log_prob: Tensor
    old: Distribution
    advantage: Tensor
    weight: Tensor
    credit: Tensor

    def map(self, function: Callable[[Tensor], Tensor]) -> "Phase":
        """Apply the function to every tensor."""
        return Phase(*(function(f) if isinstance(f, Tensor) else f.map(function) for f in self))  # type: ignore[arg-type]

    def rows(self, rows: Tensor) -> "Phase":
        """Select some steps of every task; weights are renormalised so that a task's mean is over these."""
        some = self.map(lambda t: t[:, rows] if t.dim() > 1 else t)
        return some._replace(weight=some.weight / some.weight.sum(1, keepdim=True).clamp(min=1e-12))


def episode_returns(rollout: Rollout) -> Tensor:
    """Undiscounted return of each episode, (episodes, N); NaN if a task has no such episode."""
    episodes = int(rollout.episode[rollout.valid].max()) + 1 if rollout.valid.any() else 1
    index = torch.where(rollout.valid, rollout.episode, episodes)  # an extra row collects the invalid steps
    zeros = torch.zeros(episodes + 1, rollout.reward.shape[1], dtype=rollout.reward.dtype, device=rollout.reward.device)
    steps = zeros.scatter_add(0, index, torch.ones_like(rollout.reward))
    return torch.where(steps > 0, zeros.scatter_add(0, index, rollout.reward), torch.nan)[:-1]


Group = tuple[Phase, ...]
"""All phases of some tasks that are computed together."""


class MetaPolicy(Protocol):
    """The interface that the outer steps need of an agent; `MAML` implements it."""

    settings: Any
    policy: FeedForwardPolicy
    meta: Params
    device: torch.device
    optimizer: Any
    inner_kl: float

    def each(self, function: Callable[[Any], Any], items: Sequence[Any]) -> list[Any]:
        """Apply the function to each item; results keep the order."""

    def split(self, meta: Params) -> tuple[Params, Params]:
        """Policy parameters and learning rates."""

    def chain(self, meta: Params, group: Group, steps: int | None = None) -> list[Params]:
        """Each task's parameters before and after each inner step."""

    def ratio(self, distribution: Distribution, phase: Phase) -> Tensor:
        """pi(a) / pi_old(a) of each step, (G, rows)."""

    def credit(self, chain: list[Params], group: Group) -> Tensor:
        """E-MAML's term, (G,)."""
