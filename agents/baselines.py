"""Baselines that know nothing of a trial's goal: what adaptation has to beat."""

import torch
from torch import Tensor

from metarl.envs import TaskDistribution
from metarl.learner import Step
from metarl.networks import Gaussian


class Hover:
    """Hold the hand at one place, with noise: blind to the goal, yet successful wherever the noise strays into it.

    Args:
        place: (3,) where the hand is held, metres.
        std: (4,) standard deviation of the actions: that of the agent it is compared with.
        device: where its tensors are.
    """

    _GAIN = 20.0
    """Actions per metre: full speed, 1 cm a step, from 5 cm away."""

    def __init__(self, place: tuple[float, ...], std: tuple[float, ...], device: torch.device) -> None:
        self.place = torch.tensor(place, device=device)
        self.log_std = torch.tensor(std, device=device).clamp(min=1e-6).log()

    def begin(self, num_tasks: int) -> dict[str, Tensor]:
        """Nothing to know."""
        return {}

    def predict(self, state: dict[str, Tensor], query: Step) -> tuple[Gaussian, dict[str, Tensor]]:
        """Towards the place, at most full speed."""
        toward = ((self.place - query.obs[:, :3]) * self._GAIN).clamp(-1, 1)
        mean = torch.cat([toward, torch.zeros_like(toward[:, :1])], -1)
        return Gaussian(mean, self.log_std.expand_as(mean)), state

    def adapt(self, state: dict[str, Tensor], support: object) -> dict[str, Tensor]:
        """Nothing to learn."""
        return state


def goal_blind(train: TaskDistribution, std: tuple[float, ...], device: torch.device) -> Hover | None:
    """The best-known agent that ignores the goal, or None where none is known.

    Known for reach: hover at the centre of the train goals. The hand's centre stands 4.5 cm above the point between the
    fingertips that has to reach the goal.
    """
    if train.make is not None or train.names != ("reach-v3",):
        return None
    goals = torch.tensor([task.params[3:] for task in train.tasks])  # type: ignore[index]
    x, y, z = goals.mean(0).tolist()
    return Hover((x, y, z + 0.045), std, device)
