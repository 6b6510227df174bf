"""Create the agent of an experiment, with initial weights."""

from typing import Any

import gymnasium
import torch

from metarl.agents import CONTROL, find
from metarl.agents.fewshot.base import FewShot
from metarl.agents.fewshot.networks import Kind
from metarl.errors import UserError
from metarl.learner import Agent
from metarl.nn.input_scaling import InputScale
from metarl.runs.experiment import Experiment
from metarl.runs.io_spec import IoSpec, examples, spaces


def create_agent(
    experiment: Experiment,
    observation_space: gymnasium.Space[Any],
    action_space: gymnasium.Space[Any],
    scale: InputScale | None,
    device: torch.device,
) -> Agent:
    """Create an agent that acts in environments with these spaces and this input scale, see `MetaVectorEnv`."""
    agent_class, _ = find(experiment.agent)
    return agent_class(
        experiment.settings,
        observation_space,
        action_space,
        scale,
        seed=experiment.options.seed,
        device=device,
        total_iterations=experiment.options.iterations,
    )


def create_learner(experiment: Experiment, kind: Kind, classes: int, device: torch.device) -> FewShot:
    """Create a few-shot learner of examples of this kind, from a data set with so many train classes."""
    learner_class, _ = find(experiment.agent)
    return learner_class(
        experiment.settings,
        kind,
        seed=experiment.options.seed,
        device=device,
        classes=classes,
        total_updates=experiment.options.total_steps,
    )


def create_from(io_spec: IoSpec, experiment: Experiment, device: torch.device) -> Agent:
    """Create an agent or learner with these inputs and outputs, without environments or data.

    Raises:
        UserError: the description of inputs and outputs does not fit the agent.
    """
    if experiment.training != CONTROL:
        try:
            return create_learner(experiment, *examples(io_spec), device)
        except (TypeError, ValueError, IndexError) as error:
            raise UserError(f"the learner's io_spec is damaged: {error}") from None
    observations, actions = spaces(io_spec)
    n, fixed = observations.shape[0], io_spec.get("input_scale") == "fixed"
    scale = InputScale((0.0,) * n, (1.0,) * n, 0.0, 1.0) if fixed else None  # placeholders: the weights bring the real numbers
    return create_agent(experiment, observations, actions, scale, device)
