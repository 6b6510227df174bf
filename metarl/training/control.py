"""Training on environments: the set-up of suite, environments, agent and source of an experiment.

`metarl.training.setup` calls `set_up`.
"""

from collections.abc import Iterator
from functools import partial
from itertools import pairwise
from typing import TYPE_CHECKING, Any, NamedTuple

import gymnasium
import numpy as np

from metarl.agents import AGENTS, find
from metarl.envs import Suite
from metarl.errors import UserError
from metarl.learner import Agent
from metarl.nn.spaces import box_bounds
from metarl.rollouts.compiled import compiled_program, program_or_reason
from metarl.rollouts.overlap import Ahead
from metarl.rollouts.trials import Trials
from metarl.runs.experiment import Experiment
from metarl.runs.io_spec import IoSpec, of_spaces
from metarl.runs.options import TrainOptions
from metarl.system.counts import plural
from metarl.system.devices import choose_device
from metarl.system.memory import of_a_network, refuse_beyond, size
from metarl.training.agents import create_agent

if TYPE_CHECKING:
    from metarl.envs import MetaVectorEnv, TaskDistribution


class Setup(NamedTuple):
    """The objects that an experiment describes. See `metarl.training.loop.Training`."""

    options: TrainOptions
    suite: Suite
    env: "MetaVectorEnv"
    agent: Agent
    source: Trials | Ahead
    memory: float
    """Estimate of what environments and an iteration need, bytes."""

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
            f"Memory for environments and an iteration: about {size(self.memory)}.\n"
            f"Engine {self.env.engine.name}, acting {self._acting()}, device {self.source.device}"
        )

    def _acting(self) -> str:
        """How the policy acts, and why not in compiled code."""
        if self.options.acting == "python":
            return "in Python"
        program = program_or_reason(self.env, self.agent, self.agent.initial_state(self.env.num_envs))
        if isinstance(program, str):
            return f"in Python ({program})"
        return "compiled, an iteration ahead of learning" if isinstance(self.source, Ahead) else "compiled"

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

    def io_spec(self) -> IoSpec:
        """See `metarl.runs.io_spec`."""
        return of_spaces(self.env.single_observation_space, self.env.single_action_space, self.env.input_scale)

    def close(self) -> None:
        """Stop collecting, and free the environments."""
        if isinstance(self.source, Ahead):
            self.source.close()
        self.env.close()


def ill_scaled(space: gymnasium.spaces.Box, std: float) -> int | None:
    """The first action entry whose bounds do not fit samples around 0 with this standard deviation; None: all fit.

    Bounds do not fit if the deviation is less than a tenth or more than 2.5 times their width, or if they exclude 0.
    """
    low, high, width = box_bounds(space)
    far = np.isfinite(width) & ((std < 0.1 * width) | (std > 2.5 * width)) | (low > 0) | (high < 0)
    far &= width > 0  # an entry with a single possible value cannot be ill-scaled
    return int(np.flatnonzero(far)[0]) if far.any() else None


def set_up(experiment: Experiment, num_envs: int | None = None) -> Setup:
    """Create suite, environments and an untrained agent. See `metarl.training.setup.set_up`; num_envs: replaces the option."""
    from metarl.envs import make_vec  # imports the simulator, which trained agents do not need
    from metarl.envs.user_defined import find_suite

    options, settings = experiment.options, experiment.settings
    assert isinstance(options, TrainOptions)
    agent_class, _ = find(experiment.agent)
    suite = find_suite(experiment.suite, options.suite_seed, options.goals, options.task_id)
    device = choose_device(options.device)
    needs = memory_needs(settings, options, suite.train)
    if num_envs is None:
        more = [f" or --{name.replace('_', '-')}" for name in ("buffer_size", "layers") if hasattr(settings, name)]
        refuse_beyond(needs, f"smaller {options.shorter}{''.join(more)} need less")
    env = make_vec(
        suite.train,
        num_envs or options.num_envs,
        engine=options.engine,
        max_episode_steps=options.max_episode_steps,
        reward=options.reward,
        terminate_on_success=options.terminate_on_success,
        resample=agent_class.resample,
    )
    create = partial(create_agent, experiment, env.single_observation_space, env.single_action_space, env.input_scale)
    if experiment.agent in AGENTS and device.type == "cpu":
        adapted = options.num_envs if getattr(settings, "inner_steps", 0) and num_envs is None else 0
        between = sum(4 * a * b for a, b in pairwise(getattr(settings, "net_arch", ())))
        refuse_beyond(of_a_network(create, adapted, between), "smaller layers need less")
    agent = create(device)
    episodes, rest = divmod(options.episodes_per_trial, agent.phases)
    if rest or not episodes:
        env.close()
        raise UserError(
            f"a trial of this agent has {agent.phases} phases of equal length: episodes_per_trial must be a multiple of "
            f"{agent.phases}, not {options.episodes_per_trial}"
        )
    trials = Trials(env, suite.train, episodes, options.seed, device, options.acting)
    agent.validate(trials)
    overlap = getattr(settings, "overlap", False) and num_envs is None
    try:  # refuse before training, not at the first step
        if overlap:
            _check_overlap(env, agent, options.acting)
        elif options.acting == "compiled":
            compiled_program(env, agent, agent.initial_state(env.num_envs), "compiled")
    except UserError:
        env.close()
        raise
    source = Ahead(trials, options.iterations) if overlap else trials
    return Setup(options, suite, env, agent, source, sum(needs.values()))


def _check_overlap(env: "MetaVectorEnv", agent: Agent, acting: str) -> None:
    """Raise `UserError` if the agent cannot collect while it learns."""
    state = agent.initial_state(env.num_envs)
    reason = "--acting is python" if acting == "python" else program_or_reason(env, agent, state)
    if isinstance(reason, str):
        raise UserError(f"--overlap acts in compiled code: {reason}")
    if agent.previous_program(state) is None:
        raise UserError("--overlap needs an agent with a method previous_program")


def memory_needs(settings: Any, options: TrainOptions, tasks: "TaskDistribution") -> dict[str, float]:
    """Estimates of the bytes that environments and the steps of an iteration need, by what needs them."""
    from metarl.envs.making import environments, envs_bytes

    observation = 39 if tasks.make is None else 1  # the size of own environments is not known yet: a lower bound
    # float32, see `Rollout`; with overlap, the next one fills meanwhile
    recorded = 4 * (2 * observation + 24) * (1 + getattr(settings, "overlap", False))
    replayed = getattr(settings, "buffer_size", 0)
    # linear baselines hold inputs, squares and time in float64, twice; without chunks, all activations are held at once
    features = 16 * (2 * observation + 20) if hasattr(settings, "lam") else 0
    activations = 0 if hasattr(settings, "chunk") else 8 * sum(getattr(settings, "layers", ()))
    steps = max(options.episodes_per_trial * options.max_episode_steps, getattr(settings, "chunk", 0))
    total = options.num_envs * steps
    return {
        environments(options.num_envs): envs_bytes(tasks, options.num_envs, options.engine),
        f"{total:,} steps of an iteration": total * (recorded + features),
        f"the network's activations at {total:,} steps": total * activations,
        f"a replay buffer of {replayed:,} steps": replayed * (2 * observation + 4) * 4,
    }
