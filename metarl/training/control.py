"""Training on environments: its options, and the set-up of suite, environments, agent and source from a configuration.

`metarl.training.setup` calls `set_up`.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any, NamedTuple

import gymnasium
import numpy as np
import torch

from metarl.agents import AGENTS, find
from metarl.envs import Suite
from metarl.errors import UserError
from metarl.gymnasium_ids import HORIZON
from metarl.learner import Agent
from metarl.nn.spaces import box_bounds
from metarl.rollouts.trials import Trials
from metarl.runs.io_spec import Interface, described
from metarl.system.counts import Count, plural
from metarl.system.devices import choose_device
from metarl.system.memory import of_a_network, refuse_beyond
from metarl.system.ranges import check
from metarl.training.options import LoopOptions

if TYPE_CHECKING:
    from metarl.envs import MetaVectorEnv, TaskDistribution


@dataclass(frozen=True)
class TrainOptions(LoopOptions):
    """Options of every agent trained on environments."""

    suite_seed: int = 1
    """Seed of the train and held-out goals."""
    goals: Count = 50
    """Goals per task; Meta-World uses 50."""
    task_id: bool = False
    """Append the task as a one-hot vector to the observation (multi-task suites)."""
    num_envs: int = 20
    """Environments stepped together, each on its own task."""
    episodes_per_trial: int = 10
    """Episodes per trial, in which the agent adapts to one task."""
    max_episode_steps: int = HORIZON
    """Steps after which an episode is cut off."""
    engine: str = "auto"
    """Simulation engine: auto, native or python (see `metarl list`)."""
    reward: str = "v2"
    """Version of Meta-World's reward: v2, or v1 (results published before 2021)."""
    terminate_on_success: bool = False
    """End episodes at their first success. Agents then learn to stop just short of the goal and collect reward."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check(
            self,
            num_envs="[1, inf)",
            episodes_per_trial="[1, inf)",
            max_episode_steps="[1, inf)",
            goals="[1, 100000]",
            suite_seed="[0, 4294967294]",
        )

    shorter = "--num-envs, --episodes-per-trial or --max-episode-steps"

    @property
    def steps_per_iteration(self) -> int:
        """Environment steps per iteration, over all environments."""
        return self.num_envs * self.episodes_per_trial * self.max_episode_steps


class Setup(NamedTuple):
    """The objects that a configuration describes. See `metarl.training.loop.Training`."""

    options: TrainOptions
    suite: Suite
    env: "MetaVectorEnv"
    agent: Agent
    source: Trials

    @property
    def adapt_every(self) -> int | None:
        """Episodes of experience between calls of the agent's `adapt`; None: it is never called."""
        return self.agent.adapt_every or (self.source.episodes if self.agent.phases > 1 else None)

    @property
    def support_episodes(self) -> int:
        """Episodes that `play_trial` collects between calls of `adapt`, also for agents that `adapt` does not change."""
        return self.adapt_every or self.source.episodes

    def announcement(self) -> str:
        """Describe the training for the user: trials, tasks, engine and device."""
        o = self.options
        return (
            f"{plural(o.num_envs, 'trial')} of {o.episodes_per_trial} x {plural(o.max_episode_steps, 'step')} "
            f"on {plural(len(self.suite.train), 'train task')}"
            f"{'' if self.suite.train.make is None else ' (fewer steps where episodes end early)'}.\n"
            f"{''.join(f'{note}.{chr(10)}' for note in self._notes())}"
            f"Engine {self.env.engine.name}, device {self.source.device}"
        )

    def _notes(self) -> Iterator[str]:
        """Warnings about a user's own environments, one line each."""
        space, std = self.env.single_action_space, self.agent.first_std
        if std and isinstance(space, gymnasium.spaces.Box) and (entry := ill_scaled(space, std)) is not None:
            yield (
                f"Beware: actions lie in [{space.low[entry]:g}, {space.high[entry]:g}] (entry {entry}) and are drawn around 0 "
                f"with a standard deviation of {std:g} at first: gymnasium.wrappers.RescaleAction(env, -1, 1) fixes that"
            )
        if not self.suite.train.success:
            yield "All figures are returns: info has neither success nor is_success at the first step"

    def interface(self) -> Interface:
        """See `metarl.runs.io_spec`."""
        return described(self.env.single_observation_space, self.env.single_action_space, self.env.input_scale)

    def close(self) -> None:
        """Free the environments."""
        self.env.close()


