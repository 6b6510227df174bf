"""MAML for control and related agents: a policy that adapts to a task by gradient steps (Finn et al. 2017).

An iteration collects support trials with the shared policy, adapts one copy of it per task (see
`metarl.optim.inner_loop`), collects query trials with the copies, and updates the shared weights so that the copies
perform better. The setting `outer` selects the update:

trpo      MAML-TRPO: natural gradient through the inner step, within a KL limit (Finn et al. 2017, section 5.3)
ppo       ProMP: clipped surrogate and a KL penalty on the policies before adaptation (Rothfuss et al. 2019); without
          inner steps it is PPO over all tasks
reptile   a step towards the mean of the adapted weights (Nichol et al. 2018)
"""

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any, TypeVar

import gymnasium
import torch
from torch import Tensor, nn

from metarl.agents import Preset
from metarl.agents.maml.outer_steps import OUTER
from metarl.agents.maml.phases import Group, Phase, episode_returns
from metarl.errors import UserError
from metarl.learner import Agent, Metrics, PolicyInput, where
from metarl.nn.distributions import Distribution
from metarl.nn.graphs import Graph, feed_forward
from metarl.nn.input_scaling import InputScale
from metarl.nn.policies import FeedForwardPolicy
from metarl.nn.program import Program
from metarl.optim.advantages import discounted_returns, fit_linear, gae, standardise_by_task
from metarl.optim.inner_loop import InnerSettings, Params, adapt, finite, initial_rates, stacked
from metarl.rollouts.random_streams import SHUFFLE, generator, initial_weights
from metarl.rollouts.rollout import Rollout
from metarl.system.devices import Workers
from metarl.system.machine import worker_count
from metarl.system.ranges import SIZES, check

log = logging.getLogger("metarl")
T = TypeVar("T")


@dataclass(frozen=True)
class MAMLSettings(InnerSettings):
    """Settings of MAML and related agents."""

    layers: tuple[int, ...] = (128, 128)
    """Widths of the tanh layers."""
    std: float = 1.0
    """Initial standard deviation of continuous (Box) actions."""
    state_std: bool = False
    """Let the standard deviation depend on the state; otherwise it is one parameter per entry of the action."""
    min_std: float = 0.05
    """Lower bound of the standard deviation."""
    gamma: float = 0.99
    """Discount factor."""
    lam: float = 0.95
    """Lambda of generalised advantage estimation."""
    inner_loss: str = "ratio"
    """Inner loss: ratio (probability ratio times advantage, the low-variance curvature of ProMP) or log_prob
    (log-probability times advantage). Both have the same gradient and different second derivatives."""
    sampling_credit: float = 0.0
    """Weight of the credit that support actions get for the return after adaptation (E-MAML, Stadie et al. 2018)."""
    outer: str = "trpo"
    """Update of the shared weights: trpo, ppo (ProMP) or reptile."""
    max_kl: float = 0.01
    """trpo: limit of the KL between the adapted policies before and after the outer step, mean over steps and tasks."""
    cg_iterations: int = 10
    """trpo: iterations of conjugate gradient."""
    fvp_fraction: float = 0.25
    """trpo: fraction of the support and query steps used for Fisher products. Gradient and line search use all."""
    backtrack: float = 0.8
    """trpo: factor by which the line search shrinks the step from one candidate to the next."""
    backtracks: int = 15
    """trpo: number of candidates of the line search."""
    learning_rate: float = 1e-3
    """ppo: learning rate of Adam; reptile: step towards the mean of the adapted weights, as a fraction of the distance."""
    epochs: int = 5
    """ppo: passes over an iteration's data."""
    minibatches: int = 1
    """ppo: minibatches per epoch; each holds a part of every task's steps."""
    clip: float = 0.3
    """ppo: clipping range of the probability ratio around 1."""
    inner_kl: float = 5e-4
    """ppo: initial weight of the KL penalty on the policies that collected the support."""
    inner_kl_target: float | None = 0.01
    """ppo: target of that KL; the penalty's weight doubles or halves to stay near it. None: the weight is constant."""
    entropy: float = 0.0
    """ppo: weight of the entropy bonus."""
    max_grad_norm: float | None = None
    """ppo: clip the norm of the gradient to this; None: no clipping."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.outer not in OUTER:
            raise UserError(f"outer must be {', '.join(OUTER)}, not {self.outer!r}")
        if self.inner_loss not in ("ratio", "log_prob"):
            raise UserError(f"inner_loss must be ratio or log_prob, not {self.inner_loss!r}")
        if self.outer == "reptile" and (self.inner_steps < 1 or self.rates != "fixed"):
            raise UserError("reptile needs at least 1 inner step and fixed rates")
        if not self.layers:
            raise UserError("layers needs at least one size")
        check(
            self,
            layers=SIZES,
            cg_iterations="[1, inf)",
            backtracks="[1, inf)",
            epochs="[1, inf)",
            minibatches="[1, inf)",
            fvp_fraction="(0, 1]",
            backtrack="(0, 1]",
            gamma="[0, 1)",
            lam="[0, 1]",
            std="(0, inf)",
            min_std="(0, inf)",
            max_kl="(0, inf)",
            sampling_credit="[0, inf)",
            learning_rate="[0, inf)",
            clip="[0, inf)",
            inner_kl="[0, inf)",
            inner_kl_target="(0, inf)",
            entropy="[0, inf)",
            max_grad_norm="(0, inf)",
        )


_MULTITASK_PPO = MAMLSettings(
    outer="ppo", inner_steps=0, learning_rate=5e-4, epochs=10, minibatches=20, clip=0.2, max_grad_norm=1.0
)
PRESETS = {
    "maml-trpo": {
        "default": Preset(MAMLSettings(), {"episodes_per_trial": 4}),
        "metaworld-plus": Preset(
            MAMLSettings(layers=(512, 512), inner_lr=0.1, lam=1.0, inner_loss="log_prob", min_std=1e-6, fvp_fraction=1.0),
            {"episodes_per_trial": 20},
        ),
    },
    "promp": {"default": Preset(MAMLSettings(outer="ppo"), {"episodes_per_trial": 4})},
    "multitask-ppo": {"default": Preset(_MULTITASK_PPO, {"episodes_per_trial": 2})},
    "multitask-trpo": {"default": Preset(MAMLSettings(inner_steps=0), {"episodes_per_trial": 2})},
}
"""Presets by agent and name: this project's settings and published ones."""


