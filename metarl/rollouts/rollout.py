"""Playing episodes: `Rollout`, the record of them, and `Trials`, the source that collects them for training."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import gymnasium
import numpy as np
import torch
from torch import Tensor

from metarl.learner import Learner, State, Step, where
from metarl.nn.distributions import Distribution
from metarl.nn.spaces import action_size

if TYPE_CHECKING:
    from metarl.envs import MetaVectorEnv


Watch = Callable[[int, np.ndarray, np.ndarray], None]
"""Called after each step with its index, reward (N,) and success (N,)."""


@dataclass(frozen=True)
class Rollout:
    """What happened in some episodes of every slot. T steps, N slots; tensors are (T, N, ...), on one device.

    Attributes:
        query: what the learner was asked, a `Step` of (T, N, ...).
        action: as sampled, before it was clipped to the action space; discrete: int64.
        log_prob: of the action, (T, N).
        reward, done, success: (T, N); done: the step ended an episode.
        terminated: (T, N) bool; the environment itself ended it, not the horizon.
        next_obs: (T, N, ...) the observation that the step led to, before any reset.
        episode: index of the episode within this rollout, (T, N) int64.
        step: index of the step within its episode, (T, N) int64.
        valid: (T, N) bool; False: the slot had finished its episodes and waited for the others.
        prediction: the distributions that the actions came from.
        states: the learner's state before each step, a list of length T.
        final: what the learner would be asked next, a `Step` of (N, ...).
    """

    query: Step
    action: Tensor
    log_prob: Tensor
    reward: Tensor
    done: Tensor
    success: Tensor
    terminated: Tensor
    next_obs: Tensor
    episode: Tensor
    step: Tensor
    valid: Tensor
    prediction: Distribution
    states: list[State]
    final: Step

    def by_episode(self, episodes: int) -> dict[str, np.ndarray]:
        """Return, success at any step and at the last step of each episode, each (episodes, N)."""
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
    """Rollouts of the same slots that follow each other, as one."""
    if len(rollouts) == 1:
        return rollouts[0]
    fields: dict[str, Any] = {
        name: torch.cat([getattr(rollout, name) for rollout in rollouts])
        for name in ("action", "log_prob", "reward", "done", "success", "terminated", "next_obs", "step", "valid")
    }
    before = 0
    episodes = []
    for rollout in rollouts:
        episodes.append(rollout.episode + before)
        before += int(rollout.episode[rollout.valid].max()) + 1
    return Rollout(
        query=Step(*(torch.cat(parts) for parts in zip(*(rollout.query for rollout in rollouts)))),
        prediction=type(rollouts[0].prediction).cat([rollout.prediction for rollout in rollouts]),  # type: ignore[misc]
        episode=torch.cat(episodes),
        states=[state for rollout in rollouts for state in rollout.states],
        final=rollouts[-1].final,
        **fields,
    )


def nothing_before(env: "MetaVectorEnv") -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Previous action, reward and done at the start of a trial: zeros."""
    n = env.num_envs
    return (
        np.zeros((n, action_size(env.single_action_space)), np.float32),
        np.zeros(n, np.float32),
        np.zeros(n, np.float32),
    )


def draw_noise(space: gymnasium.Space[Any], generators: list[np.random.Generator], steps: int) -> np.ndarray:
    """Noise to sample actions with, (steps, slots, entries) float32: normal for a Box, uniform for Discrete."""
    if isinstance(space, gymnasium.spaces.Discrete):
        return np.stack([g.random((steps, 1), np.float32) for g in generators], 1)
    return np.stack([g.standard_normal((steps, action_size(space)), np.float32) for g in generators], 1)


def within(space: gymnasium.Space[Any], chosen: np.ndarray) -> np.ndarray:
    """Actions (N, ...) as the environment takes them: clipped to its Box, in its dtype; its own numbers of discrete ones."""
    if isinstance(space, gymnasium.spaces.Discrete):
        return chosen + space.start
    assert isinstance(space, gymnasium.spaces.Box)
    return np.clip(chosen, space.low, space.high).astype(space.dtype, copy=False)


