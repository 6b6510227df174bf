"""Prototypical networks (Snell et al. 2017): assign a query to the class with the nearest mean feature."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from metarl.agents import Preset
from metarl.agents.fewshot.base import Comparing, EncoderSettings
from metarl.learner import State


@dataclass(frozen=True)
class ProtoSettings(EncoderSettings):
    """Settings of prototypical networks."""


PRESETS = {
    "proto": {
        "default": Preset(ProtoSettings()),
        "omniglot": Preset(ProtoSettings(), {"ways": 20, "meta_batch": 1}),  # more ways than at test time: section 3.1
        "clinc150": Preset(ProtoSettings(channels=256), {"steps": 300}),
    }
}


class Proto(Comparing):
    """Prototypical networks."""

    settings: ProtoSettings

    def build(self) -> nn.Module:
        """The encoder."""
        return self.settings.encoder(self.kind)

    def compare(self, state: State, features: Tensor) -> Tensor:
        """Logits (tasks, queries, ways)."""
        support, targets = state["features"], state["targets"]
        # c_k = mean of f(x_i) over the support of class k (equation 1)
        one_hot = nn.functional.one_hot(targets, self.ways).to(support.dtype).mT
        count = one_hot.sum(-1, keepdim=True)
        prototypes = one_hot @ support / count.clamp(min=1)
        # p(k | x) ~ exp(-|f(x) - c_k|^2) (equation 2)
        logits = -squared_distances(features, prototypes)
        return logits.masked_fill(count.mT == 0, -torch.inf)


def squared_distances(a: Tensor, b: Tensor) -> Tensor:
    """|a_i - b_j|^2; a (tasks, n, size), b (tasks, m, size): (tasks, n, m)."""
    # |a|^2 - 2 a.b + |b|^2
    return a.square().sum(-1, keepdim=True) - 2 * a @ b.mT + b.square().sum(-1).unsqueeze(1)
