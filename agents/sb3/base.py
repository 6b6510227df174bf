"""stable-baselines3's PPO and SAC as agents, as a transfer-learning baseline.

SB3's own `learn` trains them, with a new random task for every episode. On a new task `adapt` fine-tunes them: each task
gets a copy of the weights and of the optimiser's moments, and SB3's own `train` continues with it on the episodes of that
task.

Importing this module does not need stable-baselines3; constructing an agent does.
"""

import logging
import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import gymnasium
import numpy as np
import torch
from torch import Tensor, nn

from metarl.agents import Preset
from metarl.errors import UserError
from metarl.learner import Agent, Metrics, NonFiniteError, PolicyInput
from metarl.nn.distributions import Categorical, Distribution, Gaussian
from metarl.nn.input_scaling import InputScale
from metarl.nn.policies import linear_by_task
from metarl.optim.inner_loop import stacked
from metarl.rollouts.random_streams import ACTIONS, SHUFFLE, WEIGHTS, generator
from metarl.rollouts.rollout import Rollout
from metarl.rollouts.trials import Trials
from metarl.system.ranges import SIZES, check

log = logging.getLogger("metarl")


@dataclass(frozen=True)
class SB3Settings:
    """Settings shared by the agents of stable-baselines3, under SB3's names."""

    learning_rate: float = 3e-4
    """Learning rate of Adam."""
    gamma: float = 0.99
    """Discount factor."""
    net_arch: tuple[int, ...] = (128, 128)
    """Widths of the hidden layers of each network."""
    normalize_reward: bool = True
    """Divide rewards by the running standard deviation of the discounted return (SB3's VecNormalize)."""
    fit_every: int = 1
    """Fine-tuning: episodes on a new task between updates."""

    def __post_init__(self) -> None:
        if not self.net_arch:
            raise UserError("net_arch needs at least one size")
        check(self, net_arch=SIZES, gamma="[0, 1)", learning_rate="[0, inf)", fit_every="[1, inf)")


