"""`metarl.load`: load a trained agent in Python, without its environments, data or simulator."""

from pathlib import Path

from torch import nn

from metarl.learner import Agent
from metarl.runs.checkpoints import Checkpoint
from metarl.runs.directory import Run
from metarl.sharing.opening import open_run
from metarl.system.console import say
from metarl.system.devices import choose_device
from metarl.system.user_code import name_again
from metarl.training.setup import untrained


def load(run: Path | str, *, agent: str | None = None, device: str = "auto") -> Agent:
    """A trained agent or few-shot learner, ready for `begin`, `predict` and `adapt`.

    Its weights are frozen, so predictions carry no gradient for them. Still wrap loops in `torch.no_grad()`: MAML's copies
    of the weights, and their adaptation to a task, can be differentiated.

    Args:
        run: a run directory, a checkpoint's folder in one, a packed model's folder, or "pretrained:NAME".
        agent: for a run of your own agent: its file and name, PATH.py:NAME. The file is executed.
        device: auto, cpu or cuda, independent of the device in training.

    Raises:
        UserError: the run does not exist or is damaged, or it is of your own agent and `agent` is missing.
    """
    opened, named = open_run(Path(run))
    checkpoint = opened.usable(named, "loading")
    for change in name_again(checkpoint.config, agent, how=f'metarl.load("{run}", agent="FILE.py:NAME")', needed=("agent",)):
        say(f"Beware: {change}")
    return restored(opened, checkpoint, device)


def restored(run: Run, checkpoint: Checkpoint, device: str = "auto") -> Agent:
    """A run's agent, restored from a checkpoint: see `load`."""
    agent = untrained(run.experiment, choose_device(device))
    agent.load_state_dict(checkpoint.state)
    for value in vars(agent).values():
        if isinstance(value, nn.Module):
            value.requires_grad_(False)
    return agent
