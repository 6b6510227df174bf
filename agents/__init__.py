"""The table of agents by name. An agent's module is imported only when that agent is used."""

from collections.abc import Mapping
from importlib import import_module
from types import MappingProxyType
from typing import Any, NamedTuple

from metarl.errors import unknown
from metarl.system.user_code import is_named, lookup

CONTROL, FEW_SHOT = "control", "few-shot"
"""The two kinds of training: on environments and on data sets. See `metarl.training.setup`."""


class AgentEntry(NamedTuple):
    """An agent's module, class name, one-line help, kind of training, and the name of one step of its adaptation."""

    module: str
    name: str
    help: str
    training: str = CONTROL
    adaptation_step: str = "gradient step"


class Preset(NamedTuple):
    """A named set of settings.

    Attributes:
        settings: the agent's settings.
        options: training options that replace the defaults.
    """

    settings: Any
    options: Mapping[str, Any] = MappingProxyType({})


_FINE_TUNING = "fine-tuning step"
AGENTS = {
    "rl2": AgentEntry("metarl.agents.rl2", "RL2", "RL²: recurrent PPO that adapts by remembering the trial"),
    "maml-trpo": AgentEntry("metarl.agents.maml.agent", "MAML", "MAML-TRPO: a policy that adapts by a gradient step"),
    "promp": AgentEntry("metarl.agents.maml.agent", "MAML", "ProMP: MAML with a clipped surrogate and Adam"),
    "multitask-ppo": AgentEntry("metarl.agents.maml.agent", "MAML", "one policy for all tasks, by PPO; it does not adapt"),
    "multitask-trpo": AgentEntry("metarl.agents.maml.agent", "MAML", "one policy for all tasks, by TRPO; it does not adapt"),
    "sb3-ppo": AgentEntry(
        "metarl.agents.sb3.base", "SB3PPO", "stable-baselines3's PPO, fine-tuned on new tasks", adaptation_step=_FINE_TUNING
    ),
    "sb3-sac": AgentEntry(
        "metarl.agents.sb3.sac", "SB3SAC", "stable-baselines3's SAC, fine-tuned on new tasks", adaptation_step=_FINE_TUNING
    ),
    "random": AgentEntry("metarl.agents.baselines", "Random", "uniformly random actions; learns nothing"),
    "scripted": AgentEntry("metarl.agents.baselines", "Scripted", "Meta-World's expert, shown the goal; learns nothing"),
    "maml": AgentEntry("metarl.agents.fewshot.maml", "MAML", "few-shot: a network that adapts by gradients", FEW_SHOT),
    "matching": AgentEntry("metarl.agents.fewshot.matching", "Matching", "few-shot: matching networks, by attention", FEW_SHOT),
    "proto": AgentEntry("metarl.agents.fewshot.proto", "Proto", "few-shot: prototypical networks, by class means", FEW_SHOT),
    "transfer": AgentEntry("metarl.agents.fewshot.baselines", "Transfer", "few-shot: a classifier given a new head", FEW_SHOT),
    "nearest": AgentEntry(
        "metarl.agents.fewshot.baselines", "Nearest", "few-shot: the nearest neighbour; learns nothing", FEW_SHOT
    ),
}


def entry(name: str) -> AgentEntry:
    """The entry of an agent in `AGENTS`, or one made for an agent in a user's Python file.

    Raises:
        UserError: no such agent.
    """
    if is_named(name):
        return import_module("metarl.agents.user_defined").user_entry(lookup(name))
    if name not in AGENTS:
        raise unknown("agent", name, AGENTS)
    return AGENTS[name]


def adaptation_step(agent: str) -> str:
    """The name of one step of this agent's adaptation: gradient step or fine-tuning step."""
    return AGENTS[agent].adaptation_step if agent in AGENTS else AgentEntry._field_defaults["adaptation_step"]


def find(name: str) -> tuple[type[Any], dict[str, Preset]]:
    """The agent's class and its presets by name; "default" holds this project's settings.

    Raises:
        UserError: no such agent.
    """
    if is_named(name):
        return import_module("metarl.agents.user_defined").user_agent(lookup(name))
    module = import_module(entry(name).module)
    return getattr(module, AGENTS[name].name), module.PRESETS[name]