@dataclass(frozen=True)
class PPOSettings(SB3Settings):
    """Settings of SB3's PPO."""

    n_steps: int | None = None
    """Steps per environment between updates; must divide an environment's steps per iteration. None: one episode."""
    batch_size: int = 100
    """Steps per minibatch."""
    n_epochs: int = 10
    """Passes over the data of an update."""
    gae_lambda: float = 0.95
    """Lambda of generalised advantage estimation."""
    clip_range: float = 0.2
    """Clipping range of the probability ratio around 1."""
    normalize_advantage: bool = True
    """Standardise advantages within each minibatch."""
    ent_coef: float = 0.0
    """Weight of the entropy bonus."""
    vf_coef: float = 0.5
    """Weight of the value loss."""
    max_grad_norm: float = 0.5
    """Clip the norm of the gradient to this."""
    target_kl: float | None = None
    """Stop an update early when the KL exceeds 1.5 times this; None: no early stopping."""
    log_std_init: float = 0.0
    """Logarithm of the initial standard deviation of continuous (Box) actions."""
    fit_epochs: int = 10
    """Fine-tuning: passes over the new task's episodes per update."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check(
            self,
            n_steps="[1, inf)",
            batch_size="[2, inf)",
            n_epochs="[1, inf)",
            gae_lambda="[0, 1]",
            clip_range="(0, inf)",
            ent_coef="[0, inf)",
            vf_coef="[0, inf)",
            max_grad_norm="(0, inf)",
            target_kl="(0, inf)",
            log_std_init="[-20, 20]",
            fit_epochs="[1, inf)",
        )


PRESETS = {"sb3-ppo": {"default": Preset(PPOSettings())}}
"""Presets by agent and name."""


class Transitions(NamedTuple):
    """Steps of several tasks, (num_tasks, steps, ...), or of one task, (steps, ...); see `Rollout` for the fields."""

    obs: Tensor
    action: Tensor
    reward: Tensor
    next_obs: Tensor
    done: Tensor
    terminated: Tensor
    valid: Tensor

    @classmethod
    def from_rollout(cls, rollout: Rollout) -> "Transitions":
        """The steps of a rollout; the task is the first axis."""
        r = rollout
        fields = (r.query.obs, r.action, r.reward, r.next_obs, r.done, r.terminated, r.valid)
        return cls(*(field.transpose(0, 1) for field in fields))

    def task(self, i: int) -> "Transitions":
        """The valid steps of one task."""
        return Transitions(*(field[i][self.valid[i]] for field in self))


class SB3Agent(Agent):
    """Base class of `SB3PPO` and `SB3SAC`.

    Args:
        settings: `PPOSettings` or `SACSettings`.
        observation_space, action_space: spaces of one environment.
        scale: the tasks' fixed input scale; None: running statistics, updated after each iteration.
        seed: seed of the initial weights and of SB3's random draws.
        device: device of the computation.
        total_iterations: length of training; unused.

    Attributes:
        model: the SB3 algorithm that `iterate` trains.
        tuner: a second SB3 algorithm, into which a task's copy is loaded to fine-tune it.
        rewards: running statistics of returns, as `VecNormalize` keeps them.

    Raises:
        UserError: stable-baselines3 is not installed.
    """

    resample = "episode"

    def __init__(
        self,
        settings: Any,
        observation_space: gymnasium.Space[Any],
        action_space: gymnasium.Space[Any],
        scale: InputScale | None,
        *,
        seed: int,
        device: torch.device,
        total_iterations: int,
    ) -> None:
        from metarl.agents.sb3 import models as sb3_models  # imports stable-baselines3

        self.sb3: Any = sb3_models
        self.settings, self.seed, self.device = settings, seed, device
        self.spaces, self.scale = (observation_space, action_space), scale
        self.adapt_every = settings.fit_every
        with self.sb3.seeded(generator(seed, WEIGHTS)):
            self.model = self._make_model()
        self.rewards = self.sb3.RunningMeanStd(shape=())
        self._buffer_envs = 0  # number of environments of the model's buffer

    def _make_model(self) -> Any:
        """An untrained SB3 algorithm."""
        raise NotImplementedError

    def _update_every(self, env: Any) -> int:
        """Steps per environment between updates."""
        raise NotImplementedError

    def _prepare(self, env: Any) -> None:
        """Create the model's buffer for the environment's number of environments."""
        raise NotImplementedError

    def _fit(self, model: Any, transitions: Transitions) -> None:
        """Continue training the model on the steps of one task."""
        raise NotImplementedError

    @cached_property
    def tuner(self) -> Any:
        """See the class; made on first use."""
        with self.sb3.seeded(generator(self.seed, WEIGHTS)):
            return self._make_model()

    def validate(self, source: Any) -> None:
        """See `Agent.validate`."""
        steps, interval = source.episodes * source.env.max_episode_steps, self._update_every(source.env)
        if steps % interval:
            raise UserError(
                f"an iteration has {steps} steps of each environment: {interval} steps between updates do not divide them"
            )

    def initial_state(self, num_tasks: int) -> dict[str, Tensor]:
        """A copy of the learned weights and optimiser moments for each task."""
        return stacked(self.sb3.tensors(self.model), num_tasks)

    def _hidden(self, state: Mapping[str, Tensor], query: PolicyInput, layers: nn.Sequential, name: str) -> Tensor:
        """Apply each task's own layers to its scaled observation; returns (num_tasks, 1, features)."""
        x = self.sb3.scalers(self.model)[0].observation(query.obs).unsqueeze(1)
        for i, layer in enumerate(layers):
            x = linear_by_task(x, state, f"{name}.{i}") if isinstance(layer, nn.Linear) else layer(x)
        return x

    def adapt(self, state: dict[str, Tensor], support: Rollout) -> dict[str, Tensor]:
        """Fine-tune each task's copy on its own steps; a task whose new weights are not finite keeps the old ones."""
        return self._fine_tuned(state, Transitions.from_rollout(support))

    def _fine_tuned(self, state: dict[str, Tensor], transitions: Transitions) -> dict[str, Tensor]:
        results = []
        for i in range(len(transitions.reward)):
            initial = {name: value[i] for name, value in state.items()}
            self.sb3.load_tensors(self.tuner, initial)
            try:
                rng = generator(self.seed, SHUFFLE, self._adam_steps(initial))
                with self.sb3.seeded(rng), self.sb3.finite_weights(self.tuner), torch.enable_grad():
                    self._fit(self.tuner, transitions.task(i))
                results.append(self.sb3.tensors(self.tuner))
            except NonFiniteError:
                log.warning("the fine-tuned weights of a task are not finite and are discarded")
                results.append(initial)
        return {name: torch.stack([result[name] for result in results]) for name in state}

    def _adam_steps(self, tensors: Mapping[str, Tensor]) -> int:
        """Adam's step count, which grows with each update and so gives each update its own random stream."""
        return int(next(value for name, value in tensors.items() if name.endswith(".step")))

    def _scaled(self, reward: Tensor) -> np.ndarray:
        """Rewards, normalised as in training; the statistics are not updated."""
        rewards = reward.cpu().numpy()
        if not self.settings.normalize_reward:
            return rewards
        # VecNormalize's own constants
        return np.clip(rewards / np.sqrt(self.rewards.var + 1e-8), -10, 10).astype(np.float32)

    def iterate(self, source: Any, iteration: int) -> Metrics:
        """Run SB3's `learn` on the source's environment for one iteration's steps."""
        assert isinstance(source, Trials)
        s, env = self.settings, source.env
        steps = source.episodes * env.max_episode_steps
        source.begin(iteration)
        if self._buffer_envs != env.num_envs:
            self._prepare(env)
            self._buffer_envs = env.num_envs
        rng = generator(self.seed, ACTIONS, iteration)
        self.model.action_space.seed(int(rng.integers(2**31)))  # SAC's random actions
        scalers = self.sb3.scalers(self.model)
        callback = self.sb3.ProgressCallback(source, steps * env.num_envs, scalers[0].running)
        with self.sb3.seeded(rng), self.sb3.finite_weights(self.model):
            self.model.set_env(self.sb3.vec_env(source, self.rewards, s.gamma, s.normalize_reward))
            self.model.learn(steps * env.num_envs, callback=callback, reset_num_timesteps=False, log_interval=None)
        callback.report()
        for scaler in scalers if callback.observations else ():
            observations = torch.from_numpy(np.concatenate(callback.observations)).to(self.device)
            scaler.observe(observations, torch.zeros(len(observations), device=self.device))
        return self.sb3.logged_metrics(self.model)

    def state_dict(self) -> dict[str, Any]:
        """Weights, the optimisers' moments, running statistics, and the number of steps taken."""
        statistics = {key: torch.tensor(float(getattr(self.rewards, key)), dtype=torch.float64) for key in _STATISTICS}
        return {"model": self.sb3.tensors(self.model), "rewards": statistics, "steps": self.model.num_timesteps}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """See `Agent.load_state_dict`."""
        self.sb3.load_tensors(self.model, state["model"])
        for key in _STATISTICS:
            setattr(self.rewards, key, np.float64(state["rewards"][key]))
        self.model.num_timesteps = state["steps"]