class MAML(Agent):
    """The MAML agent; its settings also make it ProMP, Reptile or a multi-task agent.

    Args:
        settings: see `MAMLSettings`.
        observation_space, action_space: spaces of one environment.
        scale: the tasks' fixed input scale; None: running statistics.
        seed: seed of the initial weights and of the random draws in updates.
        device: device of the computation.
        total_iterations: length of training; unused.

    Attributes:
        meta: parameters that the outer step updates: the policy's, by name, and learned rates as "rate.<name>".
        inner_kl: current weight of ProMP's KL penalty.
    """

    def __init__(
        self,
        settings: MAMLSettings,
        observation_space: gymnasium.Space[Any],
        action_space: gymnasium.Space[Any],
        scale: InputScale | None,
        *,
        seed: int,
        device: torch.device,
        total_iterations: int,
    ) -> None:
        self.settings, self.seed, self.device = settings, seed, device
        self.phases, self.first_std, self.keep_states = settings.inner_steps + 1, settings.std, 0
        with initial_weights(seed):
            self.policy = FeedForwardPolicy(
                observation_space, action_space, scale, settings.layers, settings.std, settings.state_std, settings.min_std
            )
        self.policy.to(device)
        self.rates = initial_rates(dict(self.policy.named_parameters()), settings)
        self.meta: Params = dict(self.policy.named_parameters())
        if settings.rates != "fixed":
            self.rates = {name: nn.Parameter(rate) for name, rate in self.rates.items()}
            self.meta |= {f"rate.{name}": rate for name, rate in self.rates.items()}
        self.inner_kl = settings.inner_kl
        self._workers = Workers(worker_count(), "metarl-maml")

    @cached_property
    def optimizer(self) -> torch.optim.Adam:
        """Adam, made on first use: importing it takes torch two seconds."""
        return torch.optim.Adam(self.meta.values(), self.settings.learning_rate, eps=1e-5)

    def initial_state(self, num_tasks: int) -> Params:
        """A copy of the shared weights for each task."""
        return stacked({name: value.detach() for name, value in self.policy.named_parameters()}, num_tasks)

    def predict(self, state: Params, query: PolicyInput) -> tuple[Distribution, Params]:
        """The distribution of each task's own policy over actions."""
        x = self.policy.scaler.observation(query.obs)
        return self.policy(x.unsqueeze(1), state).map(lambda t: t.squeeze(1)), state

    def adapt(self, state: Params, support: Rollout) -> Params:
        """One inner step; a task whose new policy is not finite keeps its old weights."""
        if self.settings.inner_steps == 0:
            return state
        phase = self.phase(support)
        after = self.inner_step(state, phase, self.rates)
        with torch.no_grad():  # finite weights can be so large that the policy's output is not finite
            whole = finite(after) & phase.old.kl(self.policy(phase.x, after)).isfinite().all(1)
        if not whole.all():
            log.warning("the inner step of %d of %d tasks is not finite and is discarded", (~whole).sum(), len(whole))
            after = where(whole, after, state)
        return after

    def program(self, state: Params) -> Program | None:
        """See `Agent.program`."""
        return None if self.policy.head.discrete else self.policy.program(state)

    def graph(self, state: Params) -> Graph:
        """The policy of the state's first task, for export."""
        return feed_forward(self.policy, {name: value[0] for name, value in state.items()})

    def update(self, batches: list[Any], iteration: int) -> Metrics:
        """The outer step. See `Agent.update`."""
        phases = self._credited(self.each(self.phase, batches), batches)
        last = batches[-1]
        metrics = OUTER[self.settings.outer](self, self._groups(phases), generator(self.seed, SHUFFLE, iteration))
        self.policy.head.project()
        if not self.policy.head.discrete:
            metrics["std"] = float(last.prediction.std[last.valid].mean())
        seen = [(rollout.query.obs[rollout.valid], rollout.reward[rollout.valid]) for rollout in batches]
        self.policy.scaler.observe(*(torch.cat(parts) for parts in zip(*seen)))
        return metrics

    # ------------------------------------------------------------------ parts of the outer steps

    def each(self, function: Callable[[Any], T], items: Sequence[Any]) -> list[T]:
        """Apply the function to each item, in parallel on a CPU's cores; results keep the order of the items."""
        return self._workers.map(function, items) if self.device.type == "cpu" else list(map(function, items))

    def split(self, meta: Params) -> tuple[Params, Params]:
        """Split `meta`, or a dict with the same keys, into policy parameters and learning rates."""
        rates = {name.removeprefix("rate."): value for name, value in meta.items() if name.startswith("rate.")}
        return {name: value for name, value in meta.items() if not name.startswith("rate.")}, rates or self.rates

    def chain(self, meta: Params, group: Group, steps: int | None = None) -> list[Params]:
        """Each task's parameters before and after each inner step; entry i collects phase i."""
        policy, rates = self.split(meta)
        chain = [stacked(policy, len(group[0].x))]
        for phase in group[: self.settings.inner_steps if steps is None else steps]:
            chain.append(self.inner_step(chain[-1], phase, rates))
        return chain

    def inner_step(self, params: Params, phase: Phase, rates: Params) -> Params:
        """theta' = theta - alpha * grad L(theta) for each task."""
        return adapt(params, partial(self._inner_loss, phase), [rates], first_order=self.settings.first_order)

    def _inner_loss(self, phase: Phase, params: Params) -> Tensor:
        """The inner loss of each task, a mean over its own steps, (G,)."""
        log_prob = self.policy(phase.x, params).log_prob(phase.action)
        # L = -E[pi / pi_old A]   or   L = -E[log pi A]
        factor = (log_prob - phase.log_prob).exp() if self.settings.inner_loss == "ratio" else log_prob
        return -(factor * phase.advantage * phase.weight).sum(1)

    def ratio(self, distribution: Distribution, phase: Phase) -> Tensor:
        """pi(a) / pi_old(a) of each step, (G, rows)."""
        return (distribution.log_prob(phase.action) - phase.log_prob).exp()

    def credit(self, chain: list[Params], group: Group) -> Tensor:
        """E-MAML's term, (G,): the credit of the support's actions for the return after adaptation."""
        terms = [
            (self.ratio(self.policy(phase.x, params), phase) * phase.credit * phase.weight).sum(1)
            for phase, params in zip(group[:-1], chain)
        ]
        return self.settings.sampling_credit * torch.stack(terms).sum(0)

    def phase(self, rollout: Rollout) -> Phase:
        """A rollout as data of the update; the task is the first axis."""
        with torch.no_grad():
            x = self.policy.scaler.observation(rollout.query.obs)
            weight = rollout.valid / rollout.valid.sum(0).clamp(min=1)
            advantage = self.advantages(rollout, x)
            tensors = (x, rollout.action, rollout.log_prob, advantage, weight)
            x, action, log_prob, advantage, weight = (tensor.transpose(0, 1).contiguous() for tensor in tensors)
            old = rollout.prediction.map(lambda t: t.transpose(0, 1).contiguous())
            return Phase(x, action, log_prob, old, advantage, weight, credit=torch.zeros_like(advantage))

    def advantages(self, rollout: Rollout, x: Tensor) -> Tensor:
        """Advantages (T, N), standardised within each task; the return after the end of an episode counts as 0.

        The baseline is fitted per task and is linear in the scaled observations x, their squares, and powers of the time in
        the episode.
        """
        s, valid = self.settings, rollout.valid
        reward = torch.where(valid, rollout.reward, 0.0).double()
        returns = discounted_returns(reward, s.gamma, rollout.done)
        longest = torch.where(valid, rollout.step, 0).amax(0) + 1  # of the task's own episodes
        step = (rollout.step.double() / longest)[..., None]
        x = x.double()
        features = torch.cat([x, x.square(), torch.ones_like(step), step, step**2, step**3], -1)
        value = (features * fit_linear(features, returns, valid.double())).sum(-1)
        value = torch.where(valid, value, 0.0)
        value = torch.cat([value, torch.zeros_like(value[:1])])
        return standardise_by_task(gae(reward, value, s.gamma, s.lam, valid, rollout.done), valid).float()

    def _credited(self, phases: list[Phase], batches: list[Rollout]) -> list[Phase]:
        """Give each row of the phases its credit: R - b, scaled to mean 0 and standard deviation 1 over the support.

        R is the task's mean episode return after adaptation. The baseline b is the task's mean return over the *other*
        episodes of the phase: it does not depend on the actions that it judges, and easy tasks get no credit for being easy.
        If a phase has only one episode, b is the mean of R over the tasks.
        """
        if self.settings.inner_steps == 0 or self.settings.sampling_credit == 0:
            return phases
        after = episode_returns(batches[-1]).nanmean(0)
        credits = []
        for batch in batches[:-1]:
            returns = episode_returns(batch)
            count = returns.isfinite().sum(0)
            others = torch.where(count > 1, (returns.nansum(0) - returns) / (count - 1), after.nanmean())
            credits.append((after - others).nan_to_num().gather(0, batch.episode.clamp(max=len(returns) - 1)))
        judged = torch.cat([credit[batch.valid] for credit, batch in zip(credits, batches)])
        mean, std = judged.mean(), judged.std(unbiased=False) + 1e-8
        return [
            phase._replace(credit=torch.where(phase.weight > 0, ((credit - mean) / std).T, 0.0))
            for phase, credit in zip(phases, credits)
        ] + phases[-1:]

    def _groups(self, phases: list[Phase]) -> list[Group]:
        """Groups of tasks to compute together: one task per group on a CPU, to use all cores; all tasks at once on a GPU."""
        n = len(phases[0].x)
        if self.device.type != "cpu":
            return [tuple(phases)]
        return [tuple(phase.map(lambda t, i=i: t[i : i + 1]) for phase in phases) for i in range(n)]  # type: ignore[misc]

    def state_dict(self) -> dict[str, Any]:
        """Weights, running statistics, learned rates, Adam's moments and the weight of the KL penalty."""
        learned = self.rates if self.settings.rates != "fixed" else {}
        return {"policy": self.policy.state_dict(), "rates": learned, "optimizer": self.moments(), "inner_kl": self.inner_kl}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """See `Agent.load_state_dict`."""
        self.policy.load_state_dict(state["policy"])
        with torch.no_grad():
            for name, rate in state.get("rates", {}).items():
                self.rates[name].copy_(rate)
        self.inner_kl = state["inner_kl"]
        self.load_moments(state.get("optimizer", {}))
