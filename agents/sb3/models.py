"""Helpers for the SB3 agents: build SB3's algorithms with metarl's input scaling, and copy their tensors in and out."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import gymnasium
import numpy as np
import torch
from torch import Tensor

from metarl.envs.sb3 import SB3VecEnv, sb3_space  # first: its error says how to install SB3
from metarl.learner import NonFiniteError
from metarl.nn.input_scaling import InputScale, InputScaler
from metarl.nn.spaces import observation_size
from metarl.rollouts.trials import Trials

from stable_baselines3 import PPO, SAC  # isort: skip
from stable_baselines3.common.buffers import ReplayBuffer, RolloutBuffer  # isort: skip
from stable_baselines3.common.callbacks import BaseCallback  # isort: skip
from stable_baselines3.common.logger import Logger  # isort: skip
from stable_baselines3.common.running_mean_std import RunningMeanStd  # isort: skip
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor  # isort: skip
from stable_baselines3.common.vec_env import VecEnv, VecMonitor, VecNormalize  # isort: skip

__all__ = ["PPO", "SAC", "ReplayBuffer", "RolloutBuffer", "RunningMeanStd"]

MOMENTS = ("step", "exp_avg", "exp_avg_sq")
"""The entries of Adam's state for each parameter."""


@contextmanager
def seeded(rng: np.random.Generator) -> Iterator[None]:
    """Seed torch's and numpy's global generators, which SB3 draws from, with `rng`; restore both at the end."""
    state = np.random.get_state()  # noqa: NPY002
    with torch.random.fork_rng():
        torch.manual_seed(int(rng.integers(2**31)))
        np.random.seed(int(rng.integers(2**31)))  # noqa: NPY002
        try:
            yield
        finally:
            np.random.set_state(state)  # noqa: NPY002


class Scaled(BaseFeaturesExtractor):
    """metarl's `InputScaler` as the features extractor of an SB3 policy; its statistics are buffers of the policy."""

    def __init__(self, observation_space: gymnasium.Space[Any], scale: InputScale | None) -> None:
        super().__init__(observation_space, observation_size(observation_space))
        self.scaler = InputScaler(self.features_dim, 0, scale)

    def forward(self, observations: Tensor) -> Tensor:
        """Scale observations; the shape (..., observation) stays the same."""
        return self.scaler.observation(observations)


def build(
    algorithm: Any,
    observation_space: gymnasium.Space[Any],
    action_space: gymnasium.Space[Any],
    scale: InputScale | None,
    policy: dict[str, Any],
    **settings: Any,
) -> Any:
    """An untrained SB3 algorithm; its environments are set later.

    Args:
        algorithm: PPO or SAC.
        policy: its `policy_kwargs`, to which this adds the input scaling.
        settings: its settings, under SB3's names.
    """
    extractor = {"features_extractor_class": Scaled, "features_extractor_kwargs": {"scale": scale}}
    model = algorithm("MlpPolicy", None, policy_kwargs={**policy, **extractor}, _init_setup_model=False, **settings)
    model.observation_space, model.action_space = sb3_space(observation_space), sb3_space(action_space)
    model.n_envs = 1
    model._setup_model()  # as SB3's own `load` does
    model.set_logger(Logger(None, []))
    return model


def optimizers(model: Any) -> dict[str, torch.optim.Optimizer]:
    """An algorithm's optimisers by name."""
    if isinstance(model, PPO):
        return {"policy": model.policy.optimizer}
    temperature = {} if model.ent_coef_optimizer is None else {"ent_coef": model.ent_coef_optimizer}
    return {"actor": model.actor.optimizer, "critic": model.critic.optimizer, **temperature}


def _parameters(model: Any) -> dict[str, Tensor]:
    """Weights, running statistics and SAC's temperature: the algorithm's own tensors, by name."""
    parameters = {f"policy.{k}": v for k, v in (*model.policy.named_parameters(), *model.policy.named_buffers())}
    temperature = getattr(model, "log_ent_coef", None)
    return parameters if temperature is None else {**parameters, "log_ent_coef": temperature}


