"""Base classes of the few-shot learners: an Adam outer step over episodes, and the loss and score of predictions."""

import math
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Self

import torch
from torch import Tensor, nn
from torch.nn import functional

from metarl.agents.fewshot.networks import Kind, encoder, measure_statistics
from metarl.datasets.episodes import Episode, Examples
from metarl.datasets.features import BUCKETS
from metarl.errors import UserError
from metarl.learner import Agent, Metrics, NonFiniteError, Source, State
from metarl.nn.graphs import Graph, Input
from metarl.optim.inner_loop import flatten, unflatten
from metarl.optim.sharded import Shards
from metarl.rollouts.random_streams import initial_weights
from metarl.system.ranges import check

STATISTICS_BATCHES = 8
"""Number of last outer updates of an iteration whose episodes give the normalisation statistics used outside training."""
PRECISIONS = ("auto", "float32", "bfloat16")


@dataclass(frozen=True)
class OuterSettings:
    """Settings of the outer step."""

    channels: int = 64
    """Channels of each convolutional block; for texts and numbers, width of the layers (with a sentence encoder: of the
    hidden layer)."""
    learning_rate: float = 1e-3
    """Initial learning rate of Adam."""
    anneal: bool = True
    """Decay the learning rate to 0 over training, as half a cosine."""
    shards: int = 2
    """Number of parts into which an update's episodes are divided. A CPU computes them in parallel, one core each. The number
    affects rounding and, with batch normalisation, which examples are normalised together."""

    def __post_init__(self) -> None:
        check(self, channels="[1, 100000]", shards="[1, 1024]", learning_rate="(0, inf)")


