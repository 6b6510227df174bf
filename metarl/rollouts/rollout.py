"""`Rollout`: the record of some episodes in every environment; agents learn from it."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from metarl.learner import PolicyInput, State
from metarl.nn.distributions import Distribution


@dataclass(frozen=True)
class Rollout:
    """The record of some episodes in every environment: T steps, N environments; tensors are (T, N, ...), on one device.

    Attributes:
        query: the learner's inputs, a `PolicyInput` of (T, N, ...).
        action: as sampled, before clipping to the action space; discrete: int64.
        log_prob: of the action, (T, N).
        reward, done, success: (T, N); done: the step ended an episode.
        terminated: (T, N) bool; the environment itself ended the episode, not the step limit.
        ends: step and environment of each episode's end, (K, 2) int64, and the last observations of these episodes, (K, ...).
        episode: index of the episode within this rollout, (T, N) int64.
        step: index of the step within its episode, (T, N) int64.
        valid: (T, N) bool; False: the environment has finished its episodes and waits for the others.
        prediction: the distributions from which the actions were sampled.
        states: the learner's state before steps 0, k, 2k, ...: see `play`.
        final: the learner's next input, a `PolicyInput` of (N, ...).
    """

    query: PolicyInput
    action: Tensor
    log_prob: Tensor
    reward: Tensor
    done: Tensor
    success: Tensor
    terminated: Tensor
    ends: tuple[Tensor, Tensor]
    episode: Tensor
    step: Tensor
    valid: Tensor
    prediction: Distribution
    states: list[State]
    final: PolicyInput

    @property
    def next_obs(self) -> Tensor:
        """The observation after each step, before any reset, (T, N, ...)."""
        index, observations = self.ends
        following = torch.cat([self.query.obs[1:], self.final.obs[None]])
        following[index[:, 0], index[:, 1]] = observations
        return following

    def by_episode(self, episodes: int) -> dict[str, np.ndarray]:
        """Compute each episode's return, success at any step and success at the last step, each (episodes, N)."""
        n = self.reward.shape[1]
        out = {key: np.zeros((episodes, n)) for key in ("return", "success", "last_success")}
        episode, valid = self.episode.cpu().numpy(), self.valid.cpu().numpy()
        reward, success, done = (x.cpu().numpy() for x in (self.reward, self.success, self.done))
        for e in range(episodes):
            mine = valid & (episode == e)
            out["return"][e] = (reward * mine).sum(0, dtype=np.float64)
            out["success"][e] = (success & mine).any(0)
            out["last_success"][e] = (success & done & mine).any(0)
        return out


def joined(rollouts: Sequence[Rollout]) -> Rollout:
    """Join consecutive rollouts of the same environments into one."""
    if len(rollouts) == 1:
        return rollouts[0]
    fields: dict[str, Any] = {
        name: torch.cat([getattr(rollout, name) for rollout in rollouts])
        for name in ("action", "log_prob", "reward", "done", "success", "terminated", "step", "valid")
    }
    before = steps = 0
    episodes, ends = [], []
    for rollout in rollouts:
        episodes.append(rollout.episode + before)
        before += int(rollout.episode[rollout.valid].max()) + 1
        index, observations = rollout.ends
        ends.append((index + index.new_tensor([steps, 0]), observations))
        steps += len(rollout.reward)
    return Rollout(
        query=PolicyInput(*(torch.cat(parts) for parts in zip(*(rollout.query for rollout in rollouts)))),
        prediction=type(rollouts[0].prediction).cat([rollout.prediction for rollout in rollouts]),  # type: ignore[misc]
        episode=torch.cat(episodes),
        ends=(torch.cat([index for index, _ in ends]), torch.cat([observations for _, observations in ends])),
        states=[state for rollout in rollouts for state in rollout.states],
        final=rollouts[-1].final,
        **fields,
    )
