"""stable-baselines3's SAC as an agent: see `metarl.agents.sb3.base`."""

import logging
from dataclasses import dataclass
from typing import Any

import gymnasium
import numpy as np
import torch
from torch import Tensor

from metarl.agents import Preset
from metarl.agents.sb3.base import SB3Agent, SB3Settings, Transitions, fill_buffer
from metarl.errors import UserError
from metarl.learner import Metrics, PolicyInput
from metarl.nn.distributions import SquashedGaussian
from metarl.nn.policies import linear_by_task
from metarl.nn.spaces import action_size, box_bounds, observation_size
from metarl.rollouts.rollout import Rollout
from metarl.system.counts import Count
from metarl.system.ranges import check

log = logging.getLogger("metarl")


@dataclass(frozen=True)
class SACSettings(SB3Settings):
    """Settings of SB3's SAC."""

    net_arch: tuple[int, ...] = (256, 256)
    """Widths of the hidden layers of each network."""
    normalize_reward: bool = False
    """Divide rewards by the running standard deviation of the discounted return (SB3's VecNormalize)."""
    buffer_size: Count = 1_000_000
    """Capacity of the replay buffer, transitions."""
    learning_starts: Count = 5_000
    """Steps with random actions before the first update."""
    batch_size: int = 256
    """Transitions per minibatch."""
    tau: float = 0.005
    """Interpolation factor of the target networks: their step towards the networks, as a fraction of the distance."""
    train_freq: int = 1
    """Steps per environment between updates; must divide an environment's steps per iteration."""
    gradient_steps: int = 1
    """Gradient steps per update; -1: as many as environment steps since the last update."""
    ent_coef: float | None = None
    """Weight of the entropy; None: learned (SB3's "auto")."""
    target_update_interval: int = 1
    """Gradient steps between updates of the target networks."""
    fit_steps: int = 100
    """Fine-tuning: gradient steps per update, on all episodes of the new task so far; 0: no fine-tuning."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check(
            self,
            batch_size="[2, inf)",
            buffer_size="[1, inf)",
            learning_starts="[0, inf)",
            tau="[0, 1]",
            ent_coef="[0, inf)",
            train_freq="[1, inf)",
            gradient_steps="[-1, inf)",
            target_update_interval="[1, inf)",
            fit_steps="[0, inf)",
        )


PRESETS = {"sb3-sac": {"default": Preset(SACSettings())}}
"""Presets by agent and name."""

_REPLAY = "replay."
"""Prefix of a task's transitions in its state."""


class SB3SAC(SB3Agent):
    """SB3's SAC: see `SB3Agent`. A task's state also holds the transitions of its own episodes, the data of its fine-tuning.

    Checkpoints do not contain the replay buffer: a resumed run starts with an empty one, logs a warning, and differs from an
    uninterrupted run. The metric `replay` is the buffer's size.
    """

    def __init__(self, settings: SACSettings, observation_space: Any, action_space: Any, *args: Any, **kwargs: Any) -> None:
        if not isinstance(action_space, gymnasium.spaces.Box):
            raise UserError(f"SAC needs Box actions, not {action_space}")
        low, high, width = box_bounds(action_space)
        if not (np.isfinite(width) & (width > 0)).all():
            raise UserError(f"SAC scales actions to their bounds: each entry needs two, which {action_space} lacks")
        self.bounds = low, high
        super().__init__(settings, observation_space, action_space, *args, **kwargs)
        if settings.fit_steps == 0:
            self.adapt_every = None

    def _make_model(self) -> Any:
        s = self.settings
        names = (
            "learning_rate",
            "learning_starts",
            "batch_size",
            "tau",
            "gamma",
            "train_freq",
            "gradient_steps",
            "target_update_interval",
        )
        return self.sb3.build(
            self.sb3.SAC,
            *self.spaces,
            self.scale,
            {"net_arch": list(s.net_arch)},
            device=self.device,
            buffer_size=1,
            ent_coef="auto" if s.ent_coef is None else s.ent_coef,
            target_entropy=-float(action_size(self.spaces[1])),
            **{name: getattr(s, name) for name in names},
        )

    def _update_every(self, env: Any) -> int:
        return self.settings.train_freq

    def _prepare(self, env: Any) -> None:
        self.model.n_envs = env.num_envs
        self.model.replay_buffer = self._buffer(self.model, self.settings.buffer_size, env.num_envs)
        if self.model.num_timesteps:
            log.warning("sb3-sac resumes with an empty replay buffer: checkpoints do not hold it")

    def _buffer(self, model: Any, size: int, num_envs: int) -> Any:
        return self.sb3.ReplayBuffer(size, model.observation_space, model.action_space, self.device, n_envs=num_envs)

    def iterate(self, source: Any, iteration: int) -> Metrics:
        """See `SB3Agent.iterate`."""
        metrics = super().iterate(source, iteration)
        return metrics | {"replay": float(self.model.replay_buffer.size() * source.num_tasks)}

    def initial_state(self, num_tasks: int) -> dict[str, Tensor]:
        """A copy of the learned tensors for each task, and no transitions."""
        observation, action = observation_size(self.spaces[0]), action_size(self.spaces[1])
        float_shapes = {"obs": (observation,), "action": (action,), "reward": (), "next_obs": (observation,)}
        shapes = {**float_shapes, "done": (), "terminated": (), "valid": ()}
        empty = {
            f"{_REPLAY}{name}": torch.zeros(
                num_tasks, 0, *shape, device=self.device, dtype=torch.float32 if name in float_shapes else torch.bool
            )
            for name, shape in shapes.items()
        }
        return super().initial_state(num_tasks) | empty

    def predict(self, state: dict[str, Tensor], query: PolicyInput) -> tuple[SquashedGaussian, dict[str, Tensor]]:
        """The distribution of each task's own policy over actions."""
        features = self._hidden(state, query, self.model.actor.latent_pi, "policy.actor.latent_pi")
        mean, log_std = (linear_by_task(features, state, f"policy.actor.{name}").squeeze(1) for name in ("mu", "log_std"))
        bounds = [torch.from_numpy(bound).to(mean).expand_as(mean) for bound in self.bounds]
        return SquashedGaussian(mean, log_std.clamp(-20, 2), *bounds), state  # SB3's bounds of log_std

    def adapt(self, state: dict[str, Tensor], support: Rollout) -> dict[str, Tensor]:
        """See `SB3Agent.adapt`; appends the steps to those in the state and trains on all of them."""
        if self.settings.fit_steps == 0:
            return state
        learned = {name: value for name, value in state.items() if not name.startswith(_REPLAY)}
        steps = Transitions.from_rollout(support)
        transitions = Transitions(*(torch.cat([state[_REPLAY + name], value], 1) for name, value in steps._asdict().items()))
        return self._fine_tuned(learned, transitions) | {_REPLAY + name: value for name, value in transitions._asdict().items()}

    def _fit(self, model: Any, transitions: Transitions) -> None:
        """SAC's gradient steps on the task's own transitions."""
        buffer = self._buffer(model, len(transitions.reward), 1)
        fill_buffer(
            buffer,
            observations=transitions.obs,
            actions=model.policy.scale_action(transitions.action.cpu().numpy()),
            next_observations=transitions.next_obs,
            rewards=self._scaled(transitions.reward),
            dones=transitions.done,
            timeouts=transitions.done & ~transitions.terminated,
        )
        model.replay_buffer = buffer
        model.train(gradient_steps=self.settings.fit_steps, batch_size=self.settings.batch_size)
