"""Fill the arrays of a rollout while `play` runs, then build the `Rollout`."""

from typing import TYPE_CHECKING, Any

import gymnasium
import numpy as np
import torch
from torch import Tensor

from metarl.learner import PolicyInput, State
from metarl.nn.distributions import Distribution
from metarl.rollouts.rollout import Rollout

if TYPE_CHECKING:
    from metarl.envs import MetaVectorEnv


class Storage:
    """Arrays for all steps of some episodes, allocated once and filled in place.

    Row t of `obs` and of the previous action, reward and done holds the learner's input before step t; row t + 1 holds the
    result of step t. Observations are stored once; the last ones of episodes, which resets replace, are stored separately.

    Args:
        env: the environment, with N environments.
        episodes: episodes per environment.
        obs: (N, ...) the first observations.
        previous: action, reward and done of the previous step.
        device: device of the learner's tensors.
    """

    def __init__(
        self,
        env: "MetaVectorEnv",
        episodes: int,
        obs: np.ndarray,
        previous: tuple[np.ndarray, np.ndarray, np.ndarray],
        device: torch.device,
    ) -> None:
        self.space, self.episodes, self.device = env.single_action_space, episodes, device
        self.discrete = isinstance(self.space, gymnasium.spaces.Discrete)
        self.limit, self.steps = episodes * env.max_episode_steps, 0
        self.seen = [np.empty((self.limit + 1, *first.shape), np.float32) for first in (obs, *previous)]
        for rows, first in zip(self.seen, (obs, *previous)):
            rows[0] = first
        n = env.num_envs
        self.done, self.success, self.terminated, self.valid = (np.empty((self.limit, n), bool) for _ in range(4))
        self.episode, self.step = (np.zeros((self.limit + 1, n), np.int64) for _ in range(2))
        self.active = np.ones(n, bool)
        self.ends: list[tuple[int, int]] = []
        self.end_obs: list[np.ndarray] = []
        self.predictions: list[Any] = []

    def query(self) -> PolicyInput:
        """Return the learner's input for the next step; on a CPU it shares memory with the arrays."""
        return PolicyInput(*(torch.from_numpy(rows[self.steps]).to(self.device) for rows in self.seen))

    def previous(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return action, reward and done of the last step."""
        _, action, reward, done = (rows[self.steps] for rows in self.seen)
        return action, reward, done

    def record(
        self,
        prediction: Distribution,
        chosen: np.ndarray,
        executed: np.ndarray,
        outcome: tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, dict[str, Any]],
    ) -> None:
        """Record a step: the distribution, the action drawn from it, the action as executed, and the result of `env.step`."""
        t, (obs, reward, terminated, truncated, info) = self.steps, outcome
        if not self.predictions:
            dtype = np.float32 if chosen.dtype == np.float64 else chosen.dtype
            self.action = np.empty((self.limit, *chosen.shape), dtype)
        self.predictions.append(prediction)
        self.action[t], self.valid[t] = chosen, self.active
        done = terminated | truncated
        self.done[t], self.success[t], self.terminated[t] = done, info["success"], terminated
        for env_id in np.flatnonzero(done):
            self.ends.append((t, int(env_id)))
            self.end_obs.append(np.asarray(info["final_obs"][env_id], np.float32))
        taken = chosen[:, None] == np.arange(self.space.n) if self.discrete else executed  # type: ignore[attr-defined]
        for rows, value in zip(self.seen, (obs, taken, reward, done)):
            rows[t + 1] = value
        self.episode[t + 1] = self.episode[t] + done
        self.step[t + 1] = np.where(done, 0, self.step[t] + 1)
        self.steps += 1
        self.active = self.active & (self.episode[self.steps] < self.episodes)

    def rollout(self, states: list[State]) -> Rollout:
        """Build the rollout of the steps so far; `states` are the recorded states of the learner."""

        def tensor(array: np.ndarray) -> Tensor:
            return torch.from_numpy(array[: self.steps]).to(self.device)

        action = tensor(self.action)
        prediction = type(self.predictions[0]).stack(self.predictions)
        end_obs = np.stack(self.end_obs) if self.end_obs else np.empty((0, *self.seen[0].shape[2:]), np.float32)
        return Rollout(
            query=PolicyInput(*map(tensor, self.seen)),
            action=action,
            log_prob=prediction.log_prob(action),
            reward=tensor(self.seen[2][1:]),
            done=tensor(self.done),
            success=tensor(self.success),
            terminated=tensor(self.terminated),
            ends=(
                torch.tensor(self.ends, device=self.device).reshape(-1, 2),
                torch.from_numpy(end_obs).to(self.device),
            ),
            episode=tensor(self.episode),
            step=tensor(self.step),
            valid=tensor(self.valid),
            prediction=prediction,
            states=states,
            final=self.query(),
        )