@torch.no_grad()
def play(
    env: "MetaVectorEnv",
    learner: Learner,
    state: State,
    obs: np.ndarray,
    previous: tuple[np.ndarray, np.ndarray, np.ndarray],
    *,
    episodes: int,
    noise: np.ndarray | None,
    device: torch.device,
    keep_states: bool = False,
    watch: Watch | None = None,
) -> tuple[Rollout, State, np.ndarray, tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Play whole episodes in every slot.

    A learner with a method `meet` is shown the environment first; the scripted expert is the one that needs it.

    Args:
        env: just reset, or at the border of an episode.
        learner, state: what acts, and what it knows.
        obs: (N, ...) the current observations.
        previous: action, reward and done of the step before, see `nothing_before`.
        episodes: how many.
        noise: (episodes * horizon, N, entries) to sample actions with; None: the distribution's mode.
        device: where the learner's tensors are.
        keep_states: keep the learner's state before each step.
        watch: see `Watch`.

    Returns:
        The rollout; the learner's state, the observations and `previous` after it.
    """
    if hasattr(learner, "meet"):
        learner.meet(env)
    space, n, limit = env.single_action_space, env.num_envs, episodes * env.horizon
    discrete = isinstance(space, gymnasium.spaces.Discrete)
    record: dict[str, list[np.ndarray]] = {
        key: []
        for key in (
            "obs",
            "previous_action",
            "previous_reward",
            "previous_done",
            "action",
            "reward",
            "done",
            "success",
            "terminated",
            "next_obs",
            "episode",
            "step",
            "valid",
        )
    }
    predictions: list[Any] = []
    states: list[State] = []
    noise_tensor = None if noise is None else torch.from_numpy(noise).to(device)
    previous_action, previous_reward, previous_done = previous
    episode, step, active = np.zeros(n, np.int64), np.zeros(n, np.int64), np.ones(n, bool)
    seen = obs.astype(np.float32)
    for t in range(limit):
        query = Step(*(torch.from_numpy(x).to(device) for x in (seen, previous_action, previous_reward, previous_done)))
        if keep_states:
            states.append(state)
        prediction, new_state = learner.predict(state, query)
        state = new_state if active.all() else where(torch.from_numpy(active).to(device), new_state, state)
        action = prediction.mode if noise_tensor is None else prediction.sample(noise_tensor[t])
        predictions.append(prediction)
        chosen = action.cpu().numpy()
        executed = within(space, chosen)
        obs, reward, terminated, truncated, info = env.step(executed)
        done, success = terminated | truncated, info["success"]
        reached = obs.astype(np.float32)
        following = reached
        if done.any():
            following = reached.copy()
            for slot in np.flatnonzero(done):
                following[slot] = info["final_obs"][slot]
        row = (
            seen,
            previous_action,
            previous_reward,
            previous_done,
            chosen,
            reward,
            done,
            success,
            terminated,
            following,
            episode,
            step,
            active,
        )
        for key, value in zip(record, row):
            record[key].append(value)
        if watch is not None:
            watch(t, reward, success)
        seen = reached
        taken = chosen[:, None] == np.arange(space.n) if discrete else executed  # type: ignore[attr-defined]
        previous_action = taken.astype(np.float32, copy=False)
        previous_reward, previous_done = reward.astype(np.float32), done.astype(np.float32)
        episode, step = episode + done, np.where(done, 0, step + 1)
        active = active & (episode < episodes)
        if not active.any():
            break

    def tensor(key: str) -> Tensor:
        array = np.stack(record[key])
        return torch.from_numpy(array.astype(np.float32) if array.dtype == np.float64 else array).to(device)

    previous = previous_action, previous_reward, previous_done
    final = Step(*(torch.from_numpy(x).to(device) for x in (seen, *previous)))
    query = Step(*(tensor(key) for key in Step._fields))
    fields = {key: tensor(key) for key in list(record)[4:]}
    stacked = type(predictions[0]).stack(predictions)
    log_prob = stacked.log_prob(fields["action"])
    rollout = Rollout(query=query, log_prob=log_prob, prediction=stacked, states=states, final=final, **fields)
    return rollout, state, obs, previous
