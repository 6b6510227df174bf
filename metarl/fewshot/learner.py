"""What the learners of few-shot learning share: an outer step of Adam over episodes, and how answers are scored."""

from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from metarl.fewshot.episodes import Episode, Examples
from metarl.fewshot.networks import BUCKETS, Kind
from metarl.graphs import Graph, Input
from metarl.learner import Agent, Metrics, NonFiniteError, Source, State
from metarl.rollout import WEIGHTS, generator


class FewShot(Agent):
    """A learner that is trained on episodes: adapt to the support, answer the query, and follow the loss of the answers.

    Predictions are logits (tasks, queries, ways); of regression values (tasks, queries, 1). Subclasses give the network and
    the verbs of `Learner`; an iteration is as many outer steps as the source says.

    Args:
        settings: the learner's own; `learning_rate` is Adam's.
        kind: of the examples.
        seed: of the initial weights.
        device: where everything is computed.
        classes: how many classes there are to train on (0: regression).

    Attributes:
        net: the network.
        any_ways: whether the learner takes episodes of other ways than it was trained with.
        regression: whether it can answer with numbers.
    """

    any_ways = True
    regression = True
    net: nn.Module

    def __init__(self, settings: Any, kind: Kind, *, seed: int, device: torch.device, classes: int) -> None:
        self.settings, self.kind, self.device, self.classes = settings, kind, device, classes
        self.ways = kind.outputs
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(int(generator(seed, WEIGHTS).integers(2**31)))
            self.net = self.build()
        self.net.to(device).to(memory_format=torch.channels_last).eval()  # type: ignore[call-overload]

    def build(self) -> nn.Module:
        """The network, with initial weights."""
        raise NotImplementedError

    def parameters(self) -> dict[str, nn.Parameter]:
        """What the outer step moves."""
        return dict(self.net.named_parameters())

    @cached_property
    def optimizer(self) -> torch.optim.Adam:
        """Adam, made when it is first needed: what torch imports with it takes two seconds."""
        return torch.optim.Adam(self.parameters().values(), self.settings.learning_rate)

    def answer(self, episode: Episode) -> Tensor:
        """Predictions for the query after adapting to the support."""
        state = self.adapt(self.begin(len(episode.support.x)), episode.support)
        return self.predict(state, episode.query.x)[0]

    def loss(self, episode: Episode) -> tuple[Tensor, Metrics]:
        """What the outer step makes smaller, a mean over tasks, and what is worth logging."""
        prediction = self.answer(episode)
        scored = by_task(prediction.detach(), episode.query.y).mean()
        return mean_loss(prediction, episode.query.y).mean(), {self.kind.measure: float(scored)}

    def update(self, batches: list[Any], iteration: int) -> Metrics:
        """A step of Adam. See `Agent.update`."""
        (episode,) = batches
        self.net.train()
        loss, metrics = self.loss(episode)
        if not loss.isfinite():
            raise NonFiniteError("the loss is not finite: a smaller learning rate may help", {"query": episode.query.x})
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        self.net.eval()
        return {"loss": float(loss.detach()), **metrics}

    def iterate(self, source: Source, iteration: int) -> Metrics:
        """As many outer steps as the source has batches; the metrics are their means."""
        source.begin(iteration)
        found: list[Metrics] = []
        for phase in range(source.phases):  # type: ignore[attr-defined]
            batch, _ = source.collect(self, None, phase)
            found.append(self.update([batch], iteration))
        return {name: sum(one[name] for one in found) / len(found) for name in found[0]}

    def state_dict(self) -> dict[str, Any]:
        """Weights, statistics and Adam's moments."""
        return {"net": self.net.state_dict(), "optimizer": self.moments()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """See `Agent.load_state_dict`."""
        self.net.load_state_dict(state.get("net", {}))  # what is empty is not in a checkpoint
        self.load_moments(state.get("optimizer", {}))


class Comparing(FewShot):
    """A learner whose state is the support's features and targets: more support makes it longer."""

    regression = False

    def features(self, x: Tensor) -> Tensor:
        """Examples (tasks, n, *shape) to features (tasks, n, size)."""
        return self.net(x.flatten(0, 1)).unflatten(0, x.shape[:2])

    def begin(self, num_tasks: int) -> State:
        """Nothing known yet."""
        nothing = torch.zeros(num_tasks, 0, device=self.device)
        return {"features": nothing.unsqueeze(-1), "targets": nothing.long()}

    def adapt(self, state: State, support: Examples) -> State:
        """Remember the support's features and targets."""
        features = self.features(support.x)
        if state["targets"].shape[1] == 0:
            return {"features": features, "targets": support.y}
        return {
            "features": torch.cat([state["features"], features], 1),
            "targets": torch.cat([state["targets"], support.y], 1),
        }

    def graph(self, state: State) -> Graph:
        """What is exported: a support and queries to the answers."""
        x = torch.zeros(2, 3, *self.kind.shape, dtype=torch.int64 if self.kind.name == "text" else torch.float32)
        labels = torch.zeros(2, 3, dtype=torch.int64)
        form = _EXAMPLES[self.kind.name]
        inputs = {
            "support": Input(x, ("tasks", "examples"), f"the few examples of each task: {form}", BUCKETS),
            "labels": Input(labels, ("tasks", "examples"), f"their classes, 0 to {self.ways - 1}", self.ways),
            "query": Input(torch.cat([x, x], 1), ("tasks", "queries"), "what is to be told apart, in the same form", BUCKETS),
        }
        use = "The class of the largest logit is the answer; softmax gives probabilities. Tasks do not see each other."
        return Graph(_Answers(self), inputs, {"logits": f"(tasks, queries, {self.ways})"}, use)

    def uniform(self, query: Tensor) -> Tensor:
        """What is answered before there is any support: every class alike."""
        return torch.zeros(*query.shape[:2], self.ways, device=self.device)


_EXAMPLES = {
    "image": "float32 in [0, 1], (channels, height, width); Omniglot's strokes are light on dark",
    "text": "int64 feature ids by metarl.fewshot.text.features, 0 for none",
    "regression": "float32",
}


class _Answers(nn.Module):
    """A comparing learner as one module."""

    def __init__(self, learner: Comparing) -> None:
        super().__init__()
        self.learner, self.net = learner, learner.net

    def forward(self, support: Tensor, labels: Tensor, query: Tensor) -> tuple[Tensor]:
        state = self.learner.adapt(self.learner.begin(support.shape[0]), Examples(support, labels))
        return (self.learner.predict(state, query)[0],)


def mean_loss(prediction: Tensor, target: Tensor) -> Tensor:
    """Cross-entropy, or squared error, of each task: the mean over its queries, (tasks,)."""
    if target.is_floating_point():
        return (prediction - target).square().mean((1, 2))
    return functional.cross_entropy(prediction.flatten(0, 1), target.flatten(), reduction="none").view_as(target).mean(1)


def by_task(prediction: Tensor, target: Tensor) -> Tensor:
    """Accuracy, or mean squared error, of each task, (tasks,)."""
    if target.is_floating_point():
        return (prediction - target).square().mean((1, 2))
    return (prediction.argmax(-1) == target).float().mean(1)
