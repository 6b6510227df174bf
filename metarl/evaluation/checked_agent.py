"""Wraps a user's agent for evaluation: checks its answers and attributes its errors to it."""

import copy
from typing import Any

import numpy as np
import torch

from metarl.errors import UserError
from metarl.system.user_code import telling


class CheckedAgent:
    """Forwards calls to the user's agent and checks what it returns; lists and tensors of actions become arrays.

    Args:
        agent: follows `metaworld.evaluation.MetaLearningAgent`.
        label: the user's name for it.
        env: gives the number of environments and the action space.
    """

    def __init__(self, agent: Any, label: str, env: Any) -> None:
        self.agent, self.label, self.env = agent, label, env

    def __deepcopy__(self, memo: Any) -> "CheckedAgent":
        return CheckedAgent(copy.deepcopy(self.agent, memo), self.label, self.env)

    def _ask(self, verb: str, *arguments: Any) -> Any:
        with telling(f"{self.label}: {verb}"):
            return getattr(self.agent, verb)(*arguments)

    def init(self) -> None:
        """See `metaworld.evaluation.MetaLearningAgent`."""
        self._ask("init")

    def adapt_action(self, observations: np.ndarray) -> tuple[np.ndarray, dict[str, np.ndarray]]:
        """Actions of all environments, and the agent's dict of further outputs."""
        answer = self._ask("adapt_action", observations)
        if not isinstance(answer, tuple) or len(answer) != 2 or not isinstance(answer[1], dict):
            raise UserError(f"{self.label}: adapt_action must return (actions, a dict), not {type(answer).__name__}")
        return self._actions("adapt_action", answer[0]), answer[1]

    def eval_action(self, observations: np.ndarray) -> np.ndarray:
        """Actions of all environments."""
        return self._actions("eval_action", self._ask("eval_action", observations))

    def step(self, timestep: Any) -> None:
        """See `metaworld.evaluation.MetaLearningAgent`."""
        self._ask("step", timestep)

    def adapt(self) -> None:
        """See `metaworld.evaluation.MetaLearningAgent`."""
        self._ask("adapt")

    def reset(self, env_mask: np.ndarray) -> None:
        """See `metaworld.evaluation.Agent`."""
        self._ask("reset", env_mask)

    def _actions(self, verb: str, answer: Any) -> np.ndarray:
        wanted = (self.env.num_envs, *self.env.single_action_space.shape)
        with telling(f"{self.label}: {verb} must return an array; its result"):
            actions = _array(answer)
        if actions.shape != wanted or actions.dtype.kind not in "fiub":
            are = f"have shape {actions.shape}" if actions.dtype.kind in "fiub" else f"are {actions.dtype}"
            raise UserError(f"{self.label}: {verb}: actions must be finite and of shape {wanted}; these {are}")
        bad = np.argwhere(~np.isfinite(actions))
        if len(bad):
            env_id, entry = bad[0]
            more = f" ({len(bad)} entries of {actions.size} are not finite)" if len(bad) > 1 else ""
            raise UserError(
                f"{self.label}: {verb}: actions must be finite: "
                f"entry {entry} of environment {env_id} is {actions[env_id, entry]}{more}"
            )
        return actions


def _array(value: Any) -> np.ndarray:
    """Convert numbers, tensors (any device, with or without gradients) and nested lists of them to an array."""
    if isinstance(value, torch.Tensor):
        narrow = value.is_floating_point() and value.element_size() < 4  # numpy has no bfloat16
        return (value.float() if narrow else value).detach().cpu().numpy()
    return np.asarray([_array(each) for each in value] if isinstance(value, list | tuple) else value)
