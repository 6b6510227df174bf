"""Networks: input scaling, action distributions and their heads, the recurrent policy."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Self

import gymnasium
import numpy as np
import torch
from torch import Tensor, nn

from metarl.envs.scales import InputScale
from metarl.learner import Step
from metarl.spaces import action_size, observation_size

_CLAMP = 10.0
"""Scaled inputs are clamped to this."""

_ROWS = 625
"""Steps of a task that go through its own weights at once on a CPU: activations stay in the cache, a tenth faster at 2x512."""


class _Tensors:
    """What the distributions share: they are a few tensors with the same leading axes."""

    @property
    def tensors(self) -> tuple[Tensor, ...]:
        """The parameters of the distribution, in the order in which it is made of them."""
        return tuple(vars(self).values())

    def map(self, function: Callable[[Tensor], Tensor]) -> Self:
        """The distribution with the function applied to each tensor."""
        return type(self)(*map(function, self.tensors))

    @classmethod
    def stack(cls, items: Sequence[Self]) -> Self:
        """Distributions of several steps as one, time first."""
        return cls(*(torch.stack(tensors) for tensors in zip(*(item.tensors for item in items))))

    @classmethod
    def cat(cls, items: Sequence[Self], dim: int = 0) -> Self:
        """One after the other along an axis, by default the first, time."""
        return cls(*(torch.cat(tensors, dim) for tensors in zip(*(item.tensors for item in items))))


@dataclass(frozen=True)
class Gaussian(_Tensors):
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

    def fisher(self, mean: Tensor, log_std: Tensor) -> tuple[Tensor, Tensor]:
        """The Fisher information times a change of (mean, log_std): the Hessian of KL(self || .) at self."""
        # F = diag(1 / std^2, 2)
        return mean * (-2 * self.log_std).exp(), 2 * log_std


@dataclass(frozen=True)
class Categorical(_Tensors):
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

    def fisher(self, logits: Tensor) -> tuple[Tensor]:
        """The Fisher information times a change of the logits: the Hessian of KL(self || .) at self."""
        p = self.logits.softmax(-1)
        # F = diag(p) - p p'
        return (p * (logits - (p * logits).sum(-1, keepdim=True)),)


@dataclass(frozen=True)
class Uniform(_Tensors):
    """Independent uniform distributions. Attributes: low, high, both (..., action)."""

    low: Tensor
    high: Tensor

    @property
    def mode(self) -> Tensor:
        """All actions are as probable: the middle, (..., action)."""
        return (self.low + self.high) / 2

    def sample(self, noise: Tensor) -> Tensor:
        """An action from standard normal noise (..., action), through its cumulative distribution."""
        return self.low + (self.high - self.low) * torch.special.ndtr(noise)

    def log_prob(self, action: Tensor) -> Tensor:
        """Log-density within the bounds, summed over the action's entries, (...,)."""
        return -(self.high - self.low).log().sum(-1)


@dataclass(frozen=True)
class SquashedGaussian(_Tensors):
    """A normal distribution through tanh, onto the range of the actions (SAC). Attributes: all (..., action)."""

    mean: Tensor
    log_std: Tensor
    low: Tensor
    high: Tensor

    def _squashed(self, u: Tensor) -> Tensor:
        return self.low + (self.high - self.low) * (u.tanh() + 1) / 2

    @property
    def mode(self) -> Tensor:
        """What the mean becomes, (..., action): SAC's deterministic action."""
        return self._squashed(self.mean)

    def sample(self, noise: Tensor) -> Tensor:
        """An action from standard normal noise (..., action)."""
        return self._squashed(self.mean + self.log_std.exp() * noise)

    def log_prob(self, action: Tensor) -> Tensor:
        """Log-density, summed over the action's entries, (...,)."""
        y = (2 * (action - self.low) / (self.high - self.low) - 1).clamp(-1 + 1e-6, 1 - 1e-6)
        # log p(a) = log N(atanh y) - log(1 - y^2) - log((high - low) / 2) (Haarnoja et al. 2018, appendix C)
        inner = Gaussian(self.mean, self.log_std).log_prob(y.atanh())
        return inner - ((1 - y.square()) * (self.high - self.low) / 2).log().sum(-1)


Distribution = Gaussian | Categorical
"""What a policy can learn."""


