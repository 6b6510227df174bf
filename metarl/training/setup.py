"""Turn an experiment into its agent and source. Only this module chooses the set-up by the kind of training."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

import torch

from metarl.agents import CONTROL, FEW_SHOT
from metarl.errors import UserError
from metarl.learner import Agent
from metarl.runs.checkpoints import Checkpoint
from metarl.runs.directory import Run
from metarl.runs.experiment import Experiment
from metarl.runs.io_spec import IoSpec
from metarl.training.agents import create_from
from metarl.training.loop import Training

if TYPE_CHECKING:
    from metarl.training import control, fewshot


_MODULES = {CONTROL: "metarl.training.control", FEW_SHOT: "metarl.training.fewshot"}
"""The module of each kind of training, with `set_up`. Only the one needed is imported."""


def set_up(experiment: Experiment) -> Training:
    """Create the untrained agent and the source of an experiment."""
    return import_module(_MODULES[experiment.training]).set_up(experiment)


def trained_control(run: Run, checkpoint: Checkpoint, **changed: Any) -> "control.Setup":
    """A run's suite and its agent, restored from a checkpoint; the environments are closed.

    Args:
        changed: options that replace the run's.

    Raises:
        UserError: the run's agent was not trained on environments.
    """
    from metarl.training import control

    if run.experiment.training != CONTROL:
        raise UserError(f"{run.path} was trained on {run.experiment.suite}, which has no robots")
    acting = getattr(run.experiment.options, "acting", "auto")  # another engine may not allow what training asked for
    changed["acting"] = "auto" if acting == "compiled" else acting
    setup = control.set_up(run.experiment.changed(**changed), num_envs=1)
    setup.close()
    setup.agent.load_state_dict(checkpoint.state)
    return setup


def trained_few_shot(run: Run, checkpoint: Checkpoint, ways: int | None = None, **changed: Any) -> "fewshot.Setup":
    """A run's data and its learner, restored from a checkpoint.

    Args:
        ways: number of classes per episode; default: as in training.
        changed: options that replace the run's.

    Raises:
        UserError: the run is not a few-shot run, or its learner cannot change the number of ways.
    """
    from metarl.training import fewshot

    if run.experiment.training != FEW_SHOT:
        raise UserError(f"{run.path} is a run of robots, not of a few-shot learner")
    setup = fewshot.set_up(run.experiment.changed(**changed))
    setup.agent.load_state_dict(checkpoint.state)
    if ways is not None and ways != setup.agent.ways:
        if not setup.agent.any_ways:
            raise UserError(
                f"{run.experiment.agent} was trained with {setup.agent.ways} ways, and its head takes no other number"
            )
        setup.agent.ways = ways
    return setup


def io_spec_of(experiment: Experiment) -> IoSpec:
    """The agent's inputs and outputs; runs of early versions do not record them, so their training is set up for this."""
    if experiment.io_spec is not None:
        return experiment.io_spec
    alone = {"num_envs": 1} if experiment.training == CONTROL else {}
    setup = set_up(experiment.changed(device="cpu", **alone))
    setup.close()
    return setup.io_spec()


def untrained(experiment: Experiment, device: torch.device) -> Agent:
    """An experiment's agent with initial weights, built without environments or data.

    Raises:
        UserError: the recorded inputs and outputs do not fit the agent.
    """
    return create_from(io_spec_of(experiment), experiment, device)
