"""MAML for data sets (Finn et al. 2017), with the inner loop that robots adapt by, and MAML++'s additions.

FOMAML, ANIL, BOIL and Meta-SGD are settings of the inner loop (`metarl.adapt`); learned rates of each step's own and the
multi-step loss are those of MAML++ (Antoniou et al. 2019, sections 4.1 and 4.4).
"""

import os
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import vmap

from metarl.adapt import InnerSettings, Params, adapt, flatten, initial_rates, stacked, unflatten
from metarl.agents import Preset
from metarl.errors import UserError
from metarl.fewshot.episodes import Episode, Examples
from metarl.fewshot.learner import FewShot, by_task, mean_loss
from metarl.fewshot.networks import EMBEDDING, Kind, Statistics, TaskNetwork, task_network
from metarl.learner import Metrics, NonFiniteError, State


@dataclass(frozen=True)
class MAMLSettings(InnerSettings):
    """Settings of MAML on data sets."""

    inner_lr: float = 0.4
    """Learning rate alpha of the inner steps."""
    test_steps: int | None = None
    """Inner steps outside training; default: as in training."""
    rates_by_step: bool = False
    """Learned rates of each inner step's own (MAML++)."""
    multi_step_loss: int = 0
    """Outer steps over which the loss moves from the answers after all inner steps to those after the last (MAML++)."""
    channels: int = 64
    """Channels of each block (texts and numbers: width of the layers)."""
    learning_rate: float = 1e-3
    """Of Adam."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.inner_steps < 1 or (self.test_steps is not None and self.test_steps < 1):
            raise UserError("inner_steps and test_steps must be at least 1")
        if self.channels < 1 or not self.learning_rate > 0 or self.multi_step_loss < 0:
            raise UserError("channels must be at least 1, learning_rate positive and multi_step_loss at least 0")
        if self.rates_by_step and self.rates == "fixed":
            raise UserError("rates_by_step is of learned rates: --rates layer or --rates weight")


PRESETS = {"maml": {"default": Preset(MAMLSettings())}}
_MOMENTUM = 0.05
"""Of the running statistics that stand in for a support."""


class MAML(FewShot):
    """The learner.

    Its state: each task's own parameters, and the statistics of its support (None: there was none).

    Attributes:
        rates: learning rates of each inner step, or of all steps.
        meta: what the outer step moves: the network's parameters by name, and learned rates as "rate.<step>.<name>".
        updates: outer steps taken.
    """

    any_ways = False
    settings: MAMLSettings
    net: TaskNetwork

    def __init__(self, settings: MAMLSettings, kind: Kind, *, seed: int, device: torch.device, classes: int) -> None:
        super().__init__(settings, kind, seed=seed, device=device, classes=classes)
        self.updates = 0
        self.meta: dict[str, nn.Parameter] = dict(self.net.named_parameters())
        first = initial_rates(_own(self.meta), settings)
        self.rates = [
            {k: v.clone() for k, v in first.items()} for _ in range(settings.inner_steps if settings.rates_by_step else 1)
        ]
        if settings.rates != "fixed":
            self.meta |= {f"rate.{i}.{k}": nn.Parameter(v) for i, rates in enumerate(self.rates) for k, v in rates.items()}
        # Two threads of BLAS would share each small product, and stall each other where the machine is busy.
        cores = len(os.sched_getaffinity(0))
        self._workers = ThreadPoolExecutor(cores, "metarl-maml", initializer=torch.set_num_threads, initargs=(1,))

    def build(self) -> nn.Module:
        """The network that tasks adapt."""
        return task_network(self.kind, self.settings.channels)

    def parameters(self) -> dict[str, nn.Parameter]:
        """See `FewShot.parameters`."""
        return self.meta

    # ------------------------------------------------------------------ the verbs

    def begin(self, num_tasks: int) -> State:
        """The shared weights for every task."""
        detached = {name: value.detach() for name, value in self.meta.items()}
        return {"params": stacked(_own(detached), num_tasks), "statistics": None}

    def adapt(self, state: State, support: Examples) -> State:
        """Inner steps on the support."""
        return self.after(state, support, [self.steps])[0]

    @property
    def steps(self) -> int:
        """Inner steps outside training."""
        return self.settings.test_steps or self.settings.inner_steps

    def after(self, state: State, support: Examples, counts: Sequence[int]) -> list[State]:
        """The states after each of these numbers of inner steps. See `metarl.fewshot.details.Stepwise`."""
        found = [state["params"], *self._adapted(self.meta, state["params"], support, max(counts))]
        return [self._state(self.meta, found[n], support) if n else state for n in counts]

    def predict(self, state: State, query: Tensor) -> tuple[Tensor, State]:
        """Each task's own network. See `FewShot`."""
        return self._answers(self.meta, state, query), state

    def _state(self, meta: Mapping[str, Tensor], params: Params, support: Examples) -> State:
        """Parameters, and the statistics of the support by them."""
        return {"params": params, "statistics": self._forward(params, self.net.shared(support.x, meta), None)[1]}

    def _adapted(self, meta: Mapping[str, Tensor], params: Params, support: Examples, steps: int) -> list[Params]:
        """The parameters after each of some inner steps."""
        x, found = self.net.shared(support.x, meta), []
        for i in range(steps):
            params = adapt(
                params, lambda p: mean_loss(self._forward(p, x, None)[0], support.y), [self._rates(meta, i)],
                first_order=self.settings.first_order,
            )  # fmt: skip
            found.append(params)
        return found

    def _answers(self, meta: Mapping[str, Tensor], state: State, query: Tensor) -> Tensor:
        statistics = state["statistics"]
        if statistics is None:
            tasks = len(query)
            statistics = tuple(Statistics(*(t.expand(tasks, -1) for t in of_layer)) for of_layer in self.net.running)
        return self._forward(state["params"], self.net.shared(query, meta), statistics)[0]

    def _forward(self, params: Params, x: Tensor, statistics: Any) -> Any:
        return vmap(self.net, (0, 0, None if statistics is None else 0))(params, x, statistics)

    def _rates(self, meta: Mapping[str, Tensor], step: int) -> Params:
        """Of an inner step; steps beyond those of training take the last ones."""
        i = min(step, len(self.rates) - 1)
        return {name: meta.get(f"rate.{i}.{name}", rate) for name, rate in self.rates[i].items()}

    # ------------------------------------------------------------------ the outer step

    def update(self, batches: list[Any], iteration: int) -> Metrics:
        """A step of Adam on the loss after adaptation; on a CPU each core takes some of the tasks."""
        (episode,) = batches
        tasks = len(episode.support.x)
        parts = min(len(os.sched_getaffinity(0)), tasks) if self.device.type == "cpu" else 1
        found = list(self._workers.map(partial(self._gradient, share=1 / tasks), episode.split(parts)))
        gradient = torch.stack([g for g, _ in found]).sum(0)
        if not gradient.isfinite().all():
            raise NonFiniteError("the gradient is not finite: inner_lr may be too large", {"query": episode.query.x})
        for parameter, part in zip(self.meta.values(), unflatten(gradient, self.meta).values()):
            parameter.grad = part.clone()
        self.optimizer.step()
        self._observe(episode.support)
        self.updates += 1
        return {name: sum(metrics[name] for _, metrics in found) for name in found[0][1]}

    def _gradient(self, episode: Episode, share: float) -> tuple[Tensor, Metrics]:
        """Gradient of the tasks' summed loss times `share`, and what is worth logging, likewise."""
        leaves = {name: value.detach().requires_grad_() for name, value in self.meta.items()}
        start = stacked(_own(leaves), len(episode.support.x))
        adapted = self._adapted(leaves, start, episode.support, self.settings.inner_steps)
        weights, target = self._loss_weights(), episode.query.y
        counted = [(w, self._state(leaves, params, episode.support)) for w, params in zip(weights, adapted) if w]
        answers = [self._answers(leaves, state, episode.query.x) for _, state in counted]
        loss = torch.stack([w * mean_loss(answer, target).sum() for (w, _), answer in zip(counted, answers)]).sum() * share
        gradient = torch.autograd.grad(loss, list(leaves.values()), allow_unused=True, materialize_grads=True)
        scored = by_task(answers[-1].detach(), target).sum() * share
        return flatten(gradient), {"loss": float(loss.detach()), self.kind.measure: float(scored)}

    def _loss_weights(self) -> list[float]:
        """Of the answers after each inner step: all on the last, or, at first, shared out (MAML++)."""
        steps, s = self.settings.inner_steps, self.settings
        early = max(0.0, 1 - self.updates / s.multi_step_loss) / steps if s.multi_step_loss else 0.0
        return [*[early] * (steps - 1), 1 - early * (steps - 1)]

    @torch.no_grad()
    def _observe(self, support: Examples) -> None:
        """Move the running statistics towards those of these supports by the shared weights."""
        start = self.begin(len(support.x))["params"]
        statistics = self._forward(start, self.net.shared(support.x, self.meta), None)[1]
        for running, found in zip(self.net.running, statistics):
            running.mean.lerp_(found.mean.mean(0), _MOMENTUM)
            running.variance.lerp_(found.variance.mean(0), _MOMENTUM)

    # ------------------------------------------------------------------ checkpoints

    def state_dict(self) -> dict[str, Any]:
        """See `FewShot.state_dict`; learned rates and the count of outer steps too."""
        learned = {name: value for name, value in self.meta.items() if name.startswith("rate.")}
        return {**super().state_dict(), "rates": learned, "updates": self.updates}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """See `Agent.load_state_dict`."""
        super().load_state_dict(state)
        self.updates = state["updates"]
        with torch.no_grad():
            for name, rate in state.get("rates", {}).items():
                self.meta[name].copy_(rate)


def _own(params: Mapping[str, Tensor]) -> Params:
    """The network's parameters that each task has for itself."""
    return {name: value for name, value in params.items() if name != EMBEDDING and not name.startswith("rate.")}