def ill_scaled(space: gymnasium.spaces.Box, std: float) -> int | None:
    """The first action entry whose bounds do not fit samples around 0 with this standard deviation; None: all fit.

    Bounds do not fit if the deviation is less than a tenth or more than 2.5 times their width, or if they exclude 0.
    """
    low, high, width = box_bounds(space)
    far = np.isfinite(width) & ((std < 0.1 * width) | (std > 2.5 * width)) | (low > 0) | (high < 0)
    far &= width > 0  # an entry with a single possible value cannot be ill-scaled
    return int(np.flatnonzero(far)[0]) if far.any() else None


def set_up(config: dict[str, Any], settings: Any, options: TrainOptions, num_envs: int | None = None) -> Setup:
    """Create suite, environments and an untrained agent. See `metarl.training.setup.set_up`; num_envs: replaces the option."""
    from metarl.envs import make_vec  # imports the simulator, which trained agents do not need
    from metarl.envs.user_defined import find_suite

    agent_class, _ = find(config["agent"])
    made = find_suite(config["suite"], options.suite_seed, options.goals, options.task_id)
    device = choose_device(options.device)
    if num_envs is None:
        _refuse_what_does_not_fit(settings, options, made.train)
    env = make_vec(
        made.train,
        num_envs or options.num_envs,
        engine=options.engine,
        max_episode_steps=options.max_episode_steps,
        reward=options.reward,
        terminate_on_success=options.terminate_on_success,
        resample=agent_class.resample,
    )

    def make_agent(device: torch.device) -> Agent:
        return agent_class(
            settings,
            env.single_observation_space,
            env.single_action_space,
            env.input_scale,
            seed=options.seed,
            device=device,
            total_iterations=options.iterations,
        )

    if config["agent"] in AGENTS and device.type == "cpu":
        adapted = options.num_envs if getattr(settings, "inner_steps", 0) and num_envs is None else 0
        between = sum(4 * a * b for a, b in pairwise(getattr(settings, "net_arch", ())))
        refuse_beyond(of_a_network(make_agent, adapted, between), "smaller layers need less")
    agent = make_agent(device)
    episodes, rest = divmod(options.episodes_per_trial, agent.phases)
    if rest or not episodes:
        env.close()
        raise UserError(
            f"a trial of this agent has {agent.phases} phases of equal length: episodes_per_trial must be a multiple of "
            f"{agent.phases}, not {options.episodes_per_trial}"
        )
    source = Trials(env, made.train, episodes, options.seed, device)
    agent.validate(source)
    return Setup(options, made, env, agent, source)


def _refuse_what_does_not_fit(settings: Any, options: TrainOptions, tasks: "TaskDistribution") -> None:
    """Raise a `UserError` if the environments and steps of an iteration need more memory than is available."""
    from metarl.envs.vector import environments, envs_bytes

    observation = 39 if tasks.make is None else 1  # the size of own environments is not known yet: a lower bound
    steps = max(options.episodes_per_trial * options.max_episode_steps, getattr(settings, "chunk", 0))
    numbers = 2 * observation + 16 + getattr(settings, "hidden", 0)  # float32 numbers per step: see `Rollout`
    kept = getattr(settings, "buffer_size", 0)
    needs = {
        environments(options.num_envs): envs_bytes(tasks, options.num_envs, options.engine),
        f"{options.num_envs * steps:,} steps of an iteration": options.num_envs * steps * numbers * 4,
        f"a replay buffer of {kept:,} steps": kept * (2 * observation + 4) * 4,
    }
    refuse_beyond(needs, f"smaller {options.shorter}{' or --buffer-size' if kept else ''} need less")


OPTIONS = TrainOptions
