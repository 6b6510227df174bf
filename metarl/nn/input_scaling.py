"""Scale the inputs of policies, by fixed constants or by running statistics."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from metarl.learner import PolicyInput

CLAMP = 10.0
"""Bound of the absolute value of scaled inputs."""


@dataclass(frozen=True)
class InputScale:
    """Constants for scaling inputs: a network sees (value - center) / unit.

    Attributes:
        center, unit: one entry per observation entry, in the observation's units.
        reward_center, reward_unit: the same for the reward.
    """

    center: tuple[float, ...]
    unit: tuple[float, ...]
    reward_center: float
    reward_unit: float


class InputScaler(nn.Module):
    """Turn a `PolicyInput` into one vector (..., observation + action + 2) of entries of magnitude about 1.

    A scale given by the task fixes the constants. Without one, they are running statistics of the observation and the
    reward, stored in buffers; only `observe` updates them, once per iteration.
    """

    mean: Tensor
    variance: Tensor
    count: Tensor

    def __init__(self, observation_size: int, action_size: int, scale: InputScale | None) -> None:
        super().__init__()
        self.running = scale is None
        n = observation_size + 1  # the last entry is for the reward
        mean, variance = torch.zeros(n, dtype=torch.float64), torch.ones(n, dtype=torch.float64)
        if scale is not None:
            mean = torch.tensor([*scale.center, scale.reward_center], dtype=torch.float64)
            # in Python: torch's power would import torch's compiler first (a second), within the estimate of memory
            variance = torch.tensor([unit * unit for unit in (*scale.unit, scale.reward_unit)], dtype=torch.float64)
        self.register_buffer("mean", mean)
        self.register_buffer("variance", variance)
        self.register_buffer("count", torch.zeros((), dtype=torch.float64))
        self.output_size = observation_size + action_size + 2

    def constants(self) -> tuple[Tensor, Tensor]:
        """Center and unit of the observation's entries and, last, of the reward, each (observation + 1,) float32."""
        return self.mean.float(), self.variance.sqrt().clamp(min=1e-4).float()

    def _scaled(self, x: Tensor, entries: slice | int) -> Tensor:
        center, unit = (constant[entries] for constant in self.constants())
        return ((x - center) / unit).clamp(-CLAMP, CLAMP)

    def observation(self, obs: Tensor) -> Tensor:
        """Scale observations (..., observation) only."""
        return self._scaled(obs, slice(-1))

    def forward(self, step: PolicyInput) -> Tensor:
        """Scale and concatenate; action and done are not scaled."""
        reward = self._scaled(step.previous_reward, -1).unsqueeze(-1)
        return torch.cat([self.observation(step.obs), step.previous_action, reward, step.previous_done.unsqueeze(-1)], -1)

    @torch.no_grad()
    def observe(self, obs: Tensor, reward: Tensor) -> None:
        """Update the running statistics with (n, observation) and (n,), by Chan et al.'s formula for merging two sets."""
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
