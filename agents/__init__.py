"""Agents, by name. Their modules are imported only where one is used."""

from collections.abc import Mapping
from importlib import import_module
from types import MappingProxyType
from typing import Any, NamedTuple

from metarl.errors import unknown
from metarl.userfiles import is_named, lookup

ROBOTS, EXAMPLES = "metarl.robots", "metarl.fewshot.training"
"""Modules of the two kinds of training; each has OPTIONS and set_up."""


class AgentEntry(NamedTuple):
    """Where an agent is found, what it is, how it is trained, and what a step of its adaptation is called."""

    module: str
    name: str
    help: str
    training: str = ROBOTS
    adapts: str = "gradient step"


class Preset(NamedTuple):
    """Settings under a name.

    Attributes:
        settings: the agent's.
        options: what differs from the defaults of its training's options.
    """

    settings: Any
    options: Mapping[str, Any] = MappingProxyType({})


_TUNES = "fine-tuning step"
AGENTS = {
    "rl2": AgentEntry("metarl.agents.rl2", "RL2", "RL²: recurrent PPO that adapts by remembering the trial"),
    "maml-trpo": AgentEntry("metarl.agents.maml", "MAML", "MAML-TRPO: a policy that adapts by a gradient step"),
    "promp": AgentEntry("metarl.agents.maml", "MAML", "ProMP: MAML with a clipped surrogate and Adam"),
    "multitask-ppo": AgentEntry("metarl.agents.maml", "MAML", "one policy for all tasks, by PPO; it does not adapt"),
    "multitask-trpo": AgentEntry("metarl.agents.maml", "MAML", "one policy for all tasks, by TRPO; it does not adapt"),
    "sb3-ppo": AgentEntry("metarl.agents.sb3", "SB3PPO", "stable-baselines3's PPO, fine-tuned on new tasks", adapts=_TUNES),
    "sb3-sac": AgentEntry("metarl.agents.sb3_sac", "SB3SAC", "stable-baselines3's SAC, fine-tuned on new tasks", adapts=_TUNES),
    "random": AgentEntry("metarl.agents.baselines", "Random", "uniformly random actions; learns nothing"),
    "scripted": AgentEntry("metarl.agents.baselines", "Scripted", "Meta-World's expert, shown the goal; learns nothing"),
    "maml": AgentEntry("metarl.fewshot.maml", "MAML", "few-shot: a network that adapts by gradients", EXAMPLES),
    "matching": AgentEntry("metarl.fewshot.matching", "Matching", "few-shot: matching networks, by attention", EXAMPLES),
    "proto": AgentEntry("metarl.fewshot.proto", "Proto", "few-shot: prototypical networks, by class means", EXAMPLES),
    "transfer": AgentEntry("metarl.fewshot.baseline", "Transfer", "few-shot: a classifier given a new head", EXAMPLES),
    "nearest": AgentEntry("metarl.fewshot.baseline", "Nearest", "few-shot: the nearest neighbour; learns nothing", EXAMPLES),
}


def entry(name: str) -> AgentEntry:
    """What is known of an agent: of `AGENTS`, or in a Python file that the user named.

    Raises:
        UserError: no such agent.
    """
    if is_named(name):
        return import_module("metarl.agents.own").own_entry(lookup(name))
    if name not in AGENTS:
        raise unknown("agent", name, AGENTS)
    return AGENTS[name]


def adaptation_step(agent: str) -> str:
    """What a step of this agent's adaptation is called: gradient step, fine-tuning step."""
    return AGENTS[agent].adapts if agent in AGENTS else AgentEntry._field_defaults["adapts"]


def find(name: str) -> tuple[type[Any], dict[str, Preset]]:
    """The agent's class and its presets; "default" is this project's own.

    Raises:
        UserError: no such agent.
    """
    if is_named(name):
        return import_module("metarl.agents.own").own_agent(lookup(name))
    module = import_module(entry(name).module)
    return getattr(module, AGENTS[name].name), module.PRESETS[name]
