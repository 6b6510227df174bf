"""Playing with an agent that follows `metaworld.evaluation.MetaLearningAgent`."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from metarl.errors import UserError
from metarl.evaluation.upstream_agent import ADDED

VERBS = ("init", "adapt_action", "step", "adapt", "reset", "eval_action")
"""Methods of `metaworld.evaluation.MetaLearningAgent`."""


class WithoutInfo:
    """An agent that sees the bare observations where Meta-World's end with the previous action, reward and done."""

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


def checked(agent: Any, name: str) -> Any:
    """The agent.

    Raises:
        UserError: it lacks a verb.
    """
    missing = [verb for verb in VERBS if not callable(getattr(agent, verb, None))]
    if missing:
        raise UserError(
            f"{name} gives {type(agent).__name__}, which has no method {' nor '.join(missing)}: an agent has "
            f"{', '.join(VERBS)} (metaworld.evaluation.MetaLearningAgent)"
        )
    return agent


@dataclass(frozen=True)
class Episode:
    """One episode of every slot, as far as an evaluation looks at it; arrays (T, N). valid: the slot's episode went on."""

    reward: np.ndarray
    success: np.ndarray
    done: np.ndarray
    valid: np.ndarray
    prediction: None = None

    def by_episode(self, episodes: int) -> dict[str, np.ndarray]:
        """See `Rollout.by_episode`; there is one."""
        success = self.success.astype(bool) & self.valid
        return {
            "return": (self.reward * self.valid).sum(0, dtype=np.float64)[None],
            "success": success.any(0)[None].astype(float),
            "last_success": (success & self.done).any(0)[None].astype(float),
        }
