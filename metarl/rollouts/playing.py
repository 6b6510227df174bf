"""Play whole episodes in every environment; called by `Trials` in training and by `play_trial` in evaluation."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import gymnasium
import numpy as np
import torch

from metarl.learner import Learner, State, where
from metarl.nn.spaces import action_size
from metarl.rollouts.rollout import Rollout
from metarl.rollouts.storage import Storage

if TYPE_CHECKING:
    from metarl.envs import MetaVectorEnv

Watch = Callable[[int, np.ndarray, np.ndarray], None]
"""Called after each step with its index, reward (N,) and success (N,)."""


def nothing_before(env: "MetaVectorEnv") -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Previous action, reward and done at the start of a trial: zeros."""
    n = env.num_envs
    return (
        np.zeros((n, action_size(env.single_action_space)), np.float32),
        np.zeros(n, np.float32),
        np.zeros(n, np.float32),
    )


def draw_noise(space: gymnasium.Space[Any], generators: list[np.random.Generator], steps: int) -> np.ndarray:
    """Draw noise for sampling actions, (steps, environments, entries) float32: normal for a Box, uniform for Discrete."""
    if isinstance(space, gymnasium.spaces.Discrete):
        return np.stack([g.random((steps, 1), np.float32) for g in generators], 1)
    return np.stack([g.standard_normal((steps, action_size(space)), np.float32) for g in generators], 1)


def within(space: gymnasium.Space[Any], chosen: np.ndarray) -> np.ndarray:
    """Convert actions (N, ...) for the environment: clip to a Box and cast to its dtype, or add the start of Discrete."""
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
    keep_states: int = 0,
    watch: Watch | None = None,
) -> tuple[Rollout, State, np.ndarray, tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Play whole episodes in every environment.

    If the learner has a method `bind_env`, it receives the environment first; only the scripted expert needs this.

    Args:
        env: just reset, or between two episodes.
        learner, state: the learner that chooses actions, and its state.
        obs: (N, ...) the current observations.
        previous: action, reward and done of the previous step, see `nothing_before`.
        episodes: episodes per environment.
        noise: (episodes * max_episode_steps, N, entries) noise for sampling actions; None: take the distribution's mode.
        device: device of the learner's tensors.
        keep_states: record the learner's state before every k-th step, for this k; 0: never.
        watch: see `Watch`.

    Returns:
        The rollout, then the learner's state, the observations and `previous` at its end.
    """
    if hasattr(learner, "bind_env"):
        learner.bind_env(env)
    noise_tensor = None if noise is None else torch.from_numpy(noise).to(device)
    storage = Storage(env, episodes, obs, previous, device)
    states: list[State] = []
    while storage.active.any() and storage.steps < storage.limit:
        t, active = storage.steps, storage.active
        if keep_states and t % keep_states == 0:
            states.append(state)
        prediction, new_state = learner.predict(state, storage.query())
        state = new_state if active.all() else where(torch.from_numpy(active).to(device), new_state, state)
        action = prediction.mode if noise_tensor is None else prediction.sample(noise_tensor[t])
        chosen = action.cpu().numpy()
        executed = within(env.single_action_space, chosen)
        outcome = obs, reward, _, _, info = env.step(executed)
        storage.record(prediction, chosen, executed, outcome)
        if watch is not None:
            watch(t, reward, info["success"])
    return storage.rollout(states), state, obs, storage.previous()