def tanh_layers(sizes: Sequence[int]) -> nn.Sequential:
    """Linear layers between these sizes, each followed by tanh."""
    layers = nn.Sequential()
    for i, o in pairwise(sizes):
        linear = nn.Linear(i, o)
        nn.init.orthogonal_(linear.weight, 2**0.5)
        nn.init.zeros_(linear.bias)
        layers.extend([linear, nn.Tanh()])
    return layers


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
        return self.distribution(self.linear(features), self.log_std)

    def distribution(self, out: Tensor, log_std: Tensor | None) -> Distribution:
        """What the linear layer's output (..., out) stands for, and where it is no part of that the logarithm of std."""
        if self.discrete:
            return Categorical(out)
        mean, log_std = (out, log_std.expand_as(out)) if log_std is not None else out.chunk(2, -1)
        return Gaussian(mean, bounded(log_std, self.min_log_std, self.max_log_std))

    @torch.no_grad()
    def project(self) -> None:
        """Bring a standard deviation that is a parameter back to its nearest bound: call it after the parameter was moved."""
        if self.log_std is not None:
            self.log_std.copy_(_clamped(self.log_std, self.min_log_std, self.max_log_std))


def bounded(x: Tensor, low: float, high: Tensor) -> Tensor:
    """The nearest of the numbers from low to high, with the derivative 1 everywhere (straight-through).

    The derivative of a clamp is 0 beyond its bounds: what was once pushed past one would never come back.
    """
    return _clamped(x.detach(), low, high) + (x - x.detach())


def _clamped(x: Tensor, low: float, high: Tensor) -> Tensor:
    return torch.minimum(x, high).clamp(min=low)


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

    def _scaled(self, x: Tensor, entries: slice | int) -> Tensor:
        center, unit = self.mean[entries].float(), self.variance[entries].sqrt().clamp(min=1e-4).float()
        return ((x - center) / unit).clamp(-_CLAMP, _CLAMP)

    def observation(self, obs: Tensor) -> Tensor:
        """Scale observations (..., observation) alone."""
        return self._scaled(obs, slice(-1))

    def forward(self, step: Step) -> Tensor:
        """Scale and join; the action and the done are taken as they are."""
        reward = self._scaled(step.previous_reward, -1).unsqueeze(-1)
        return torch.cat([self.observation(step.obs), step.previous_action, reward, step.previous_done.unsqueeze(-1)], -1)

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
        self.scaler = InputScaler(observation_size(observation_space), action_size(action_space), scale)
        sizes = [self.scaler.output_size, *layers]
        self.encoder = tanh_layers(sizes)
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


class FeedForwardPolicy(nn.Module):
    """Scaled observation -> tanh layers -> distribution over actions, with the module's weights or with each task's own.

    Args:
        observation_space, action_space: of one slot.
        scale: see `InputScaler`.
        layers: sizes of the hidden layers.
        std, state_std, min_std: see `ActionHead`.
    """

    def __init__(
        self, observation_space: gymnasium.Space[Any], action_space: gymnasium.Space[Any], scale: InputScale | None,
        layers: Sequence[int], std: float, state_std: bool, min_std: float,
    ) -> None:  # fmt: skip
        super().__init__()
        size = observation_size(observation_space)
        self.scaler = InputScaler(size, action_size(action_space), scale)
        self.encoder = tanh_layers([size, *layers])
        self.head = ActionHead(layers[-1], action_space, std, state_std, min_std)

    def forward(self, x: Tensor, params: Mapping[str, Tensor] | None = None) -> Distribution:
        """Scaled observations to distributions.

        Args:
            x: (..., observation); with `params` (num_tasks, rows, observation).
            params: for each name of `named_parameters` the weights of each task, (num_tasks, ...); None: the module's.

        Returns:
            A distribution (...,), with `params` (num_tasks, rows).
        """
        if params is None:
            return self.head(self.encoder(x))
        if x.device.type == "cpu" and x.shape[1] > _ROWS:
            parts: list[Any] = [self(part, params) for part in x.split(_ROWS, 1)]
            return type(parts[0]).cat(parts, dim=1)
        for i in range(0, len(self.encoder), 2):
            x = torch.tanh(linear_by_task(x, params, f"encoder.{i}"))
        log_std = params.get("head.log_std")
        return self.head.distribution(
            linear_by_task(x, params, "head.linear"), None if log_std is None else log_std.unsqueeze(-2)
        )


def linear_by_task(x: Tensor, params: Mapping[str, Tensor], name: str) -> Tensor:
    """W x + b with each task's own weights "<name>.weight" and "<name>.bias"; x (num_tasks, rows, inputs)."""
    return torch.baddbmm(params[f"{name}.bias"].unsqueeze(-2), x, params[f"{name}.weight"].mT)