def tensors(model: Any) -> dict[str, Tensor]:
    """Copies of an algorithm's learned tensors by name: `_parameters`, and the optimisers' moments of each."""
    named = dict(_parameters(model))
    for name, optimizer in optimizers(model).items():
        for i, parameter in enumerate(optimizer.param_groups[0]["params"]):
            zeros = dict(zip(MOMENTS, (torch.zeros(()), torch.zeros_like(parameter), torch.zeros_like(parameter))))
            moments = optimizer.state.get(parameter) or zeros  # zeros: Adam's own initial state
            named |= {f"adam.{name}.{i}.{key}": moments[key] for key in MOMENTS}
    return {name: value.detach().clone() for name, value in named.items()}


@torch.no_grad()
def load_tensors(model: Any, values: dict[str, Tensor]) -> None:
    """Load into an algorithm the tensors that `tensors` returned."""
    for name, tensor in _parameters(model).items():
        tensor.copy_(values[name])
    for name, optimizer in optimizers(model).items():
        for i, parameter in enumerate(optimizer.param_groups[0]["params"]):
            # Adam keeps its count of steps on the CPU
            moments = {key: values[f"adam.{name}.{i}.{key}"].clone() for key in MOMENTS}
            optimizer.state[parameter] = {
                **{k: v.to(parameter.device) for k, v in moments.items()},
                "step": moments["step"].cpu(),
            }


def scalers(model: Any) -> list[InputScaler]:
    """An algorithm's input scalers: one, or one per network, all equal."""
    return [module for module in model.policy.modules() if isinstance(module, InputScaler)]


@contextmanager
def finite_weights(model: Any) -> Iterator[None]:
    """Raise `NonFiniteError` if the algorithm's weights are not finite at the end of the block."""
    try:
        yield
    except ValueError:  # torch's distributions reject values that are not finite
        if _finite(model):
            raise
    if not _finite(model):
        raise NonFiniteError(f"the weights of {type(model).__name__} are not finite", {})


def _finite(model: Any) -> bool:
    return all(bool(tensor.isfinite().all()) for tensor in _parameters(model).values())


def logged_metrics(model: Any) -> dict[str, float]:
    """The finite metrics that the algorithm logged in its last update, without constants."""
    logged = {name.removeprefix("train/"): float(value) for name, value in model.logger.name_to_value.items()}
    constant = ("learning_rate", "n_updates", "clip_range")
    return {name: value for name, value in logged.items() if name not in constant and np.isfinite(value)}


def vec_env(source: Trials, statistics: RunningMeanStd, gamma: float, normalize_reward: bool) -> VecEnv:
    """The source's environment as an SB3 `VecEnv`; optionally divides rewards by the standard deviation of returns."""
    env: VecEnv = VecMonitor(SB3VecEnv(source.env))
    if normalize_reward:
        env = VecNormalize(env, norm_obs=False, gamma=gamma)
        env.ret_rms = statistics
    return env


class ProgressCallback(BaseCallback):
    """An SB3 callback that reports progress, steps and finished episodes to the source.

    Args:
        source: the source whose environment the algorithm steps.
        steps: number of steps that `learn` will take, over all environments.
        keep_obs: keep every observation, for running statistics.
    """

    def __init__(self, source: Trials, steps: int, keep_obs: bool) -> None:
        super().__init__()
        self.source, self.steps, self.keep_obs = source, steps, keep_obs
        self.seconds, self.steps_taken = 0.0, 0
        self.observations: list[np.ndarray] = []
        self.episodes: dict[str, list[float]] = {"return": [], "success": [], "last_success": []}

    def _on_rollout_start(self) -> None:
        self._start = time.perf_counter()

    def _on_step(self) -> bool:
        for info in self.locals["infos"]:
            if "episode" in info:
                self.episodes["return"].append(float(info["episode"]["r"]))
                self.episodes["success"].append(float(info["is_success"]))
                self.episodes["last_success"].append(float(info["success"]))
        if self.keep_obs:
            self.observations.append(self.locals["new_obs"])
        self.steps_taken += self.training_env.num_envs
        if self.n_calls % 50 == 0:
            self.source.progress(self.steps_taken / self.steps)
        return True

    def _on_rollout_end(self) -> None:
        self.seconds += time.perf_counter() - self._start

    def report(self) -> None:
        """Report to the source. Consecutive episodes are on different tasks, so all of them form one row."""
        self.source.record(self.steps_taken, self.seconds, {key: np.array([value]) for key, value in self.episodes.items()})
