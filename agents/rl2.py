"""RL²: a recurrent policy that adapts within a trial through its hidden state (Duan et al. 2016; Wang et al. 2016).

The hidden state persists across all episodes of a trial. PPO (Schulman et al. 2017) maximises the return of the whole
trial, with truncated back-propagation over chunks that start from the hidden states stored while acting.
"""

import copy
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any, NamedTuple

import gymnasium
import numpy as np
import torch
from torch import Tensor, nn

from metarl.agents import Preset
from metarl.errors import UserError
from metarl.learner import Agent, Metrics, NonFiniteError, PolicyInput
from metarl.nn.distributions import Distribution
from metarl.nn.graphs import Graph, recurrent
from metarl.nn.input_scaling import InputScale
from metarl.nn.policies import CONDITIONING, RecurrentPolicy
from metarl.nn.program import Program
from metarl.optim.advantages import discounted_returns, fit_pooled, gae, standardise, standardise_by_task
from metarl.optim.sharded import Shards
from metarl.rollouts.random_streams import SHUFFLE, generator, initial_weights
from metarl.rollouts.rollout import Rollout
from metarl.system.ranges import SIZES, check

SCALES = ("batch", "trial", "none")
"""Ways to scale advantages, see `RL2Settings`."""


@dataclass(frozen=True)
class RL2Settings:
    """Settings of RL²."""

    layers: tuple[int, ...] = (128,)
    """Widths of the tanh layers before the GRU."""
    hidden: int = 128
    """Size of the GRU's hidden state."""
    conditioning: str = "memory"
    """What the action head sees. memory: the hidden state; join: a layer that joins hidden state and encoded input; film: the
    encoded input, scaled and shifted by the memory."""
    std: float = 1.0
    """Initial standard deviation of continuous (Box) actions."""
    state_std: bool = False
    """Let the standard deviation depend on the state; otherwise it is one parameter per entry of the action."""
    min_std: float = 0.05
    """Lower bound of the standard deviation."""
    max_std_final: float | None = None
    """Bound the standard deviation from above by a value annealed from `std` to this (see `anneal_from`); None: no bound."""
    learning_rate: float = 5e-4
    """Learning rate of Adam."""
    learning_rate_final: float | None = 5e-5
    """Final learning rate (see `anneal_from`); None: constant."""
    adam_eps: float = 1e-5
    """Adam's epsilon."""
    max_grad_norm: float = 1.0
    """Clip the norm of the gradient to this."""
    clip: float = 0.2
    """PPO's clipping range of the probability ratio around 1."""
    epochs: int = 8
    """Passes over an iteration's data."""
    chunk: int = 100
    """Length of truncated back-propagation through time, steps."""
    minibatch: int = 50
    """Chunks per minibatch."""
    shards: int = 2
    """Parts of a minibatch computed in parallel on a CPU. The number affects rounding, so it does not depend on the cores."""
    gamma: float = 0.95
    """Discount factor."""
    lam: float = 0.7
    """Lambda of generalised advantage estimation."""
    entropy: float = 5e-3
    """Weight of the entropy bonus."""
    entropy_final: float | None = 0.0
    """Final weight of the entropy bonus (see `anneal_from`); None: constant."""
    anneal_from: float = 0.5
    """Fraction of training after which linear annealing starts; it ends with the last iteration."""
    pull: float = 100.0
    """Strength with which a trial's baseline is pulled towards the other trials' baseline, in steps of the other trials; a
    single trial is fitted alone."""
    advantage_scale: str = "batch"
    """batch: standardise advantages over the iteration; trial: over each trial; none: leave them unscaled."""
    overlap: bool = False
    """Collect the next iteration with the policy of the last one while the agent learns; meant for machines where a GPU
    learns."""
    bootstrap: bool = True
    """Estimate the return after the end of a trial with the baseline; otherwise it counts as 0."""

    def __post_init__(self) -> None:
        check(
            self,
            layers=SIZES,
            hidden=SIZES,
            epochs="[1, inf)",
            chunk="[1, inf)",
            minibatch="[1, inf)",
            shards="[1, 1024]",
            gamma="[0, 1)",
            lam="[0, 1]",
            anneal_from="[0, 1)",
            std="(0, inf)",
            min_std="(0, inf)",
            max_std_final="(0, inf)",
            learning_rate="[0, inf)",
            learning_rate_final="[0, inf)",
            adam_eps="(0, inf)",
            max_grad_norm="(0, inf)",
            clip="[0, inf)",
            entropy="[0, inf)",
            entropy_final="[0, inf)",
            pull="(0, inf)",
        )
        for name, known in (("advantage_scale", SCALES), ("conditioning", CONDITIONING)):
            if (value := getattr(self, name)) not in known:
                raise UserError(f"{name} must be {', '.join(known[:-1])} or {known[-1]}, not {value!r}")


