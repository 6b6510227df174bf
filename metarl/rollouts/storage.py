"""Fill the arrays of a rollout while `play` runs, then build the `Rollout`."""

from typing import TYPE_CHECKING, Any, NamedTuple

import gymnasium
import numpy as np
import torch
from torch import Tensor

from metarl.learner import PolicyInput, State
from metarl.nn.distributions import Distribution
from metarl.nn.spaces import action_size
from metarl.rollouts.rollout import Rollout

if TYPE_CHECKING:
    from metarl.envs import MetaVectorEnv


class Arrays(NamedTuple):
    """A `PolicyInput` as float32 arrays (N, ...): observation, and the previous action, reward and done."""

    obs: np.ndarray
    action: np.ndarray
    reward: np.ndarray
    done: np.ndarray


def first_input(env: "MetaVectorEnv", obs: np.ndarray) -> Arrays:
    """The learner's input at the start of a trial: before it there is nothing, so action, reward and done are 0."""
    n = env.num_envs
    action = np.zeros((n, action_size(env.single_action_space)), np.float32)
    return Arrays(obs, action, np.zeros(n, np.float32), np.zeros(n, np.float32))


def next_input(rollout: Rollout, obs: np.ndarray | None = None) -> Arrays:
    """The learner's input after a rollout; obs: replaces the observation, after a reset."""
    arrays = Arrays(*(tensor.cpu().numpy() for tensor in rollout.final))
    return arrays if obs is None else arrays._replace(obs=obs)


class Storage:
    """Arrays for all steps of some episodes, allocated once and filled in place.

    Row t of `seen` holds the learner's input before step t; row t + 1 holds the result of step t. Observations are stored
    once; the last ones of episodes, which resets replace, are stored separately.

    Args:
        env: the environment, with N environments.
        episodes: episodes per environment.
        first: the learner's first input, arrays (N, ...).
        device: device of the learner's tensors.

    Attributes:
        seen: the learner's inputs, arrays (T + 1, N, ...).
        action: the actions before they are clipped, (T, N, ...); made at the first step.
        steps: rows recorded so far.
    """

    def __init__(self, env: "MetaVectorEnv", episodes: int, first: Arrays, device: torch.device) -> None:
        self.space, self.episodes, self.device = env.single_action_space, episodes, device
        self.discrete = isinstance(self.space, gymnasium.spaces.Discrete)
        self.limit, self.steps = episodes * env.max_episode_steps, 0
        self.seen = Arrays(*(np.zeros((self.limit + 1, *array.shape), np.float32) for array in first))
        for rows, array in zip(self.seen, first):
            rows[0] = array
        n = env.num_envs
        self.done, self.success, self.terminated, self.valid = (np.zeros((self.limit, n), bool) for _ in range(4))
        self.episode, self.step = (np.zeros((self.limit + 1, n), np.int64) for _ in range(2))
        self.active = np.ones(n, bool)
        self.ends: list[tuple[int, int]] = []
        self.end_obs: list[np.ndarray] = []
        self.predictions: list[Any] = []

    def query(self) -> PolicyInput:
        """Return the learner's input for the next step; on a CPU it shares memory with the arrays."""
        return PolicyInput(*(torch.from_numpy(rows[self.steps]).to(self.device) for rows in self.seen))

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

    def prediction(self) -> Distribution:
        """The distributions of all recorded steps."""
        return type(self.predictions[0]).stack(self.predictions)

    def tensor(self, array: np.ndarray) -> Tensor:
        """Return the recorded rows of an array, on the device; on a CPU without a copy."""
        return torch.from_numpy(array[: self.steps]).to(self.device)

    def rollout(self, prediction: Distribution, states: list[State], final: PolicyInput) -> Rollout:
        """Build the rollout of the steps so far; see `Rollout` for the arguments."""
        tensor, action = self.tensor, self.tensor(self.action)
        end_obs = np.stack(self.end_obs) if len(self.end_obs) else np.empty((0, *self.seen.obs.shape[2:]), np.float32)
        return Rollout(
            query=PolicyInput(*map(tensor, self.seen)),
            action=action,
            log_prob=prediction.log_prob(action),
            reward=tensor(self.seen.reward[1:]),
            done=tensor(self.done),
            success=tensor(self.success),
            terminated=tensor(self.terminated),
            ends=(
                torch.tensor(self.ends, dtype=torch.int64, device=self.device).reshape(-1, 2),
                torch.from_numpy(end_obs).to(self.device),
            ),
            episode=tensor(self.episode),
            step=tensor(self.step),
            valid=tensor(self.valid),
            prediction=prediction,
            states=states,
            final=final,
        )
