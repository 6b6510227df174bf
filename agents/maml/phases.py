"""The data of an update of MAML: one `Phase` for each collection."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor

from metarl.nn.distributions import Distribution
from metarl.nn.policies import FeedForwardPolicy
from metarl.optim.inner_loop import Params
from metarl.rollouts.rollout import Rollout


class Phase(NamedTuple):
    """What one collection means to the update. The task is the first axis (G, rows, ...).

    Attributes:
        x: scaled observations.
        action, log_prob: what was done, and its log-probability then.
        old: the distributions that it was drawn from.
        advantage: standardised within each task.
        weight: of each row in its task's mean; 0 for rows that are not valid.
        credit: of each row for the task's return after adaptation; see `MAML._credited`.
    """

    x: Tensor
    action: Tensor
    log_prob: Tensor
    old: Distribution
    advantage: Tensor
    weight: Tensor
    credit: Tensor

    def map(self, function: Callable[[Tensor], Tensor]) -> "Phase":
        """The function applied to every tensor."""
        return Phase(*(function(f) if isinstance(f, Tensor) else f.map(function) for f in self))  # type: ignore[arg-type]

    def rows(self, rows: Tensor) -> "Phase":
        """Some steps of every task; a task's mean is then over these."""
        some = self.map(lambda t: t[:, rows] if t.dim() > 1 else t)
        return some._replace(weight=some.weight / some.weight.sum(1, keepdim=True).clamp(min=1e-12))


def episode_returns(rollout: Rollout) -> Tensor:
    """Undiscounted return of each episode, (episodes, N); nan where a task has no such episode."""
    episodes = int(rollout.episode[rollout.valid].max()) + 1 if rollout.valid.any() else 1
    index = torch.where(rollout.valid, rollout.episode, episodes)  # a last row for what is left out
    zeros = torch.zeros(episodes + 1, rollout.reward.shape[1], dtype=rollout.reward.dtype, device=rollout.reward.device)
    steps = zeros.scatter_add(0, index, torch.ones_like(rollout.reward))
    return torch.where(steps > 0, zeros.scatter_add(0, index, rollout.reward), torch.nan)[:-1]


Group = tuple[Phase, ...]
"""All phases of some tasks: what is computed together."""


class MetaPolicy(Protocol):
    """What the outer steps need of an agent: `MAML` is one."""

    settings: Any
    policy: FeedForwardPolicy
    meta: Params
    device: torch.device
    optimizer: Any
    inner_kl: float

    def each(self, function: Callable[[Any], Any], items: Sequence[Any]) -> list[Any]:
        """The function applied to each item, in order."""

    def split(self, meta: Params) -> tuple[Params, Params]:
        """Policy parameters and learning rates."""

    def chain(self, meta: Params, group: Group, steps: int | None = None) -> list[Params]:
        """Each task's parameters before and after each inner step."""

    def ratio(self, distribution: Distribution, phase: Phase) -> Tensor:
        """pi(a) / pi_old(a) of each step, (G, rows)."""

    def credit(self, chain: list[Params], group: Group) -> Tensor:
        """E-MAML's term, (G,)."""
