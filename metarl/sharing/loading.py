"""`metarl.load`: a trained agent in Python, without its environments, its data or a simulator."""

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
    """A trained agent, ready for `begin`, `predict` and `adapt`; of robots and few-shot learners alike.

    Its weights are frozen: what it predicts carries no gradient of theirs. Wrap loops in `torch.no_grad()` all the same:
    MAML's own copies of the weights, and what it learns on a task, can be differentiated.

    Args:
        run: a run directory, a checkpoint's folder in one, a packed model's folder, or "pretrained:NAME".
        agent: of a run of an agent of your own: its file, PATH.py:NAME, which is run.
        device: auto, cpu or cuda; whatever the agent was trained on.

    Raises:
        UserError: there is no such run, or it is damaged, or of an agent of your own whose file is not named.
    """
    opened, named = open_run(Path(run))
    checkpoint = opened.usable(named, "loading")
    for change in name_again(checkpoint.config, agent, how=f'metarl.load("{run}", agent="FILE.py:NAME")', needed=("agent",)):
        say(f"Beware: {change}")
    return restored(opened, checkpoint, device)


def restored(run: Run, checkpoint: Checkpoint, device: str = "auto") -> Agent:
    """A run's agent as it was at a checkpoint: see `load`."""
    agent = untrained(run.config, choose_device(device))
    agent.load_state_dict(checkpoint.state)
    for part in vars(agent).values():
        if isinstance(part, nn.Module):
            part.requires_grad_(False)
    return agent
