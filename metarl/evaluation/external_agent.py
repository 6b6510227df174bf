"""Plays trials with an agent that follows `metaworld.evaluation.MetaLearningAgent`, for `evaluate_external`."""

import copy
import importlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from metarl.envs import MetaVectorEnv, Task
from metarl.errors import UserError
from metarl.evaluation.upstream_agent import ADDED
from metarl.rollouts.storage import first_input
from metarl.rollouts.trials import Played

VERBS = ("init", "adapt_action", "step", "adapt", "reset", "eval_action")
"""Methods of `metaworld.evaluation.MetaLearningAgent`."""


class WithoutInfo:
    """Strips the previous action, reward and done from Meta-World's observations before the agent sees them."""

    def __init__(self, agent: Any) -> None:
        self.agent = agent

    def __getattr__(self, name: str) -> Any:
        return getattr(self.agent, name)

    def adapt_action(self, observations: np.ndarray) -> Any:
        """See `metaworld.evaluation.MetaLearningAgent`."""
        return self.agent.adapt_action(observations[:, :-ADDED])

    def eval_action(self, observations: np.ndarray) -> Any:
        """See `metaworld.evaluation.Agent`."""
        return self.agent.eval_action(observations[:, :-ADDED])

    def step(self, timestep: Any) -> None:
        """See `metaworld.evaluation.MetaLearningAgent`."""
        self.agent.step(timestep._replace(observation=timestep.observation[:, :-ADDED]))


def with_methods(agent: Any, name: str) -> Any:
    """Return the agent if it has all methods of `VERBS`.

    Raises:
        UserError: a method is missing.
    """
    missing = [verb for verb in VERBS if not callable(getattr(agent, verb, None))]
    if missing:
        raise UserError(
            f"{name} returns {type(agent).__name__}, which has no method {' nor '.join(missing)}: an agent has "
            f"{', '.join(VERBS)} (metaworld.evaluation.MetaLearningAgent)"
        )
    return agent


@dataclass(frozen=True)
class Episode:
    """One episode per environment, with the fields that an evaluation uses; arrays (T, N). valid: the episode had not ended."""

    reward: np.ndarray
    success: np.ndarray
    done: np.ndarray
    valid: np.ndarray
    prediction: None = None

    def by_episode(self, episodes: int) -> dict[str, np.ndarray]:
        """See `Rollout.by_episode`; there is one episode."""
        success = self.success.astype(bool) & self.valid
        return {
            "return": (self.reward * self.valid).sum(0, dtype=np.float64)[None],
            "success": success.any(0)[None].astype(float),
            "last_success": (success & self.done).any(0)[None].astype(float),
        }


def play(
    env: MetaVectorEnv,
    agent: Any,
    tasks: Sequence[Task],
    generators: Any,
    *,
    name: str,
    info: bool,
    episodes: int,
    adapt_every: int,
    resets: Callable[[int], int],
    branch: Callable[[int], bool],
    device: Any = None,
) -> Iterator[Played]:
    """Play a trial, as `metarl.rollouts.trials.play_trial` does for learners.

    Args:
        env, agent, tasks: see `play_trial`; `generators` and `device` are unused, as the agent draws its own noise.
        name: the agent's name in errors.
        info: whether observations end with the previous action, reward and done.
        episodes, adapt_every, resets, branch: see `play_trial`.
    """
    agent.init()
    adapted = 0
    for e in range(episodes):
        branched = None
        if branch(e):
            try:
                copied = copy.deepcopy(agent)
            except Exception as error:
                raise UserError(f"{name}: it is copied before each episode, but cannot be: {error}") from None
            branched = _episode(env, copied, tasks, resets(e), deterministic=True, info=info)
        support = _episode(env, agent, tasks, resets(e), deterministic=False, info=info)
        yield Played(support, branched, adapted)  # type: ignore[arg-type]
        if (e + 1) % adapt_every == 0:
            agent.adapt()
            adapted += 1


def _episode(env: MetaVectorEnv, agent: Any, tasks: Sequence[Task], seed: int, *, deterministic: bool, info: bool) -> Episode:
    timestep = importlib.import_module("metaworld.evaluation").Timestep
    env.set_tasks(tasks)
    obs, _ = env.reset(seed=seed)
    added = np.hstack([x.reshape(env.num_envs, -1) for x in first_input(env, obs)[1:]])
    nothing, active, rows = added, np.ones(env.num_envs, bool), []
    if deterministic:
        agent.reset(active.copy())
    while active.any():
        seen = np.hstack([obs, added]) if info else obs
        actions, more = (agent.eval_action(seen), {}) if deterministic else agent.adapt_action(seen)
        obs, reward, terminated, truncated, outcome = env.step(actions)
        done = terminated | truncated
        if deterministic:
            agent.reset(done)
        else:
            agent.step(timestep(seen, actions, reward, terminated, truncated, more))
        rows.append((reward, outcome["success"], done, active.copy()))
        # as in Meta-World, an environment that was reset within the step shows the zeros of the new episode
        flat = actions.reshape(env.num_envs, -1)
        added = np.where(done[:, None], nothing, np.hstack([flat, reward[:, None], done[:, None]]))
        active &= ~done
    reward, success, done, valid = (np.stack(part) for part in zip(*rows))
    return Episode(reward, success, done, valid)
