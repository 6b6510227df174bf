"""Networks: input scaling, action distributions and their heads, the recurrent policy."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import gymnasium
import numpy as np
import torch
from torch import Tensor, nn

from metarl.envs.scales import InputScale
from metarl.errors import UserError
from metarl.learner import Step

_CLAMP = 10.0
"""Scaled inputs are clamped to this."""


@dataclass(frozen=True)
class Gaussian:
    """Independent normal distributions. Attributes: mean, log_std, both (..., action)."""

    mean: Tensor
    log_std: Tensor

    @property
    def mode(self) -> Tensor:
        """The most probable action, (..., action)."""
        return self.mean

    @property
    def std(self) -> Tensor:
        """Standard deviation, (..., action)."""
        return self.log_std.exp()

    def sample(self, noise: Tensor) -> Tensor:
        """An action from standard normal noise (..., action)."""
        return self.mean + self.std * noise

    def log_prob(self, action: Tensor) -> Tensor:
        """Log-density, summed over the action's entries, (...,)."""
        z = (action - self.mean) * (-self.log_std).exp()
        # log N(a; mean, std) = -z^2 / 2 - log std - log(2 pi) / 2
        return (-0.5 * z.square() - self.log_std - 0.5 * np.log(2 * np.pi)).sum(-1)

    def entropy(self) -> Tensor:
        """Entropy in nats, summed over the action's entries, (...,)."""
        return (self.log_std + 0.5 * (1.0 + np.log(2 * np.pi))).sum(-1)

    def kl(self, other: "Gaussian") -> Tensor:
        """KL(self || other), summed over the action's entries, (...,)."""
        # log(s2 / s1) + (s1^2 + (m1 - m2)^2) / (2 s2^2) - 1/2
        variance = (2 * other.log_std).exp()
        spread = ((2 * self.log_std).exp() + (self.mean - other.mean).square()) / (2 * variance)
        return (other.log_std - self.log_std + spread - 0.5).sum(-1)

    @classmethod
    def stack(cls, items: "Sequence[Gaussian]") -> "Gaussian":
        """Distributions of several steps as one, time first."""
        return cls(torch.stack([i.mean for i in items]), torch.stack([i.log_std for i in items]))


@dataclass(frozen=True)
class Categorical:
    """A distribution over n actions. Attributes: logits (..., n)."""

    logits: Tensor

    @property
    def mode(self) -> Tensor:
        """The most probable action, (...,) int64."""
        return self.logits.argmax(-1)

    def sample(self, noise: Tensor) -> Tensor:
        """An action (...,) int64 from uniform noise (..., 1), by the inverse of the cumulative distribution."""
        edges = self.logits.softmax(-1).cumsum(-1)[..., :-1]
        return (noise >= edges).sum(-1)

    def log_prob(self, action: Tensor) -> Tensor:
        """Log-probability, (...,)."""
        return self.logits.log_softmax(-1).gather(-1, action.long().unsqueeze(-1)).squeeze(-1)

    def entropy(self) -> Tensor:
        """Entropy in nats, (...,)."""
        log_p = self.logits.log_softmax(-1)
        return -(log_p.exp() * log_p).sum(-1)

    def kl(self, other: "Categorical") -> Tensor:
        """KL(self || other), (...,)."""
        log_p = self.logits.log_softmax(-1)
        return (log_p.exp() * (log_p - other.logits.log_softmax(-1))).sum(-1)

    @classmethod
    def stack(cls, items: "Sequence[Categorical]") -> "Categorical":
        """Distributions of several steps as one, time first."""
        return cls(torch.stack([i.logits for i in items]))


Distribution = Gaussian | Categorical


def action_size(space: gymnasium.Space[Any]) -> int:
    """Entries of an action as a network sees it: a Box's own, or one a choice.

    Raises:
        UserError: the space is neither a flat Box nor Discrete.
    """
    if isinstance(space, gymnasium.spaces.Discrete):
        return int(space.n)
    if isinstance(space, gymnasium.spaces.Box) and len(space.shape) == 1:
        return space.shape[0]
    raise UserError(f"actions must be a Box of one dimension or Discrete, not {space}")


class ActionHead(nn.Module):
    """Features to a distribution over actions: Gaussian for a Box, categorical for Discrete.

    Args:
        features: size of the input.
        space: the action space.
        std: initial standard deviation (Box).
        state_std: whether the standard deviation depends on the features, or is one parameter an entry.
        min_std: lower bound of the standard deviation.
    """

    max_log_std: Tensor

    def __init__(self, features: int, space: gymnasium.Space[Any], std: float, state_std: bool, min_std: float) -> None:
        super().__init__()
        size = action_size(space)
        self.discrete = isinstance(space, gymnasium.spaces.Discrete)
        self.min_log_std = float(np.log(min_std))
        self.linear = nn.Linear(features, 2 * size if state_std and not self.discrete else size)
        nn.init.orthogonal_(self.linear.weight, 0.01)
        nn.init.zeros_(self.linear.bias)
        self.log_std = None
        if not self.discrete:
            self.register_buffer("max_log_std", torch.tensor(float("inf")))
            if state_std:
                nn.init.constant_(self.linear.bias[size:], float(np.log(std)))
            else:
                self.log_std = nn.Parameter(torch.full((size,), float(np.log(std))))

    def forward(self, features: Tensor) -> Distribution:
        """(..., features) to a distribution with shape (...,)."""
        out = self.linear(features)
        if self.discrete:
            return Categorical(out)
        mean, log_std = (out, self.log_std.expand_as(out)) if self.log_std is not None else out.chunk(2, -1)
        return Gaussian(mean, torch.minimum(log_std, self.max_log_std).clamp(min=self.min_log_std))