@dataclass(frozen=True)
class EncoderSettings(OuterSettings):
    """Settings of learners with one encoder for all tasks."""

    precision: str = "auto"
    """Precision of convolutions in training: float32, bfloat16 (sums stay in float32), or auto: bfloat16 on CPUs with AMX,
    where it was measured to be faster, and float32 elsewhere. A resumed run keeps the precision in its config.json. Outside
    training it is always float32."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.precision not in PRECISIONS:
            raise UserError(f"precision must be {', '.join(PRECISIONS)}, not {self.precision!r}")

    def resolved(self, device: str) -> Self:
        """These settings with `auto` replaced by the precision for this kind of device on this machine."""
        precision = "bfloat16" if device in _bfloat16_devices("auto") else "float32"
        return replace(self, precision=precision) if self.precision == "auto" else self

    def encoder(self, kind: Kind) -> nn.Module:
        """An encoder with initial weights."""
        return encoder(kind, self.channels, _bfloat16_devices(self.precision))


def _bfloat16_devices(precision: str) -> tuple[str, ...]:
    """The kinds of device that compute convolutions in bfloat16."""
    capabilities: Any = getattr(torch.cpu, "get_capabilities", None)  # missing in older versions of torch
    amx = capabilities is not None and capabilities().get("amx_bf16", False)
    return {"float32": (), "bfloat16": ("cpu", "cuda"), "auto": ("cpu",) if amx else ()}[precision]


class FewShot(Agent):
    """A learner trained on episodes: adapt to the support, predict the query, and descend the loss of the predictions.

    Predictions are logits (tasks, queries, ways), or values (tasks, queries, 1) in regression. Subclasses define the network
    and the methods of `Learner`. The source sets the number of outer steps per iteration.

    Args:
        settings: settings of the learner.
        kind: kind of the examples.
        seed: seed of the initial weights.
        device: device of the computation.
        classes: number of training classes (0: regression).
        total_updates: length of training, over which the learning rate decays.

    Attributes:
        net: the network.
        updates: outer steps taken.
        any_ways: whether the learner accepts episodes with another number of ways than in training.
        regression: whether it supports regression.
    """

    any_ways = True
    regression = True
    net: nn.Module

    def __init__(self, settings: Any, kind: Kind, *, seed: int, device: torch.device, classes: int, total_updates: int) -> None:
        self.settings, self.kind, self.device, self.classes = settings, kind, device, classes
        self.ways, self.total_updates, self.updates = kind.outputs, total_updates, 0
        with initial_weights(seed):
            self.net = self.build()
        self.net.to(device).to(memory_format=torch.channels_last).eval()  # type: ignore[call-overload]

    def build(self) -> nn.Module:
        """The network, with initial weights."""
        raise NotImplementedError

    def parameters(self) -> dict[str, nn.Parameter]:
        """The parameters that the outer step updates."""
        return dict(self.net.named_parameters())

    @cached_property
    def optimizer(self) -> torch.optim.Adam:
        """Adam, made on first use: importing it takes torch two seconds."""
        return torch.optim.Adam(self.parameters().values(), self.settings.learning_rate)

    @cached_property
    def shards(self) -> Shards:
        """Computes the gradients of the parts of an update in parallel."""
        return Shards(self.settings.shards, self.device)

    def predict_query(self, episode: Episode) -> Tensor:
        """Predictions for the query after adapting to the support."""
        state = self.adapt(self.initial_state(len(episode.support.x)), episode.support)
        return self.predict(state, episode.query.x)[0]

    def loss(self, episode: Episode) -> tuple[Tensor, Metrics]:
        """The loss of the outer step, a mean over tasks, and metrics to log."""
        prediction = self.predict_query(episode)
        score = score_by_task(prediction.detach(), episode.query.y).mean()
        return mean_loss(prediction, episode.query.y).mean(), {self.kind.measure: float(score)}

    def update(self, batches: list[Any], iteration: int) -> Metrics:
        """One Adam step. See `Agent.update`."""
        (episode,) = batches
        parameters, parts = self.parameters(), episode.split(min(self.shards.count, len(episode.query.x)))
        shares = [len(part.query.x) / len(episode.query.x) for part in parts]
        self.net.train()
        gradients, part_metrics = self.shards.gradients(self._weighted_loss, list(parameters.values()), parts, shares)
        self.net.eval()
        gradient = torch.stack([flatten(part_gradient) for part_gradient in gradients]).sum(0)
        if not gradient.isfinite().all():
            advice = f"smaller {' or '.join(n for n in ('learning_rate', 'inner_lr') if hasattr(self.settings, n))}"
            raise NonFiniteError(f"the gradient is not finite: a {advice} may help", {"query": episode.query.x})
        for parameter, part in zip(parameters.values(), unflatten(gradient, parameters).values()):
            parameter.grad = part
        for group in self.optimizer.param_groups:
            group["lr"] = self._learning_rate()
        self.optimizer.step()
        self.updates += 1
        return {name: sum(metrics[name] for metrics in part_metrics) for name in part_metrics[0]}

    def _weighted_loss(self, episode: Episode, share: float) -> tuple[Tensor, Metrics]:
        """The loss and the metrics, both times `share`."""
        loss, metrics = self.loss(episode)
        return loss * share, {name: value * share for name, value in {"loss": float(loss.detach()), **metrics}.items()}

    def _learning_rate(self) -> float:
        """lr_t = lr (1 + cos(pi t / T)) / 2."""
        progress = min(1.0, self.updates / self.total_updates) if self.settings.anneal else 0.0
        return self.settings.learning_rate * (1 + math.cos(math.pi * progress)) / 2

    def observe(self, episodes: Sequence[Episode]) -> None:
        """Measure, with the current weights, the statistics that replace batch statistics outside training."""
        measure_statistics(self.net, [torch.cat([e.support.x, e.query.x], 1).flatten(0, 1) for e in episodes])

    def iterate(self, source: Source, iteration: int) -> Metrics:
        """One outer step per batch of the source; returns the means of their metrics."""
        source.begin(iteration)
        metrics: list[Metrics] = []
        recent: deque[Episode] = deque(maxlen=STATISTICS_BATCHES)
        for phase in range(source.phases):  # type: ignore[attr-defined]
            batch, _ = source.collect(self, None, phase)
            metrics.append(self.update([batch], iteration))
            recent.append(batch)
        self.observe(recent)
        return {name: sum(update_metrics[name] for update_metrics in metrics) / len(metrics) for name in metrics[0]}

    def state_dict(self) -> dict[str, Any]:
        """Weights, running statistics, Adam's moments and the number of outer steps."""
        return {"net": self.net.state_dict(), "optimizer": self.moments(), "updates": self.updates}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """See `Agent.load_state_dict`."""
        self.net.load_state_dict(state.get("net", {}))  # checkpoints omit empty dicts
        self.load_moments(state.get("optimizer", {}))
        self.updates = state["updates"]