class Chunks(NamedTuple):
    """An iteration's steps in chunks, (chunk, all chunks, ...); `hidden` (chunks, hidden) is the state before each."""

    x: Tensor
    hidden: Tensor
    action: Tensor
    log_prob: Tensor
    advantage: Tensor
    valid: Tensor

    def by_time(self) -> dict[str, Tensor]:
        """All fields whose first axis is time."""
        return {key: value for key, value in self._asdict().items() if key != "hidden"}


_METAWORLD_PLUS = RL2Settings(
    layers=(256, 256),
    hidden=256,
    state_std=True,
    epochs=10,
    chunk=250,
    minibatch=20,
    gamma=0.99,
    lam=0.95,
    min_std=1e-6,
    bootstrap=False,
    pull=1e-5,
    advantage_scale="none",
    learning_rate_final=None,
    entropy_final=None,
)
_ML10 = RL2Settings(conditioning="join", advantage_scale="trial", gamma=0.99, lam=0.9)  # chosen in docs/experiments.md
PRESETS = {
    "rl2": {
        "default": Preset(RL2Settings()),
        "ml10": Preset(_ML10, {"steps": 20_000_000}),
        "metaworld-plus": Preset(_METAWORLD_PLUS),
    }
}
"""Presets by agent and name: this project's settings and published ones."""