class InputScaler(nn.Module):
    """A `Step` to one vector (..., observation + action + 2) of entries around 1 in size.

    With a scale of the task's own the constants are fixed. Without one they are running statistics of the observation
    and the reward, buffers that are moved by `observe` alone, once an iteration.
    """

    mean: Tensor
    variance: Tensor
    count: Tensor

    def __init__(self, observation_size: int, action_size: int, scale: InputScale | None) -> None:
        super().__init__()
        self.running = scale is None
        n = observation_size + 1  # the reward is the last
        mean, variance = torch.zeros(n, dtype=torch.float64), torch.ones(n, dtype=torch.float64)
        if scale is not None:
            mean = torch.tensor([*scale.center, scale.reward_center], dtype=torch.float64)
            variance = torch.tensor([*scale.unit, scale.reward_unit], dtype=torch.float64) ** 2
        self.register_buffer("mean", mean)
        self.register_buffer("variance", variance)
        self.register_buffer("count", torch.zeros((), dtype=torch.float64))
        self.output_size = observation_size + action_size + 2

    def forward(self, step: Step) -> Tensor:
        """Scale and join; the action and the done are taken as they are."""
        center, unit = self.mean.float(), self.variance.sqrt().clamp(min=1e-4).float()
        obs = ((step.obs - center[:-1]) / unit[:-1]).clamp(-_CLAMP, _CLAMP)
        reward = ((step.previous_reward - center[-1]) / unit[-1]).clamp(-_CLAMP, _CLAMP)
        return torch.cat([obs, step.previous_action, reward.unsqueeze(-1), step.previous_done.unsqueeze(-1)], -1)

    @torch.no_grad()
    def observe(self, obs: Tensor, reward: Tensor) -> None:
        """Move the running statistics by (n, observation) and (n,): Chan et al.'s formula for joining two sets."""
        if not self.running:
            return
        x = torch.cat([obs, reward.unsqueeze(-1)], -1).double()
        n, mean, variance = len(x), x.mean(0), x.var(0, unbiased=False)
        total = self.count + n
        delta = mean - self.mean
        held = self.variance * self.count + variance * n + delta.square() * self.count * n / total
        self.mean += delta * n / total
        self.variance.copy_(held / total)
        self.count.copy_(total)


class RecurrentPolicy(nn.Module):
    """`Step`, hidden state to a distribution over actions: scaled inputs, tanh layers, a GRU, a head.

    Args:
        observation_space: a flat Box.
        action_space: a flat Box or Discrete.
        scale: the task's own input scale; None: running statistics.
        layers: sizes of the layers before the GRU.
        hidden: size of the GRU.
        std, state_std, min_std: see `ActionHead`.
    """

    def __init__(
        self, observation_space: gymnasium.Space[Any], action_space: gymnasium.Space[Any], scale: InputScale | None,
        layers: Sequence[int], hidden: int, std: float, state_std: bool, min_std: float,
    ) -> None:  # fmt: skip
        super().__init__()
        if not isinstance(observation_space, gymnasium.spaces.Box) or len(observation_space.shape) != 1:
            raise UserError(f"observations must be a Box of one dimension, not {observation_space}")
        self.scaler = InputScaler(observation_space.shape[0], action_size(action_space), scale)
        sizes = [self.scaler.output_size, *layers]
        self.encoder = nn.Sequential()
        for i, o in pairwise(sizes):
            linear = nn.Linear(i, o)
            nn.init.orthogonal_(linear.weight, 2**0.5)
            nn.init.zeros_(linear.bias)
            self.encoder.extend([linear, nn.Tanh()])
        self.gru = nn.GRU(sizes[-1], hidden)
        for name, parameter in self.gru.named_parameters():
            if "weight" in name:
                for gate in parameter.data.chunk(3):
                    nn.init.orthogonal_(gate)
            else:
                nn.init.zeros_(parameter)
        self.head = ActionHead(hidden, action_space, std, state_std, min_std)

    def step(self, x: Tensor, hidden: Tensor) -> tuple[Distribution, Tensor]:
        """One step: scaled inputs (slots, inputs), hidden (slots, hidden) to a distribution and the next hidden state."""
        hidden = torch.gru_cell(self.encoder(x), hidden, *self.gru.all_weights[0])
        return self.head(hidden), hidden

    def sequence(self, x: Tensor, hidden: Tensor) -> Distribution:
        """Many steps: scaled inputs (time, slots, inputs), the first hidden state (slots, hidden)."""
        out, _ = self.gru(self.encoder(x), hidden.unsqueeze(0))
        return self.head(out)
