"""MAML for data sets (Finn et al. 2017), with options from MAML++.

It shares the inner loop (`metarl.optim.inner_loop`) with MAML for control; FOMAML, ANIL, BOIL and Meta-SGD are settings of
it. Learned rates per step and the multi-step loss come from MAML++ (Antoniou et al. 2019, sections 4.1 and 4.4).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import vmap

from metarl.agents import Preset
from metarl.agents.fewshot.base import FewShot, OuterSettings, mean_loss, score_by_task
from metarl.agents.fewshot.networks import EMBEDDING, Kind, Statistics, TaskNetwork, task_network
from metarl.datasets.episodes import Episode, Examples
from metarl.errors import UserError
from metarl.learner import Metrics, State
from metarl.optim.inner_loop import InnerSettings, Params, adapt, initial_rates, stacked
from metarl.system.ranges import check


@dataclass(frozen=True)
class MAMLSettings(InnerSettings, OuterSettings):
    """Settings of MAML on data sets."""

    inner_lr: float = 0.4
    """Learning rate alpha of the inner steps."""
    test_steps: int | None = None
    """Inner steps outside training; default: as in training."""
    rates_by_step: bool = False
    """Learn separate rates for each inner step (MAML++)."""
    transductive: bool = False
    """Images: normalise an episode's queries by their own statistics instead of the support's, as the paper's code does. This
    is more accurate, but a prediction then depends on the other queries, which in an evaluation cover all classes equally."""
    multi_step_loss: int = 0
    """Outer steps over which the loss shifts from the predictions after every inner step to those after the last (MAML++)."""

    def __post_init__(self) -> None:
        InnerSettings.__post_init__(self)
        OuterSettings.__post_init__(self)
        check(self, inner_steps="[1, 10000]", test_steps="[1, 10000]", multi_step_loss="[0, inf)")
        if self.rates_by_step and self.rates == "fixed":
            raise UserError("rates_by_step needs learned rates: --rates layer or --rates weight")


PRESETS = {
    "maml": {
        "default": Preset(MAMLSettings()),
        "omniglot": Preset(MAMLSettings(), {"steps": 7000}),
        "clinc150": Preset(MAMLSettings(channels=256), {"steps": 300}),
        # as in section 5.1 and appendix A.2, except that the learning rate decays
        "sinusoid": Preset(
            MAMLSettings(inner_lr=0.01, channels=40), {"steps": 20_000, "shots": 10, "queries": 10, "meta_batch": 25}
        ),
    }
}


class MAML(FewShot):
    """MAML for few-shot learning.

    Its state holds each task's own parameters and the normalisation statistics of its support (None: not measured).

    Attributes:
        rates: learning rates, one dict per inner step or one for all steps.
        meta: parameters that the outer step updates: the network's, by name, and learned rates as "rate.<step>.<name>".
    """

    any_ways = False
    settings: MAMLSettings
    net: TaskNetwork

    def __init__(self, settings: MAMLSettings, kind: Kind, **common: Any) -> None:
        if settings.transductive and kind.name != "image":
            raise UserError(f"transductive is for the normalisation of images; {kind.name}s are not normalised")
        super().__init__(settings, kind, **common)
        self.meta: dict[str, nn.Parameter] = dict(self.net.named_parameters())
        initial = initial_rates(_task_parameters(self.meta), settings)
        self.rates = [
            {k: v.clone() for k, v in initial.items()} for _ in range(settings.inner_steps if settings.rates_by_step else 1)
        ]
        if settings.rates != "fixed":
            self.meta |= {f"rate.{i}.{k}": nn.Parameter(v) for i, rates in enumerate(self.rates) for k, v in rates.items()}

    def build(self) -> nn.Module:
        """The network that adapts to each task."""
        return task_network(self.kind, self.settings.channels)

    def parameters(self) -> dict[str, nn.Parameter]:
        """See `FewShot.parameters`."""
        return self.meta

    # ------------------------------------------------------------------ methods of `Learner`

    def initial_state(self, num_tasks: int) -> State:
        """A copy of the shared weights for each task."""
        detached = {name: value.detach() for name, value in self.meta.items()}
        return {"params": stacked(_task_parameters(detached), num_tasks), "statistics": None}

    def adapt(self, state: State, support: Examples) -> State:
        """Inner steps on the support."""
        return self.after(state, support, [self.steps])[0]

    @property
    def steps(self) -> int:
        """Inner steps outside training."""
        return self.settings.test_steps or self.settings.inner_steps

    def after(self, state: State, support: Examples, counts: Sequence[int]) -> list[State]:
        """The state after each of the given numbers of inner steps. See `metarl.evaluation.fewshot_diagnostics.Stepwise`."""
        history = [state["params"], *self._adapted(self.meta, state["params"], support, max(counts))]
        return [self._state(self.meta, history[n], support) if n else state for n in counts]

    def predict(self, state: State, query: Tensor) -> tuple[Tensor, State]:
        """The predictions of each task's own network. See `FewShot`."""
        return self._predictions(self.meta, state, query), state

    def _state(self, meta: Mapping[str, Tensor], params: Params, support: Examples) -> State:
        """A state: the parameters and, unless transductive, the statistics of the support under them."""
        if self.settings.transductive:
            return {"params": params, "statistics": None}
        return {"params": params, "statistics": self._forward(params, self.net.shared(support.x, meta), None)[1]}

    def _adapted(self, meta: Mapping[str, Tensor], params: Params, support: Examples, steps: int) -> list[Params]:
        """The parameters after each inner step."""
        x, history = self.net.shared(support.x, meta), []
        for i in range(steps):
            params = adapt(
                params,
                lambda p: mean_loss(self._forward(p, x, None)[0], support.y),
                [self._rates(meta, i)],
                first_order=self.settings.first_order,
            )
            history.append(params)
        return history

    def _predictions(self, meta: Mapping[str, Tensor], state: State, query: Tensor) -> Tensor:
        statistics = state["statistics"]
        if statistics is None and not self.settings.transductive:
            tasks = len(query)
            statistics = tuple(Statistics(*(t.expand(tasks, -1) for t in of_layer)) for of_layer in self.net.running)
        return self._forward(state["params"], self.net.shared(query, meta), statistics)[0]

    def _forward(self, params: Params, x: Tensor, statistics: Any) -> Any:
        return vmap(self.net, (0, 0, None if statistics is None else 0))(params, x, statistics)

    def _rates(self, meta: Mapping[str, Tensor], step: int) -> Params:
        """The learning rates of an inner step; steps beyond those of training use the last ones."""
        i = min(step, len(self.rates) - 1)
        return {name: meta.get(f"rate.{i}.{name}", rate) for name, rate in self.rates[i].items()}

    # ------------------------------------------------------------------ the outer step

    def loss(self, episode: Episode) -> tuple[Tensor, Metrics]:
        """The loss of the predictions after adaptation."""
        start = stacked(_task_parameters(self.meta), len(episode.support.x))
        adapted = self._adapted(self.meta, start, episode.support, self.settings.inner_steps)
        weights, target = self._loss_weights(), episode.query.y
        weighted_states = [(w, self._state(self.meta, params, episode.support)) for w, params in zip(weights, adapted) if w]
        predictions = [self._predictions(self.meta, state, episode.query.x) for _, state in weighted_states]
        loss = torch.stack([w * mean_loss(p, target).mean() for (w, _), p in zip(weighted_states, predictions)]).sum()
        return loss, {self.kind.measure: float(score_by_task(predictions[-1].detach(), target).mean())}

    def _loss_weights(self) -> list[float]:
        """Loss weight of the predictions after each inner step: all on the last; MAML++ starts with equal weights."""
        steps, s = self.settings.inner_steps, self.settings
        early_weight = max(0.0, 1 - self.updates / s.multi_step_loss) / steps if s.multi_step_loss else 0.0
        return [*[early_weight] * (steps - 1), 1 - early_weight * (steps - 1)]

    @torch.no_grad()
    def observe(self, episodes: Sequence[Episode]) -> None:
        """Set the statistics used without a support: their mean over these supports, under the shared weights."""
        support = torch.cat([episode.support.x for episode in episodes])
        statistics = self._forward(self.initial_state(len(support))["params"], self.net.shared(support, self.meta), None)[1]
        for running, measured in zip(self.net.running, statistics):
            running.mean.copy_(measured.mean.mean(0))
            running.variance.copy_(measured.variance.mean(0))

    # ------------------------------------------------------------------ checkpoints

    def state_dict(self) -> dict[str, Any]:
        """See `FewShot.state_dict`; adds the learned rates."""
        return {**super().state_dict(), "rates": {name: v for name, v in self.meta.items() if name.startswith("rate.")}}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """See `Agent.load_state_dict`."""
        super().load_state_dict(state)
        with torch.no_grad():
            for name, rate in state.get("rates", {}).items():
                self.meta[name].copy_(rate)


def _task_parameters(params: Mapping[str, Tensor]) -> Params:
    """The parameters that each task has a copy of."""
    return {name: value for name, value in params.items() if name != EMBEDDING and not name.startswith("rate.")}