class RL2(Agent):
    """The RL² agent.

    Args:
        settings: see `RL2Settings`.
        observation_space, action_space: spaces of one environment.
        scale: the tasks' fixed input scale; None: running statistics.
        seed: seed of the initial weights and of the minibatches.
        device: device of the computation.
        total_iterations: length of training, for annealing.

    Attributes:
        previous: with `overlap`, the policy's state before the last update; None before the first.
    """

    def __init__(
        self,
        settings: RL2Settings,
        observation_space: gymnasium.Space[Any],
        action_space: gymnasium.Space[Any],
        scale: InputScale | None,
        *,
        seed: int,
        device: torch.device,
        total_iterations: int,
    ) -> None:
        self.settings, self.seed, self.device, self.total_iterations = settings, seed, device, total_iterations
        with initial_weights(seed):
            self.policy = RecurrentPolicy(
                observation_space,
                action_space,
                scale,
                settings.layers,
                settings.hidden,
                settings.std,
                settings.state_std,
                settings.min_std,
                settings.conditioning,
            )
        self.policy.to(device)
        self.shards = Shards(settings.shards, device)
        self.first_std, self.keep_states = settings.std, settings.chunk
        self.previous: dict[str, Tensor] | None = None
        self._anneal(0)

    @cached_property
    def optimizer(self) -> torch.optim.Adam:
        """Adam, made on first use: importing it takes torch two seconds."""
        return torch.optim.Adam(self.policy.parameters(), self.settings.learning_rate, eps=self.settings.adam_eps)

    def initial_state(self, num_tasks: int) -> dict[str, Tensor]:
        """A hidden state of zeros for each task."""
        return {"hidden": torch.zeros(num_tasks, self.settings.hidden, device=self.device)}

    def predict(self, state: dict[str, Tensor], query: PolicyInput) -> tuple[Distribution, dict[str, Tensor]]:
        """One step of the recurrent policy. RL² adapts here, by updating its hidden state."""
        prediction, hidden = self.policy.step(self.policy.scaler(query), state["hidden"])
        return prediction, {"hidden": hidden}

    def program(self, state: dict[str, Tensor]) -> Program | None:
        """See `Agent.program`."""
        return None if self.policy.head.discrete else self.policy.program()

    def previous_program(self, state: dict[str, Tensor]) -> Program | None:
        """Like `program`, for the policy before the last update; `metarl.rollouts.overlap` collects with it."""
        if self.previous is None:
            return self.program(state)
        policy = copy.deepcopy(self.policy)
        policy.load_state_dict(self.previous)
        return policy.program()

    def graph(self, state: dict[str, Tensor]) -> Graph:
        """One step of the policy, for export; the hidden state, which holds the adaptation, is an input and an output."""
        return recurrent(self.policy)

    def update(self, batches: list[Any], iteration: int) -> Metrics:
        """PPO over shuffled chunks. See `Agent.update`."""
        (rollout,) = batches
        if self.settings.overlap:
            self.previous = copy.deepcopy(self.policy.state_dict())
        self._anneal(iteration)
        self.optimizer.param_groups[0]["lr"] = self.learning_rate
        x = self.scaled(rollout)
        advantage, explained = self.advantages(rollout, x)
        metrics = self._optimise(rollout, x, advantage, iteration)
        self.policy.scaler.observe(rollout.query.obs[rollout.valid], rollout.reward[rollout.valid])
        self._anneal(iteration + 1)  # for the next rollout
        return metrics | {"explained_variance": explained}

    def _anneal(self, iteration: int) -> None:
        s, done = self.settings, iteration / max(1, self.total_iterations - 1)
        share = min(1.0, max(0.0, (done - s.anneal_from) / (1 - s.anneal_from)))

        def between(first: float, last: float | None) -> float:
            return first if last is None else first + (last - first) * share

        self.entropy = between(s.entropy, s.entropy_final)
        self.learning_rate = between(s.learning_rate, s.learning_rate_final)
        if s.max_std_final is not None and not self.policy.head.discrete:
            self.policy.head.max_log_std.fill_(np.log(between(s.std, s.max_std_final)))
            self.policy.head.project()

    @torch.no_grad()
    def scaled(self, rollout: Rollout) -> Tensor:
        """The policy's inputs at each step and after the last one, (T + 1, N, inputs)."""
        return torch.cat([self.policy.scaler(rollout.query), self.policy.scaler(rollout.final)[None]])

    def advantages(self, rollout: Rollout, x: Tensor) -> tuple[Tensor, float]:
        """Scaled advantages (T, N) across the episodes of each trial, and the fraction of the returns' variance explained.

        Args:
            rollout: one trial per environment.
            x: see `scaled`.
        """
        s = self.settings
        value, explained = self.baseline(rollout, x)
        advantage = gae(rollout.reward.double(), value, s.gamma, s.lam, rollout.valid)
        if s.advantage_scale == "batch":
            advantage = standardise(advantage, rollout.valid)
        elif s.advantage_scale == "trial":
            advantage = standardise_by_task(advantage, rollout.valid)
        return advantage.float(), explained

    def baseline(self, rollout: Rollout, x: Tensor) -> tuple[Tensor, float]:
        """The baseline (T + 1, N), and the fraction of the returns' variance that it explains out of sample.

        The fraction is measured with the fit to the other trials, which has not seen the trial's own returns.
        """
        s, valid = self.settings, rollout.valid
        length = valid.sum(0)
        t = torch.arange(len(valid) + 1, device=self.device)[:, None]
        returns = discounted_returns(torch.where(valid, rollout.reward, 0.0).double(), s.gamma)
        # Returns near the end of a trial lack more than 5 % of the future reward, so the baseline is not fitted to them.
        missing = torch.clamp(length // 2, max=int(np.ceil(3 / (1 - s.gamma)))) if s.bootstrap else 0
        features = self._features(rollout, x)
        fit = fit_pooled(features[:-1], returns, (t[:-1] < length - missing).double(), s.pull)
        # one batched product for both: (T + 1, N) each
        fitted, of_others = torch.einsum("tnf,nfk->ktn", features, torch.stack(fit, -1))
        value = torch.where(t <= length if s.bootstrap else t < length, fitted, 0.0)
        # 1 - Var[G - V] / Var[G]
        left = (returns - of_others[:-1])[valid].var()
        return value, float(1 - left / returns[valid].var().clamp(min=1e-12))

    def _features(self, rollout: Rollout, x: Tensor) -> Tensor:
        """The baseline's features, (T + 1, N, features) float64: scaled inputs, their squares, time in episode and trial."""
        steps, x = len(rollout.reward), x.double()
        # The previous reward at the start of an episode says nothing about the state, so it is zeroed.
        x[..., -2] *= 1 - torch.cat([rollout.query.previous_done, rollout.final.previous_done[None]])
        episode_length = rollout.step.max() + 1
        step = torch.cat([rollout.step, torch.zeros_like(rollout.step[:1])]).double() / episode_length
        trial = (torch.arange(steps + 1, device=self.device) / steps).double()[:, None].expand_as(step)
        time = [torch.ones_like(step), step, step**2, step**3, trial, trial**2, trial**3]
        return torch.cat([x, x.square(), torch.stack(time, -1)], -1)

    def _chunks(self, x: Tensor) -> Tensor:
        """(T, N, ...) to (chunk, all chunks, ...); zeros pad an environment's last chunk."""
        size = self.settings.chunk
        filled = torch.cat([x, x.new_zeros(-len(x) % size, *x.shape[1:])])
        return filled.view(-1, size, *x.shape[1:]).transpose(1, 2).flatten(0, 1).transpose(0, 1).contiguous()

    def _optimise(self, rollout: Rollout, x: Tensor, advantage: Tensor, iteration: int) -> Metrics:
        s, x = self.settings, self._chunks(x[:-1])
        data = Chunks(
            x,
            torch.cat([state["hidden"] for state in rollout.states]),
            *(self._chunks(y) for y in (rollout.action, rollout.log_prob, advantage, rollout.valid)),
        )
        rng, updates = generator(self.seed, SHUFFLE, iteration), 0
        sums = dict.fromkeys(("loss", "entropy", "grad_norm", "kl", "clip_fraction"), 0.0)
        for _ in range(s.epochs):
            for minibatch in np.split(rng.permutation(x.shape[1]), range(s.minibatch, x.shape[1], s.minibatch)):
                found = self._step(data, torch.from_numpy(minibatch).to(self.device))
                sums = {key: sums[key] + value for key, value in found.items()}
                updates += 1
        metrics = {key: value / updates for key, value in sums.items()}
        if not self.policy.head.discrete:
            metrics["std"] = float(rollout.prediction.std[rollout.valid].mean())  # type: ignore[union-attr]
        return metrics

    def _step(self, data: "Chunks", minibatch: Tensor) -> Metrics:
        """One Adam step on a minibatch of chunks."""
        count = data.valid[:, minibatch].sum().clamp(min=1)
        parameters, parts = list(self.policy.parameters()), minibatch.tensor_split(self.shards.count)
        gradients, figures = self.shards.gradients(partial(self._loss, data, count), parameters, parts)
        for parameter, shares in zip(parameters, zip(*gradients)):
            parameter.grad = torch.stack(shares).sum(0)
        norm = nn.utils.clip_grad_norm_(parameters, self.settings.max_grad_norm)
        loss, entropy, kl, clip_fraction, norm = torch.cat([torch.stack(figures).sum(0), norm.view(1)]).tolist()
        if not np.isfinite(loss + norm):
            raise NonFiniteError("the loss of RL² is not finite", {k: v[:, minibatch] for k, v in data.by_time().items()})
        self.optimizer.step()
        self.policy.head.project()
        return {"loss": loss, "entropy": entropy, "kl": kl, "clip_fraction": clip_fraction, "grad_norm": norm}

    def _loss(self, data: "Chunks", count: Tensor, part: Tensor) -> tuple[Tensor, Tensor]:
        """A part's contribution to the minibatch's loss, and to its loss, entropy, KL and clip fraction (4,)."""
        eps, mask = self.settings.clip, data.valid[:, part]
        prediction = self.policy.sequence(data.x[:, part], data.hidden[part])
        log_ratio = (prediction.log_prob(data.action[:, part]) - data.log_prob[:, part])[mask]
        ratio, a = log_ratio.exp(), data.advantage[:, part][mask]
        # L = E[min(r A, clip(r, 1 - eps, 1 + eps) A)] (Schulman et al. 2017, equation 7), plus entropy
        surrogate = torch.minimum(ratio * a, ratio.clamp(1 - eps, 1 + eps) * a).sum() / count
        entropy = prediction.entropy()[mask].sum() / count
        loss = -surrogate - self.entropy * entropy
        with torch.no_grad():
            # KL(old || new) = E[r - 1 - log r], with actions drawn from the old policy
            kl, clipped = (ratio - 1 - log_ratio).sum() / count, ((ratio - 1).abs() > eps).sum() / count
            return loss, torch.stack([loss, entropy, kl, clipped])

    def state_dict(self) -> dict[str, Any]:
        """Weights, running statistics and Adam's moments; with `overlap`, also the policy before the last update."""
        previous = {} if self.previous is None else {"previous": self.previous}
        return {"policy": self.policy.state_dict(), "optimizer": self.moments(), **previous}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """See `Agent.load_state_dict`."""
        self.policy.load_state_dict(state["policy"])
        self.previous = state.get("previous")
        self.load_moments(state.get("optimizer", {}))
