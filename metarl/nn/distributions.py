"""Distributions over actions, and the head that maps features to them; used by policies and agents."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

import gymnasium
import numpy as np
import torch
from torch import Tensor, nn

from metarl.nn.program import Program, ProgramBuilder
from metarl.nn.spaces import action_size


class _Tensors:
    """Shared methods of the distributions: each consists of a few tensors with the same leading axes."""

    @property
    def tensors(self) -> tuple[Tensor, ...]:
        """The distribution's parameters, in the order of its constructor."""
        return tuple(vars(self).values())

    def map(self, function: Callable[[Tensor], Tensor]) -> Self:
        """Apply the function to each tensor and return the new distribution."""
        return type(self)(*map(function, self.tensors))

    @classmethod
    def stack(cls, items: Sequence[Self]) -> Self:
        """Stack the distributions of several steps into one, time first."""
        return cls(*(torch.stack(tensors) for tensors in zip(*(item.tensors for item in items))))

    @classmethod
    def cat(cls, items: Sequence[Self], dim: int = 0) -> Self:
        """Concatenate distributions along an axis, by default the first, time."""
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
        """Transform standard normal noise (..., action) into an action."""
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
        """Multiply a change of (mean, log_std) by the Fisher information, the Hessian of KL(self || .) at self."""
        # F = diag(1 / std^2, 2)
        return mean * (-2 * self.log_std).exp(), 2 * log_std


@dataclass(frozen=True)
class Categorical(_Tensors):
    """Categorical distribution over n actions. Attributes: logits (..., n)."""

    logits: Tensor

    @property
    def mode(self) -> Tensor:
        """The most probable action, (...,) int64."""
        return self.logits.argmax(-1)

    def sample(self, noise: Tensor) -> Tensor:
        """Transform uniform noise (..., 1) into an action (...,) int64, by the inverse cumulative distribution."""
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
        """Multiply a change of the logits by the Fisher information, the Hessian of KL(self || .) at self."""
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
        """The midpoint, (..., action): all actions within the bounds are equally probable."""
        return (self.low + self.high) / 2

    def sample(self, noise: Tensor) -> Tensor:
        """Transform standard normal noise (..., action) into an action, through the normal cumulative distribution."""
        return self.low + (self.high - self.low) * torch.special.ndtr(noise)

    def log_prob(self, action: Tensor) -> Tensor:
        """Log-density within the bounds, summed over the action's entries, (...,)."""
        return -(self.high - self.low).log().sum(-1)


@dataclass(frozen=True)
class SquashedGaussian(_Tensors):
    """A normal distribution squashed by tanh to the action range (SAC). Attributes: all (..., action)."""

    mean: Tensor
    log_std: Tensor
    low: Tensor
    high: Tensor

    def _squashed(self, u: Tensor) -> Tensor:
        return self.low + (self.high - self.low) * (u.tanh() + 1) / 2

    @property
    def mode(self) -> Tensor:
        """The squashed mean, (..., action): SAC's deterministic action."""
        return self._squashed(self.mean)

    def sample(self, noise: Tensor) -> Tensor:
        """Transform standard normal noise (..., action) into an action."""
        return self._squashed(self.mean + self.log_std.exp() * noise)

    def log_prob(self, action: Tensor) -> Tensor:
        """Log-density, summed over the action's entries, (...,)."""
        y = (2 * (action - self.low) / (self.high - self.low) - 1).clamp(-1 + 1e-6, 1 - 1e-6)
        # log p(a) = log N(atanh y) - log(1 - y^2) - log((high - low) / 2) (Haarnoja et al. 2018, appendix C)
        inner = Gaussian(self.mean, self.log_std).log_prob(y.atanh())
        return inner - ((1 - y.square()) * (self.high - self.low) / 2).log().sum(-1)


Distribution = Gaussian | Categorical
"""The distributions a policy can learn."""


class ActionHead(nn.Module):
    """Map features to a distribution over actions: Gaussian for a Box, categorical for Discrete.

    Args:
        features: size of the input.
        space: the action space.
        std: initial standard deviation (Box).
        state_std: True: the standard deviation depends on the features; False: it is one parameter per action entry.
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
        """Map (..., features) to a distribution of shape (...,)."""
        return self.distribution(self.linear(features), self.log_std)

    def distribution(self, out: Tensor, log_std: Tensor | None) -> Distribution:
        """Return the distribution for the linear layer's output (..., out); `log_std` if it is a separate parameter."""
        if self.discrete:
            return Categorical(out)
        mean, log_std = (out, log_std.expand_as(out)) if log_std is not None else out.chunk(2, -1)
        return Gaussian(mean, bounded(log_std, self.min_log_std, self.max_log_std))

    @torch.no_grad()
    def program(self, builder: ProgramBuilder, features: int, params: Mapping[str, Tensor]) -> Program:
        """End a policy's program with this head.

        Args:
            builder: of the program.
            features: register of the head's input.
            params: the policy's weights by name, as in `named_parameters`, (S, ...).
        """
        out = builder.linear(features, params["head.linear.weight"], params["head.linear.bias"])
        high, log_std = float(self.max_log_std), params.get("head.log_std")
        bounded_std = None if log_std is None else _clamped(log_std, self.min_log_std, self.max_log_std)
        return builder.build(out, bounded_std, (self.min_log_std, high))

    @torch.no_grad()
    def project(self) -> None:
        """Clamp `log_std` to its bounds if it is a parameter; call this after each update of the parameters."""
        if self.log_std is not None:
            self.log_std.copy_(_clamped(self.log_std, self.min_log_std, self.max_log_std))


def bounded(x: Tensor, low: float, high: Tensor) -> Tensor:
    """Clamp to [low, high], with derivative 1 everywhere (straight-through).

    The derivative of a plain clamp is 0 beyond its bounds, so a value pushed past a bound would never return.
    """
    return _clamped(x.detach(), low, high) + (x - x.detach())


def _clamped(x: Tensor, low: float, high: Tensor) -> Tensor:
    return torch.minimum(x, high).clamp(min=low)
