"""Play whole episodes in every environment; called by `Trials` in training and by `play_trial` in evaluation."""

from collections.abc import Callable, Collection
from typing import TYPE_CHECKING, Any, Protocol

import gymnasium
import numpy as np
import torch

from metarl.learner import Learner, State, where
from metarl.nn.spaces import action_size
from metarl.rollouts.compiled import compiled_program, play_compiled
from metarl.rollouts.rollout import Rollout
from metarl.rollouts.storage import Arrays, Storage

if TYPE_CHECKING:
    from metarl.envs import MetaVectorEnv

Progress = Callable[[float], None]
"""Called from time to time with the share of the work done, 0 to 1."""


class Camera(Protocol):
    """Records scenes while episodes are played."""

    @property
    def times(self) -> Collection[int]:
        """Steps of the episode after which to record."""

    def take(self, t: int, scenes: list[Any]) -> None:
        """Receive the environments' scenes, or the pictures that user-defined ones draw, after step t."""


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
    first: Arrays,
    *,
    episodes: int,
    noise: np.ndarray | None,
    device: torch.device,
    keep_states: int = 0,
    progress: Progress = lambda share: None,
    camera: Camera | None = None,
    acting: str = "auto",
) -> tuple[Rollout, State]:
    """Play whole episodes in every environment.

    Policies with a `Program` act in compiled code beside the native engine; others act in Python, step by step. If the
    learner has a method `bind_env`, it receives the environment first; only the scripted expert needs this.

    Args:
        env: just reset, or between two episodes.
        learner, state: the learner that chooses actions, and its state.
        first: its first input, see `first_input` and `next_input`.
        episodes: episodes per environment.
        noise: (episodes * max_episode_steps, N, entries) noise for sampling actions; None: take the distribution's mode.
        device: device of the learner's tensors.
        keep_states: record the learner's state before every k-th step, for this k; 0: never.
        progress, camera: see `Progress` and `Camera`; a camera records one episode.
        acting: auto, compiled or python.

    Returns:
        The rollout and the learner's state at its end.

    Raises:
        UserError: `acting` is compiled, and the environment or the learner has no compiled form.
    """
    program = compiled_program(env, learner, state, acting)
    storage = Storage(env, episodes, first, device)
    if program is not None:
        return play_compiled(env, program, state, storage, noise=noise, every=keep_states, progress=progress, camera=camera)
    if hasattr(learner, "bind_env"):
        learner.bind_env(env)
    noise_tensor = None if noise is None else torch.from_numpy(noise).to(device)
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
        storage.record(prediction, chosen, executed, env.step(executed))
        if camera is not None and t in camera.times:
            camera.take(t, _scenes(env))
        if t % 50 == 0:
            progress(storage.steps / storage.limit)
    return storage.rollout(storage.prediction(), states, storage.query()), state


def _scenes(env: "MetaVectorEnv") -> list[Any]:
    """Each environment's scene; user-defined environments draw a picture instead."""
    engine, user_defined = env.engine, env.distribution.make is not None
    return [engine.render(i, None) if user_defined else engine.scene(i) for i in range(env.num_envs)]
