"""Baselines that learn nothing: random actions, a goal-blind hovering hand, and Meta-World's scripted experts."""

import importlib
import warnings
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import gymnasium
import numpy as np
import torch
from torch import Tensor

from metarl.agents import Preset
from metarl.envs import TaskDistribution
from metarl.errors import UserError
from metarl.learner import Agent, Metrics, PolicyInput, State
from metarl.nn.distributions import Categorical, Gaussian, Uniform
from metarl.nn.input_scaling import InputScale, InputScaler
from metarl.nn.program import Program, ProgramBuilder
from metarl.nn.spaces import action_size, box_bounds
from metarl.system.ranges import check

if TYPE_CHECKING:
    from metarl.envs import MetaVectorEnv


@dataclass(frozen=True)
class RandomSettings:
    """Random actions have no settings."""


@dataclass(frozen=True)
class ScriptedSettings:
    """Settings of the scripted expert."""

    std: float = 0.0
    """Standard deviation of the noise added to its actions."""

    def __post_init__(self) -> None:
        check(self, std="[0, inf)")


_OPTIONS = {"episodes_per_trial": 2, "steps": 20_000}
PRESETS = {
    "random": {"default": Preset(RandomSettings(), _OPTIONS)},
    "scripted": {"default": Preset(ScriptedSettings(), _OPTIONS)},
}
"""Presets by agent and name."""


class _Fixed(Agent):
    """An agent without parameters; its runs can be evaluated and filmed like any other's."""

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
        self.settings, self.space, self.device = settings, action_space, device
        self.size = action_size(action_space)

    def initial_state(self, num_tasks: int) -> State:
        """An empty state."""
        return {}

    def update(self, batches: list[Any], iteration: int) -> Metrics:
        """Do nothing."""
        return {}

    def state_dict(self) -> dict[str, Any]:
        """An empty dict."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Do nothing."""


class Random(_Fixed):
    """Uniformly random actions.

    Raises:
        UserError: the action space is a Box without finite bounds.
    """

    def __init__(self, settings: Any, observation_space: Any, action_space: Any, *args: Any, **kwargs: Any) -> None:
        super().__init__(settings, observation_space, action_space, *args, **kwargs)
        if isinstance(action_space, gymnasium.spaces.Box):
            low, high, width = box_bounds(action_space)
            if not np.isfinite(width).all():
                raise UserError(f"random actions need two bounds for each entry, which {action_space} lacks")
            self.bounds = low, high

    def predict(self, state: State, query: PolicyInput) -> tuple[Uniform | Categorical, State]:
        """The uniform distribution over actions, whatever the query."""
        if isinstance(self.space, gymnasium.spaces.Discrete):
            return Categorical(torch.zeros(*query.previous_reward.shape, self.size, device=self.device)), state
        bounds = [torch.from_numpy(bound).to(self.device) for bound in self.bounds]
        return Uniform(*(bound.expand(*query.previous_reward.shape, self.size) for bound in bounds)), state


class Scripted(_Fixed):
    """Meta-World's scripted expert for each task (`metaworld.policies`). It observes the goal, which agents do not."""

    _MIN_STD = 1e-6

    def validate(self, source: Any) -> None:
        """See `Agent.validate`."""
        _require_metaworld(source.env)

    def bind_env(self, env: "MetaVectorEnv") -> None:
        """Look up each environment's task and goal.

        Raises:
            UserError: the tasks are not Meta-World's.
        """
        _require_metaworld(env)
        self.names = [task.name for task in env.tasks if task is not None]
        self.goals = np.array([env.engine.scene(env_id).goal for env_id in range(env.num_envs)])

    def predict(self, state: State, query: PolicyInput) -> tuple[Gaussian, State]:
        """A Gaussian around the action of each environment's expert."""
        obs = query.obs.cpu().numpy().astype(np.float64)[:, :39]
        obs[:, 36:39] = self.goals
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # "Constant(s) may be too high": Meta-World clips
            actions = np.array([_expert(name).get_action(row) for name, row in zip(self.names, obs)], np.float32)
        mean = torch.from_numpy(actions).to(self.device)
        return Gaussian(mean, torch.full_like(mean, np.log(max(self.settings.std, self._MIN_STD)))), state


def _require_metaworld(env: "MetaVectorEnv") -> None:
    if env.distribution.make is not None:
        raise UserError("the scripted expert only knows Meta-World's tasks")


@lru_cache
def _expert(name: str) -> Any:
    return importlib.import_module("metaworld.policies").ENV_POLICY_MAP[name]()


class Hover:
    """Hold the hand at one position, with noise. It ignores the goal and succeeds when noise carries the hand into it.

    Args:
        position: (3,) where to hold the hand, metres.
        std: (4,) standard deviation of the actions, taken from the agent that it is compared with.
        observations: number of entries of an observation.
        device: device of its tensors.
    """

    _GAIN = 20.0
    """Action per metre of distance: full speed, 1 cm per step, from 5 cm away."""

    def __init__(self, position: tuple[float, ...], std: tuple[float, ...], observations: int, device: torch.device) -> None:
        self.observations = observations
        self.position = torch.tensor(position, device=device)
        self.log_std = torch.tensor(std, device=device).clamp(min=1e-6).log()

    def initial_state(self, num_tasks: int) -> dict[str, Tensor]:
        """An empty state."""
        return {}

    def predict(self, state: dict[str, Tensor], query: PolicyInput) -> tuple[Gaussian, dict[str, Tensor]]:
        """Move towards the position, at most at full speed."""
        toward = ((self.position - query.obs[:, :3]) * self._GAIN).clamp(-1, 1)
        mean = torch.cat([toward, torch.zeros_like(toward[:, :1])], -1)
        return Gaussian(mean, self.log_std.expand_as(mean)), state

    def program(self, state: dict[str, Tensor]) -> Program:
        """See `Agent.program`: the mean is linear in the observation, then limited."""
        size = self.observations
        scaler = InputScaler(size, len(self.log_std), InputScale((0.0,) * size, (1.0,) * size, 0.0, 1.0))
        builder = ProgramBuilder(scaler, with_previous=False)
        weight, bias = torch.zeros(1, len(self.log_std), size), torch.zeros(1, len(self.log_std))
        weight[0, range(3), range(3)], bias[0, :3] = -self._GAIN, self._GAIN * self.position.cpu()
        out = builder.limit(builder.linear(builder.inputs, weight, bias))
        return builder.build(out, self.log_std[None], (-np.inf, np.inf))

    def adapt(self, state: dict[str, Tensor], support: object) -> dict[str, Tensor]:
        """The state, unchanged."""
        return state


def goal_blind(train: TaskDistribution, std: tuple[float, ...], observations: int, device: torch.device) -> Hover | None:
    """The strongest known agent that ignores the goal, or None if none is known for these tasks.

    For reach it hovers at the centre of the train goals. The hand's centre is 4.5 cm above the point between the fingertips,
    which has to reach the goal.
    """
    if train.make is not None or train.names != ("reach-v3",):
        return None
    goals = torch.tensor([task.params[3:] for task in train.tasks])  # type: ignore[index]
    x, y, z = goals.mean(0).tolist()
    return Hover((x, y, z + 0.045), std, observations, device)