class Comparing(FewShot):
    """A learner that compares queries with the support; its state holds the support's features and targets."""

    regression = False

    def features(self, x: Tensor) -> Tensor:
        """Examples (tasks, n, *shape) to features (tasks, n, size)."""
        return self.net(x.flatten(0, 1)).unflatten(0, x.shape[:2])

    def compare(self, state: State, features: Tensor) -> Tensor:
        """Predictions from the features (tasks, queries, size) of a query; the support is not empty."""
        raise NotImplementedError

    def predict(self, state: State, query: Tensor) -> tuple[Tensor, State]:
        """See `FewShot`; without a support all logits are 0."""
        if state["targets"].shape[1] == 0:
            return torch.zeros(*query.shape[:2], self.ways, device=self.device), state
        return self.compare(state, self.features(query)), state

    def predict_query(self, episode: Episode) -> Tensor:
        """See `FewShot`; support and query pass through the network as one batch, with one set of statistics."""
        support, query = episode.support, episode.query
        features = self.features(torch.cat([support.x, query.x], 1))
        n = support.x.shape[1]
        return self.compare({"features": features[:, :n], "targets": support.y}, features[:, n:])

    def initial_state(self, num_tasks: int) -> State:
        """A state with an empty support."""
        empty = torch.zeros(num_tasks, 0, device=self.device)
        return {"features": empty.unsqueeze(-1), "targets": empty.long()}

    def adapt(self, state: State, support: Examples) -> State:
        """Append the support's features and targets to the state."""
        features = self.features(support.x)
        if state["targets"].shape[1] == 0:
            return {"features": features, "targets": support.y}
        return {
            "features": torch.cat([state["features"], features], 1),
            "targets": torch.cat([state["targets"], support.y], 1),
        }

    def graph(self, state: State) -> Graph:
        """The learner as a function of support and queries, for export."""
        x = torch.zeros(2, 3, *self.kind.shape, dtype=torch.int64 if self.kind.name == "text" else torch.float32)
        labels = torch.zeros(2, 3, dtype=torch.int64)
        example_format = _EXAMPLE_FORMATS[self.kind.name]
        inputs = {
            "support": Input(x, ("tasks", "examples"), f"the few examples of each task: {example_format}", BUCKETS),
            "labels": Input(labels, ("tasks", "examples"), f"their classes, 0 to {self.ways - 1}", self.ways),
            "query": Input(torch.cat([x, x], 1), ("tasks", "queries"), "the examples to classify, in the same form", BUCKETS),
        }
        usage = "The class of the largest logit is the answer; softmax gives probabilities. Tasks are independent."
        return Graph(_ComparingGraph(self), inputs, {"logits": f"(tasks, queries, {self.ways})"}, usage)


_EXAMPLE_FORMATS = {
    "image": "float32 in [0, 1], (channels, height, width); Omniglot's strokes are light on dark",
    "text": "int64 feature ids by metarl.datasets.text.features, 0 for none",
    "vector": "float32 embeddings of texts by the sentence encoder named in the metadata; their norm does not matter",
    "regression": "float32",
}


class _ComparingGraph(nn.Module):
    """A comparing learner as one module, for export."""

    def __init__(self, learner: Comparing) -> None:
        super().__init__()
        self.learner, self.net = learner, learner.net

    def forward(self, support: Tensor, labels: Tensor, query: Tensor) -> tuple[Tensor]:
        state = self.learner.adapt(self.learner.initial_state(support.shape[0]), Examples(support, labels))
        return (self.learner.predict(state, query)[0],)


def mean_loss(prediction: Tensor, target: Tensor) -> Tensor:
    """Mean cross-entropy or squared error over each task's queries, (tasks,)."""
    if target.is_floating_point():
        return (prediction - target).square().mean((1, 2))
    return functional.cross_entropy(prediction.flatten(0, 1), target.flatten(), reduction="none").view_as(target).mean(1)


def score_by_task(prediction: Tensor, target: Tensor) -> Tensor:
    """Accuracy or mean squared error of each task, (tasks,)."""
    if target.is_floating_point():
        return (prediction - target).square().mean((1, 2))
    return (prediction.argmax(-1) == target).float().mean(1)
