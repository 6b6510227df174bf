"""MAML for control and its kin: a policy whose weights one gradient step adapts to a task (Finn et al. 2017).

An iteration collects support trials with the shared policy, adapts each task's own copy (see `metarl.optim.inner_loop`),
collects query trials with the copies, and moves the shared weights so that the copies do better. How they move is `outer`:

trpo      MAML-TRPO: natural gradient through the inner step, within a KL limit (Finn et al. 2017, section 5.3)
ppo       ProMP: clipped surrogate and a KL penalty on the policies before adaptation (Rothfuss et al. 2019); without
          inner steps it is PPO over all tasks
reptile   towards the mean of the adapted weights (Nichol et al. 2018)
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
from metarl.optim.advantages import discounted_returns, fit_linear, gae, standardise_by_task
from metarl.optim.inner_loop import InnerSettings, Params, adapt, finite, initial_rates, stacked
from metarl.rollouts.random_streams import SHUFFLE, WEIGHTS, generator
from metarl.rollouts.rollout import Rollout
from metarl.system.devices import Workers
from metarl.system.machine import worker_count
from metarl.system.ranges import SIZES, check

log = logging.getLogger("metarl")
T = TypeVar("T")


@dataclass(frozen=True)
class MAMLSettings(InnerSettings):
    """Settings of MAML and its kin."""

    layers: tuple[int, ...] = (128, 128)
    """Sizes of the tanh layers."""
    std: float = 1.0
    """Initial standard deviation of the actions (Box actions)."""
    state_std: bool = False
    """Whether the standard deviation depends on the state, or is one parameter for each entry of the action."""
    min_std: float = 0.05
    """Lower bound of the standard deviation."""
    gamma: float = 0.99
    """Discount."""
    lam: float = 0.95
    """Lambda of generalised advantage estimation."""
    inner_loss: str = "ratio"
    """Form of the inner loss, whose gradients agree and whose second derivatives do not: ratio (of probabilities, times
    the advantage: the low-variance curvature of ProMP), or log_prob (times the advantage)."""
    sampling_credit: float = 0.0
    """Weight of the credit that actions of the support get for the return after adaptation (E-MAML, Stadie et al. 2018)."""
    outer: str = "trpo"
    """How the shared weights move: trpo, ppo (ProMP) or reptile."""
    max_kl: float = 0.01
    """trpo: largest KL, mean over steps and tasks, between the adapted policies before and after the outer step."""
    cg_iterations: int = 10
    """trpo: iterations of conjugate gradient."""
    fvp_fraction: float = 0.25
    """trpo: share of the steps, support and query, that Fisher products are computed on. Gradient and line search use all."""
    backtrack: float = 0.8
    """trpo: factor from one candidate of the line search to the next."""
    backtracks: int = 15
    """trpo: candidates of the line search."""
    learning_rate: float = 1e-3
    """ppo: learning rate of Adam; reptile: share of the way to the mean of the adapted weights."""
    epochs: int = 5
    """ppo: passes over an iteration's data."""
    minibatches: int = 1
    """ppo: parts of each task's steps, each of which makes a step of Adam."""
    clip: float = 0.3
    """ppo: how far the probability ratio may move from 1."""
    inner_kl: float = 5e-4
    """ppo: initial weight of the KL penalty on the policies that collected the support."""
    inner_kl_target: float | None = 0.01
    """ppo: the weight is doubled or halved to keep that KL near this; None: it stays."""
    entropy: float = 0.0
    """ppo: weight of the entropy bonus."""
    max_grad_norm: float | None = None
    """ppo: largest norm of the gradient; longer ones are shortened."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.outer not in OUTER:
            raise UserError(f"outer must be {', '.join(OUTER)}, not {self.outer!r}")
        if self.inner_loss not in ("ratio", "log_prob"):
            raise UserError(f"inner_loss must be ratio or log_prob, not {self.inner_loss!r}")
        if self.outer == "reptile" and (self.inner_steps < 1 or self.rates != "fixed"):
            raise UserError("reptile needs at least 1 inner step and fixed rates")
        if not self.layers:
            raise UserError("layers must be at least one size")
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
"""Settings by agent and name: this project's own, and published ones."""


