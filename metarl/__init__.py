"""metarl: meta-reinforcement learning for robots, exact, fast and honest.

Importing this package imports nothing heavy; take what you need from `metarl.envs` and `metarl.agents`, and trained agents
from `metarl.load`.
"""

from pathlib import Path
from typing import TYPE_CHECKING

from metarl.moved import install

if TYPE_CHECKING:
    from metarl.learner import Agent

__version__ = "0.2.0"

install()


def load(run: Path | str, *, agent: str | None = None, device: str = "auto") -> "Agent":
    """A trained agent, ready for `initial_state`, `predict` and `adapt`: see `metarl.sharing.loading.load`."""
    from metarl.sharing.loading import load as load_run

    return load_run(run, agent=agent, device=device)
