"""Agents of the user's own: a class in a Python file, checked before anything is trained."""

import inspect
import json
from dataclasses import asdict, fields, is_dataclass
from importlib import import_module
from typing import Any

from metarl.agents import EXAMPLES, ROBOTS, AgentEntry, Preset
from metarl.errors import UserError
from metarl.learner import Agent
from metarl.userfiles import UserFile

TRAININGS = {"robots": ROBOTS, "examples": EXAMPLES}
VERBS = {
    "begin": "begin(num_tasks)", "predict": "predict(state, query)", "update": "update(batches, iteration)",
    "state_dict": "state_dict()", "load_state_dict": "load_state_dict(state)",
}  # fmt: skip
"""What an agent must be able to do; what else it may do has a default in `metarl.learner.Agent`."""
_CALLS: dict[str, tuple[str, int, tuple[str, ...]]] = {
    "robots": ("(settings, observation_space, action_space, scale, *, seed, device, total_iterations)", 4,
               ("seed", "device", "total_iterations")),
    "examples": ("(settings, kind, *, seed, device, classes, total_updates)", 2,
                 ("seed", "device", "classes", "total_updates")),
}  # fmt: skip


def own_entry(file: UserFile) -> AgentEntry:
    """What `metarl.agents.AGENTS` would say of it."""
    agent, _ = own_agent(file)
    help_of = (inspect.getdoc(agent) or "an agent of your own").splitlines()[0].rstrip(".")
    return AgentEntry(str(file.path), agent.__name__, help_of, TRAININGS[getattr(agent, "training", "robots")])


def own_agent(file: UserFile) -> tuple[type[Agent], dict[str, Preset]]:
    """The class that a name in a Python file stands for, and its presets.

    The class is an `Agent` with an attribute `Settings`, a frozen dataclass whose fields have defaults, or `PRESETS`, a dict
    of `Preset`s with one called "default". It may have `options`, what differs from the defaults of its training's options,
    and `training`: "robots" (the default) or "examples" (few-shot).

    Raises:
        UserError: something of this is missing, and what.
    """
    label, agent = file.label, file.value
    if not inspect.isclass(agent):
        raise UserError(f"{label} is {type(agent).__name__}, not a class: an agent is a subclass of metarl.learner.Agent")
    missing = [form for verb, form in VERBS.items() if _lacks(agent, verb)]
    if missing:
        raise UserError(f"{label} lacks {', '.join(missing)}: see metarl.learner.Agent")
    if not issubclass(agent, Agent):
        raise UserError(f"{label} must be a subclass of metarl.learner.Agent, which gives it the rest of the verbs")
    for verb, form in VERBS.items():
        function = inspect.getattr_static(agent, verb)
        given = [None] * (form.count(",") + (not form.endswith("()")) + inspect.isfunction(function))  # and self
        try:
            inspect.signature(getattr(agent, verb)).bind(*given)
        except ValueError:  # a signature that Python does not know
            pass
        except TypeError as error:
            raise UserError(f"{label}: it is called as {form}: {error}") from None
    training = getattr(agent, "training", "robots")
    if training not in TRAININGS:
        raise UserError(f"{label}: training must be {' or '.join(map(repr, TRAININGS))}, not {training!r}")
    presets = getattr(agent, "PRESETS", None)
    if presets is None:
        presets = {"default": _default(label, agent)}
    if not isinstance(presets, dict) or "default" not in presets or not all(isinstance(p, Preset) for p in presets.values()):
        raise UserError(f'{label}: PRESETS is a dict of metarl.agents.Preset, one of them called "default"')
    for preset in presets.values():
        _check_settings(label, preset, import_module(TRAININGS[training]).OPTIONS)
    form, positional, keywords = _CALLS[training]
    try:
        inspect.signature(agent).bind(*[None] * positional, **dict.fromkeys(keywords))
    except TypeError as error:
        raise UserError(f"{label} cannot be made: {error}. An agent is called with {form}") from None
    return agent, presets


def _lacks(agent: type, verb: str) -> bool:
    own = getattr(agent, verb, None)
    if verb == "update" and getattr(agent, "iterate", Agent.iterate) is not Agent.iterate:
        return False  # a loop of its own updates as it likes
    return own is None or own is getattr(Agent, verb)


def _default(label: str, agent: Any) -> Preset:
    settings = getattr(agent, "Settings", None)
    if not inspect.isclass(settings) or not is_dataclass(settings):
        raise UserError(f"{label} needs an attribute Settings, a frozen dataclass of its settings (it may be empty)")
    try:
        return Preset(settings(), getattr(agent, "options", {}))
    except TypeError as error:
        raise UserError(f"{label}: every setting needs a default: {error}") from None


def _check_settings(label: str, preset: Preset, options: Any) -> None:
    known = {field.name for field in fields(options)} | {"suite", "resume"}
    if not is_dataclass(preset.settings) or isinstance(preset.settings, type):
        raise UserError(f"{label}: settings are an object of a dataclass, not {type(preset.settings).__name__}")
    taken = sorted(known & {field.name for field in fields(preset.settings)})
    if taken:
        raise UserError(f"{label}: {', '.join(taken)} is an option of every training already: give the setting another name")
    unknown = sorted(preset.options.keys() - known)
    if unknown:
        raise UserError(f"{label}: {', '.join(unknown)} is no option of its training")
    try:
        json.dumps(asdict(preset.settings))
    except TypeError as error:
        raise UserError(f"{label}: settings are numbers, strings, None and tuples of them: {error}") from None
