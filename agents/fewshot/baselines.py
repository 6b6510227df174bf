"""Few-shot baselines without meta-learning: transfer learning, and the nearest neighbour.

Transfer trains one classifier over all training classes (or one regressor over all training tasks), then fits a new head
or all weights to each support.
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import vmap
from torch.nn import functional

from metarl.agents import Preset
from metarl.agents.fewshot.base import Comparing, EncoderSettings, FewShot, mean_loss
from metarl.agents.fewshot.networks import EMBEDDING
from metarl.agents.fewshot.proto import squared_distances
from metarl.datasets.episodes import Episode, Examples
from metarl.datasets.features import BUCKETS
from metarl.errors import UserError
from metarl.learner import Metrics, State
from metarl.optim.inner_loop import Params, adapt, stacked
from metarl.optim.inner_loop import functional as as_function
from metarl.system.ranges import check


@dataclass(frozen=True)
class TransferSettings(EncoderSettings):
    """Settings of the transfer baseline."""

    fit: str = "head"
    """Weights fitted to a support: head (a new linear head, from zero) or all (fine-tuning)."""
    fit_steps: int = 100
    """Gradient-descent steps on a support."""
    fit_lr: float = 1.0
    """Learning rate of these steps."""
    decay: float = 0.01
    """Weight of the squared norm of the head's weights in the loss of these steps."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.fit not in ("head", "all"):
            raise UserError(f"fit must be head or all, not {self.fit!r}")
        check(self, fit_steps="[0, 1000000]", fit_lr="(0, inf)", decay="[0, inf)")


@dataclass(frozen=True)
class NearestSettings:
    """The nearest neighbour has no settings."""


PRESETS = {
    "transfer": {
        "default": Preset(TransferSettings()),
        "omniglot": Preset(TransferSettings(), {"steps": 5000, "meta_batch": 4}),
        "clinc150": Preset(TransferSettings(channels=256), {"steps": 300}),
        "sinusoid": Preset(
            TransferSettings(channels=40, fit="all", fit_lr=0.003, fit_steps=10, decay=0.0),
            {"steps": 20_000, "shots": 10, "queries": 10, "meta_batch": 25},
        ),  # the pre-trained baseline of Finn et al. 2017, section 5.1; fit_lr is the best of 0.0003 to 0.01 on train tasks
    },
    "nearest": {"default": Preset(NearestSettings(), {"steps": 1})},
}


class Classifier(nn.Module):
    """An encoder and a head over all training classes."""

    def __init__(self, body: nn.Module, outputs: int) -> None:
        super().__init__()
        self.body = body
        self.head = nn.Linear(int(body.output_size), outputs)  # type: ignore[arg-type]

    def forward(self, x: Tensor) -> Tensor:
        """(n, *shape) to (n, outputs)."""
        return self.head(self.body(x))


class Transfer(FewShot):
    """The transfer baseline. Its state holds the weights fitted to each task, by name."""

    settings: TransferSettings
    net: Classifier

    def build(self) -> nn.Module:
        """An encoder, and a head over all training classes."""
        return Classifier(self.settings.encoder(self.kind), self.classes or 1)

    def loss(self, episode: Episode) -> tuple[Tensor, Metrics]:
        """The loss of classifying the episodes' examples among all training classes; in regression the squared error."""
        x = torch.cat([episode.support.x, episode.query.x], 1).flatten(0, 1)
        y = torch.cat([episode.support.y, episode.query.y], 1)
        prediction = self.net(x)
        if episode.classes is None:
            return (prediction - y.flatten(0, 1)).square().mean(), {}
        target = episode.classes.gather(1, y).flatten()
        accuracy = float((prediction.detach().argmax(-1) == target).float().mean())
        return functional.cross_entropy(prediction, target), {"training_accuracy": accuracy}

    def initial_state(self, num_tasks: int) -> State:
        """Per task a zero head (regression: a copy of the trained head) and, with `fit` all, a copy of the other weights."""
        head = {name: value.detach() for name, value in self.net.head.named_parameters(prefix="head")}
        if self.classes:
            head = {name: value.new_zeros(self.ways, *value.shape[1:]) for name, value in head.items()}
        body = {k: v.detach() for k, v in self.net.body.named_parameters(prefix="body") if not k.endswith(EMBEDDING)}
        return stacked({**head, **(body if self.settings.fit == "all" else {})}, num_tasks)

    def adapt(self, state: State, support: Examples) -> State:
        """Gradient descent on the support."""
        s = self.settings
        frozen = self._features(support.x) if s.fit == "head" else None

        def loss(params: Params) -> Tensor:
            squared_norm = params["head.weight"].square().sum((1, 2))
            return mean_loss(self._predictions(params, support.x, frozen), support.y) + s.decay * squared_norm

        rate = {name: torch.tensor(s.fit_lr, device=self.device) for name in state}
        return adapt(state, loss, [rate] * s.fit_steps, first_order=True)

    def predict(self, state: State, query: Tensor) -> tuple[Tensor, State]:
        """See `FewShot`."""
        return self._predictions(state, query, self._features(query) if self.settings.fit == "head" else None), state

    def _features(self, x: Tensor) -> Tensor:
        with torch.no_grad():
            return _scaled(self.net.body(x.flatten(0, 1)), self.classes).unflatten(0, x.shape[:2])

    def _predictions(self, params: Params, x: Tensor, features: Tensor | None) -> Tensor:
        if features is None:
            body = {k.removeprefix("body."): v for k, v in params.items() if k.startswith("body.")}
            features = _scaled(vmap(as_function(self.net.body))(body, x), self.classes)
        return features @ params["head.weight"].mT + params["head.bias"].unsqueeze(1)


def _scaled(features: Tensor, classes: int) -> Tensor:
    """Scale a classifier's features to length sqrt(size), entries around 1, so that one learning rate fits all."""
    return functional.normalize(features, dim=-1) * features.shape[-1] ** 0.5 if classes else features


class Nearest(Comparing):
    """Predicts the target of the nearest support example: distances are between raw inputs, or between texts' vectors."""

    regression = True

    def build(self) -> nn.Module:
        """An identity network, without parameters."""
        return nn.Identity()

    def features(self, x: Tensor) -> Tensor:
        """Examples as vectors (tasks, n, size); texts, as sentence vectors or bags of features, have length 1."""
        if self.kind.name == "vector":
            return functional.normalize(x, dim=-1)
        if self.kind.name != "text":
            return x.flatten(2)
        bags = torch.zeros(*x.shape[:2], BUCKETS, device=x.device).scatter_(2, x, 1.0)
        bags[..., 0] = 0.0
        return functional.normalize(bags, dim=-1)

    def compare(self, state: State, features: Tensor) -> Tensor:
        """Minus the squared distance to the nearest example of each class; regression: the value of the nearest example."""
        support, targets = state["features"], state["targets"]
        distance = squared_distances(features, support)
        if targets.is_floating_point():
            return targets.gather(1, distance.argmin(-1, keepdim=True))
        other_class = functional.one_hot(targets, self.ways).mT.unsqueeze(1) == 0
        return -distance.unsqueeze(2).masked_fill(other_class, torch.inf).amin(-1)

    def update(self, batches: list[Any], iteration: int) -> Metrics:
        """Do nothing."""
        return {}
