"""Training on robots: its options, and what a configuration of it stands for."""

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
    """Options that every agent on robots shares."""

    suite_seed: int = 1
    """Decides the goals, train and held out."""
    goals: Count = 50
    """Goals of each task; Meta-World's own number is 50."""
    task_id: bool = False
    """Show the task as one-hot (multi-task suites)."""
    num_envs: int = 20
    """Slots: tasks of an iteration."""
    episodes_per_trial: int = 10
    """Episodes in which the agent may adapt to a task."""
    max_episode_steps: int = HORIZON
    """Steps of an episode."""
    engine: str = "auto"
    """auto, native or python: see `metarl list`."""
    reward: str = "v2"
    """Meta-World's version of the reward: v2, or v1 (figures published before 2021)."""
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
        """Environment steps of an iteration, over all slots."""
        return self.num_envs * self.episodes_per_trial * self.max_episode_steps


class Setup(NamedTuple):
    """What a configuration stands for."""

    options: TrainOptions
    suite: Suite
    env: "MetaVectorEnv"
    agent: Agent
    source: Trials

    @property
    def adapt_every(self) -> int | None:
        """Episodes of experience after which the agent adapts, beside its memory; None: it never does."""
        return self.agent.adapt_every or (self.source.episodes if self.agent.phases > 1 else None)

    def announcement(self) -> str:
        """What is trained on what, for how long, in words."""
        o = self.options
        return (
            f"{plural(o.num_envs, 'trial')} of {o.episodes_per_trial} x {plural(o.max_episode_steps, 'step')} "
            f"on {plural(len(self.suite.train), 'train task')}"
            f"{'' if self.suite.train.make is None else ' (fewer steps where episodes end early)'}.\n"
            f"{''.join(f'{note}.{chr(10)}' for note in self._notes())}"
            f"Engine {self.env.engine.name}, device {self.source.device}"
        )

    def _notes(self) -> Iterator[str]:
        """What the user may not expect of environments of their own, a line each."""
        space, std = self.env.single_action_space, self.agent.first_std
        if std and isinstance(space, gymnasium.spaces.Box) and (entry := ill_scaled(space, std)) is not None:
            yield (
                f"Beware: actions lie in [{space.low[entry]:g}, {space.high[entry]:g}] (entry {entry}) and are drawn around 0 "
                f"with a standard deviation of {std:g} at first: gymnasium.wrappers.RescaleAction(env, -1, 1) mends that"
            )
        if not self.suite.train.success:
            yield "Figures are of returns alone: info tells neither success nor is_success from the first step on"

    def interface(self) -> Interface:
        """See `metarl.runs.io_spec`."""
        return described(self.env.single_observation_space, self.env.single_action_space, self.env.input_scale)

    def close(self) -> None:
        """Free the environments."""
        self.env.close()


def ill_scaled(space: gymnasium.spaces.Box, std: float) -> int | None:
    """The first entry whose bounded range is far from what is drawn around 0 with this deviation; None: there is none.

    Far is a deviation of less than a tenth of the range's width or of more than 2.5 times it, and a range without 0.
    """
    low, high, width = box_bounds(space)
    far = np.isfinite(width) & ((std < 0.1 * width) | (std > 2.5 * width)) | (low > 0) | (high < 0)
    far &= width > 0  # where there is nothing to choose, nothing is missed
    return int(np.flatnonzero(far)[0]) if far.any() else None


def set_up(config: dict[str, Any], settings: Any, options: TrainOptions, slots: int | None = None) -> Setup:
    """Suite, environments and an untrained agent. See `metarl.training.setup.set_up`; slots: another number of them."""
    from metarl.envs import make_vec  # with it comes the simulator, which trained agents do without
    from metarl.envs.user_defined import find_suite

    agent_class, _ = find(config["agent"])
    made = find_suite(config["suite"], options.suite_seed, options.goals, options.task_id)
    device = choose_device(options.device)
    if slots is None:
        _refuse_what_does_not_fit(settings, options, made.train)
    env = make_vec(
        made.train,
        slots or options.num_envs,
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
        adapted = options.num_envs if getattr(settings, "inner_steps", 0) and slots is None else 0
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
    agent.accept(source)
    return Setup(options, made, env, agent, source)


def _refuse_what_does_not_fit(settings: Any, options: TrainOptions, tasks: "TaskDistribution") -> None:
    """Raise a `UserError` where environments and steps of an iteration take more memory than there is."""
    from metarl.envs.vector import environments, slots_bytes

    observation = 39 if tasks.make is None else 1  # of one's own, whose size is not known yet, at least
    steps = max(options.episodes_per_trial * options.max_episode_steps, getattr(settings, "chunk", 0))
    numbers = 2 * observation + 16 + getattr(settings, "hidden", 0)  # of a step, float32: see `Rollout`
    kept = getattr(settings, "buffer_size", 0)
    needs = {
        environments(options.num_envs): slots_bytes(tasks, options.num_envs, options.engine),
        f"{options.num_envs * steps:,} steps of an iteration": options.num_envs * steps * numbers * 4,
        f"a replay buffer of {kept:,} steps": kept * (2 * observation + 4) * 4,
    }
    refuse_beyond(needs, f"smaller {options.shorter}{' or --buffer-size' if kept else ''} need less")


OPTIONS = TrainOptions