class MAML(Agent):
    """The agent.

    Args:
        settings: see `MAMLSettings`.
        observation_space, action_space: of one slot.
        scale: input scale of the task; None: running statistics.
        seed: of the initial weights and of what is drawn in updates.
        device: where everything is computed.
        total_iterations: length of training; nothing here depends on it.

    Attributes:
        meta: what the outer step moves: the policy's parameters by name, and learned rates as "rate.<name>".
        inner_kl: the present weight of ProMP's penalty.
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
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(int(generator(seed, WEIGHTS).integers(2**31)))
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
        """Adam, made when it is first needed: what torch imports with it takes two seconds."""
        return torch.optim.Adam(self.meta.values(), self.settings.learning_rate, eps=1e-5)

    def begin(self, num_tasks: int) -> Params:
        """The shared weights for every task."""
        return stacked({name: value.detach() for name, value in self.policy.named_parameters()}, num_tasks)

    def predict(self, state: Params, query: PolicyInput) -> tuple[Distribution, Params]:
        """Each task's own policy."""
        x = self.policy.scaler.observation(query.obs)
        return self.policy(x.unsqueeze(1), state).map(lambda t: t.squeeze(1)), state

    def adapt(self, state: Params, support: Rollout) -> Params:
        """One inner step; a task whose policy would not be finite stays as it was."""
        if self.settings.inner_steps == 0:
            return state
        phase = self.phase(support)
        after = self.inner_step(state, phase, self.rates)
        with torch.no_grad():  # weights may be finite and yet so large that nothing can be computed with them
            whole = finite(after) & phase.old.kl(self.policy(phase.x, after)).isfinite().all(1)
        if not whole.all():
            log.warning("the inner step of %d of %d tasks is not finite: they act as before", (~whole).sum(), len(whole))
            after = where(whole, after, state)
        return after

    def graph(self, state: Params) -> Graph:
        """What is exported: the policy of the state's first task."""
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

    # ------------------------------------------------------------------ what the outer steps are made of

    def each(self, function: Callable[[Any], T], items: Sequence[Any]) -> list[T]:
        """The function of every item, side by side on a CPU's cores; in order."""
        return self._workers.map(function, items) if self.device.type == "cpu" else list(map(function, items))

    def split(self, meta: Params) -> tuple[Params, Params]:
        """Policy parameters and learning rates of `meta` or of something in its place."""
        rates = {name.removeprefix("rate."): value for name, value in meta.items() if name.startswith("rate.")}
        return {name: value for name, value in meta.items() if not name.startswith("rate.")}, rates or self.rates

    def chain(self, meta: Params, group: Group, steps: int | None = None) -> list[Params]:
        """The parameters of each task that collect phase 0, 1, ...: before, and after each inner step."""
        policy, rates = self.split(meta)
        chain = [stacked(policy, len(group[0].x))]
        for phase in group[: self.settings.inner_steps if steps is None else steps]:
            chain.append(self.inner_step(chain[-1], phase, rates))
        return chain

    def inner_step(self, params: Params, phase: Phase, rates: Params) -> Params:
        """theta' = theta - alpha * grad L(theta) for each task."""
        return adapt(params, partial(self._inner_loss, phase), [rates], first_order=self.settings.first_order)

    def _inner_loss(self, phase: Phase, params: Params) -> Tensor:
        """(G,): the mean over each task's own steps."""
        log_prob = self.policy(phase.x, params).log_prob(phase.action)
        # L = -E[pi / pi_old A]   or   L = -E[log pi A]
        factor = (log_prob - phase.log_prob).exp() if self.settings.inner_loss == "ratio" else log_prob
        return -(factor * phase.advantage * phase.weight).sum(1)

    def ratio(self, distribution: Distribution, phase: Phase) -> Tensor:
        """pi(a) / pi_old(a) of each step, (G, rows)."""
        return (distribution.log_prob(phase.action) - phase.log_prob).exp()

    def credit(self, chain: list[Params], group: Group) -> Tensor:
        """E-MAML's term, (G,): what the support's actions get for the return after adaptation."""
        terms = [
            (self.ratio(self.policy(phase.x, params), phase) * phase.credit * phase.weight).sum(1)
            for phase, params in zip(group[:-1], chain)
        ]
        return self.settings.sampling_credit * torch.stack(terms).sum(0)

    def phase(self, rollout: Rollout) -> Phase:
        """What a rollout means to the update, the task first."""
        with torch.no_grad():
            x = self.policy.scaler.observation(rollout.query.obs)
            weight = rollout.valid / rollout.valid.sum(0).clamp(min=1)
            advantage = self.advantages(rollout, x)
            tensors = (x, rollout.action, rollout.log_prob, advantage, weight)
            x, action, log_prob, advantage, weight = (tensor.transpose(0, 1).contiguous() for tensor in tensors)
            old = rollout.prediction.map(lambda t: t.transpose(0, 1).contiguous())
            return Phase(x, action, log_prob, old, advantage, weight, credit=torch.zeros_like(advantage))

    def advantages(self, rollout: Rollout, x: Tensor) -> Tensor:
        """Advantages (T, N), standardised within each task; episodes end where they end, nothing comes after.

        The baseline is linear in scaled observations x, their squares and the time in the episode, for each task.
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
        """The phases with the credit of their rows, R - b scaled to mean 0 and standard deviation 1 over the support.

        R is the task's mean return of an episode after adaptation. b, the task's own baseline, is that of the phase's *other*
        episodes: it does not depend on the actions that it judges, and an easy task earns nothing by being easy. A phase of
        one episode has no others: b is then the mean of R over the tasks.
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
        """On a CPU each task by itself, for as many cores as there are; on a GPU all tasks at once."""
        n = len(phases[0].x)
        if self.device.type != "cpu":
            return [tuple(phases)]
        return [tuple(phase.map(lambda t, i=i: t[i : i + 1]) for phase in phases) for i in range(n)]  # type: ignore[misc]

    def state_dict(self) -> dict[str, Any]:
        """Weights and statistics, learned rates, Adam's moments, the penalty's weight."""
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
