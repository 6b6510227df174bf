"""Agents, by name. Their modules are imported only where one is used."""

from importlib import import_module
from typing import Any, NamedTuple

from metarl.errors import unknown


class AgentEntry(NamedTuple):
    """Where an agent is found, and what it is."""

    module: str
    name: str
    settings: str
    help: str


AGENTS = {
    "rl2": AgentEntry("metarl.agents.rl2", "RL2", "RL2Settings", "RL²: recurrent PPO that adapts by remembering the trial"),
}


def find(name: str) -> tuple[type[Any], type[Any], dict[str, Any]]:
    """The agent's class, its settings' class and its presets (settings by name).

    Raises:
        UserError: no such agent.
    """
    if name not in AGENTS:
        raise unknown("agent", name, AGENTS)
    entry = AGENTS[name]
    module = import_module(entry.module)
    return getattr(module, entry.name), getattr(module, entry.settings), module.PRESETS
