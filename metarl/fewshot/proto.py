"""Prototypical networks (Snell et al. 2017): a query is of the class whose mean feature is the nearest."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from metarl.agents import Preset
from metarl.errors import UserError
from metarl.fewshot.learner import Comparing
from metarl.fewshot.networks import encoder
from metarl.learner import State


@dataclass(frozen=True)
class ProtoSettings:
    """Settings of prototypical networks."""

    channels: int = 64
    """Channels of each block of the encoder (texts: its width)."""
    learning_rate: float = 1e-3
    """Of Adam."""

    def __post_init__(self) -> None:
        if self.channels < 1 or not self.learning_rate > 0:
            raise UserError("channels must be at least 1 and learning_rate positive")


PRESETS = {"proto": {"default": Preset(ProtoSettings())}}


class Proto(Comparing):
    """The learner."""

    settings: ProtoSettings

    def build(self) -> nn.Module:
        """The encoder."""
        return encoder(self.kind, self.settings.channels)

    def predict(self, state: State, query: Tensor) -> tuple[Tensor, State]:
        """Logits (tasks, queries, ways)."""
        features, targets = state["features"], state["targets"]
        if targets.shape[1] == 0:
            return self.uniform(query), state
        # c_k = mean of f(x_i) over the support of class k (equation 1)
        one_hot = nn.functional.one_hot(targets, self.ways).to(features.dtype).mT
        count = one_hot.sum(-1, keepdim=True)
        prototypes = one_hot @ features / count.clamp(min=1)
        # p(k | x) ~ exp(-|f(x) - c_k|^2) (equation 2)
        logits = -squared_distances(self.features(query), prototypes)
        return logits.masked_fill(count.mT == 0, -torch.inf), state


def squared_distances(a: Tensor, b: Tensor) -> Tensor:
    """|a_i - b_j|^2; a (tasks, n, size), b (tasks, m, size): (tasks, n, m)."""
    # |a|^2 - 2 a.b + |b|^2
    return a.square().sum(-1, keepdim=True) - 2 * a @ b.mT + b.square().sum(-1).unsqueeze(1)