_STATISTICS = ("mean", "var", "count")


def fill_buffer(buffer: Any, **columns: Any) -> None:
    """Fill an SB3 buffer, sized for these steps of one environment, with arrays (steps, ...) by the buffer's own names."""
    for name, values in columns.items():
        array = values.cpu().numpy() if isinstance(values, Tensor) else values
        getattr(buffer, name)[:] = array.reshape(getattr(buffer, name).shape)
    buffer.full = True


class SB3PPO(SB3Agent):
    """SB3's PPO: see `SB3Agent`."""

    def __init__(self, settings: PPOSettings, *args: Any, **kwargs: Any) -> None:
        super().__init__(settings, *args, **kwargs)
        self.first_std = math.exp(settings.log_std_init)

    def _make_model(self) -> Any:
        s = self.settings
        names = (
            "learning_rate",
            "batch_size",
            "n_epochs",
            "gamma",
            "gae_lambda",
            "clip_range",
            "normalize_advantage",
            "ent_coef",
            "vf_coef",
            "max_grad_norm",
            "target_kl",
        )
        policy = {"net_arch": list(s.net_arch), "log_std_init": s.log_std_init}
        return self.sb3.build(
            self.sb3.PPO,
            *self.spaces,
            self.scale,
            policy,
            n_steps=1,
            device=self.device,
            **{name: getattr(s, name) for name in names},
        )

    def _update_every(self, env: Any) -> int:
        return self.settings.n_steps or env.max_episode_steps

    def _prepare(self, env: Any) -> None:
        model = self.model
        model.n_envs, model.n_steps = env.num_envs, self._update_every(env)
        model.rollout_buffer = self._buffer(model, model.n_steps, model.n_envs)

    def _buffer(self, model: Any, steps: int, num_envs: int) -> Any:
        s = self.settings
        return self.sb3.RolloutBuffer(
            steps,
            model.observation_space,
            model.action_space,
            self.device,
            gae_lambda=s.gae_lambda,
            gamma=s.gamma,
            n_envs=num_envs,
        )

    def predict(self, state: dict[str, Tensor], query: PolicyInput) -> tuple[Distribution, dict[str, Tensor]]:
        """The distribution of each task's own policy over actions."""
        features = self._hidden(state, query, self.model.policy.mlp_extractor.policy_net, "policy.mlp_extractor.policy_net")
        outputs = linear_by_task(features, state, "policy.action_net").squeeze(1)
        log_std = state.get("policy.log_std")
        return Categorical(outputs) if log_std is None else Gaussian(outputs, log_std.expand_as(outputs)), state

    def _fit(self, model: Any, transitions: Transitions) -> None:
        """PPO on the episodes that the task's own policy just collected."""
        policy, n, reward = model.policy, len(transitions.reward), self._scaled(transitions.reward).copy()
        with torch.no_grad():
            value, log_prob, _ = policy.evaluate_actions(transitions.obs, transitions.action)
            next_value = policy.predict_values(transitions.next_obs).flatten()
        # as in SB3: add the discounted value of the next state if only the time limit ended the episode
        time_limit = (transitions.done & ~transitions.terminated).cpu().numpy()
        reward[time_limit] += self.settings.gamma * next_value.cpu().numpy()[time_limit]
        buffer = self._buffer(model, n, 1)
        fill_buffer(
            buffer,
            observations=transitions.obs,
            actions=transitions.action,
            values=value,
            log_probs=log_prob,
            rewards=reward,
            episode_starts=torch.cat([torch.ones_like(transitions.done[:1]), transitions.done[:-1]]),
        )
        buffer.pos = n
        buffer.compute_returns_and_advantage(next_value[-1:], transitions.done[-1:].cpu().numpy())
        model.rollout_buffer, model.n_epochs = buffer, self.settings.fit_epochs
        model.train()
