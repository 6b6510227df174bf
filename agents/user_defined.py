"""Load an agent class from a user's Python file and check it before training starts."""

import inspect
import json
import logging
from collections.abc import Mapping
from dataclasses import asdict, is_dataclass
from functools import update_wrapper
from typing import Any

import numpy as np
from torch import Tensor

from metarl.agents import CONTROL, FEW_SHOT, AgentEntry, Preset
from metarl.errors import UserError
from metarl.learner import Agent, Metrics, Source, State
from metarl.system.user_code import UserFile

log = logging.getLogger("metarl")

TRAININGS = {"robots": CONTROL, "examples": FEW_SHOT}
VERBS = {
    "initial_state": "initial_state(num_tasks)",
    "predict": "predict(state, query)",
    "update": "update(batches, iteration)",
    "state_dict": "state_dict()",
    "load_state_dict": "load_state_dict(state)",
}
"""Methods that an agent must define; all others have a default in `metarl.learner.Agent`."""
_DISTRIBUTION = ("sample", "mode", "log_prob", "stack")
"""Methods of a distribution over actions."""
_CONSTRUCTORS: dict[str, tuple[str, int, tuple[str, ...]]] = {
    "robots": (
        "(settings, observation_space, action_space, scale, *, seed, device, total_iterations)",
        4,
        ("seed", "device", "total_iterations"),
    ),
    "examples": (
        "(settings, kind, *, seed, device, classes, total_updates)",
        2,
        ("seed", "device", "classes", "total_updates"),
    ),
}


def user_entry(file: UserFile) -> AgentEntry:
    """The agent's entry, as `metarl.agents.AGENTS` would hold it."""
    agent, _ = user_agent(file)
    help_text = (inspect.getdoc(agent) or "your own agent").splitlines()[0].rstrip(".")
    return AgentEntry(str(file.path), agent.__name__, help_text, TRAININGS[getattr(agent, "training", "robots")])


def user_agent(file: UserFile) -> tuple[type[Agent], dict[str, Preset]]:
    """The agent class that the user named in a Python file, and its presets.

    The class is a subclass of `Agent` with an attribute `Settings`, a frozen dataclass whose fields have defaults, or
    `PRESETS`, a dict of `Preset`s with one called "default". It may define `options`, training options that replace the
    defaults, and `training`: "robots" (the default) or "examples" (few-shot).

    Raises:
        UserError: the class does not meet these requirements; the message says which.
    """
    label, agent = file.label, file.value
    if not inspect.isclass(agent):
        raise UserError(f"{label} is {type(agent).__name__}, not a class: an agent is a subclass of metarl.learner.Agent")
    if _lacks(agent, "initial_state") and getattr(agent, "begin", Agent.begin) is not Agent.begin:  # as in version 0.2
        log.info("%s: begin is now called initial_state", label)
        setattr(agent, "initial_state", agent.begin)  # type: ignore[attr-defined]  # noqa: B010
    missing = [signature for verb, signature in VERBS.items() if _lacks(agent, verb)]
    if missing:
        raise UserError(f"{label} lacks {', '.join(missing)}: see metarl.learner.Agent")
    if not issubclass(agent, Agent):
        raise UserError(f"{label} must be a subclass of metarl.learner.Agent, which provides the other methods")
    for verb, signature in VERBS.items():
        function = inspect.getattr_static(agent, verb)
        arguments = [None] * (signature.count(",") + (not signature.endswith("()")) + inspect.isfunction(function))  # and self
        try:
            inspect.signature(getattr(agent, verb)).bind(*arguments)
        except ValueError:  # Python cannot read the signature
            pass
        except TypeError as error:
            raise UserError(f"{label}: it must be callable as {signature}: {error}") from None
    training = getattr(agent, "training", "robots")
    if training not in TRAININGS:
        raise UserError(f"{label}: training must be {' or '.join(map(repr, TRAININGS))}, not {training!r}")
    presets = getattr(agent, "PRESETS", None)
    if presets is None:
        presets = {"default": _default(label, agent)}
    if not isinstance(presets, dict) or "default" not in presets or not all(isinstance(p, Preset) for p in presets.values()):
        raise UserError(f'{label}: PRESETS must be a dict of metarl.agents.Preset, one of them called "default"')
    for preset in presets.values():
        _check_settings(label, preset)
    signature, positional, keywords = _CONSTRUCTORS[training]
    try:
        inspect.signature(agent).bind(*[None] * positional, **dict.fromkeys(keywords))
    except TypeError as error:
        raise UserError(f"{label} cannot be made: {error}. An agent is called with {signature}") from None
    return _checked(agent, label, TRAININGS[training] == CONTROL), presets


def _checked(agent: Any, label: str, is_control: bool) -> type[Agent]:
    """A subclass that checks return values, so that a wrong one is reported by name instead of failing in its caller."""

    class Checked(agent):
        def predict(self, state: State, query: Any) -> tuple[Any, State]:
            result = super().predict(state, query)
            if not isinstance(result, tuple) or len(result) != 2:
                raise UserError(f"{label}: predict must return a prediction and the state, not {type(result).__name__}")
            if is_control and not all(hasattr(type(result[0]), name) for name in _DISTRIBUTION):
                expected = f"one of metarl.nn.policies, or an object with {', '.join(_DISTRIBUTION)}"
                raise UserError(f"{label}: predict must give a distribution ({expected}), not {type(result[0]).__name__}")
            return result

        def iterate(self, source: Source, iteration: int) -> Metrics:
            metrics = super().iterate(source, iteration)
            if not isinstance(metrics, Mapping):
                raise UserError(f"{label}: update must return a dict of metrics, not {type(metrics).__name__}")
            return {str(name): _number(f"{label}: the metric {name!r}", value) for name, value in metrics.items()}

        def state_dict(self) -> dict[str, Any]:
            state = super().state_dict()
            if not isinstance(state, dict):
                raise UserError(f"{label}: state_dict must return a dict, not {type(state).__name__}")
            _check_state(f"{label}: state_dict", state)
            return state

    return update_wrapper(Checked, agent, updated=())  # type: ignore[return-value]


def _number(label: str, value: Any) -> int | float:
    """The value as a Python number; it may be a tensor or an array of one entry."""
    size = value.numel() if isinstance(value, Tensor) else np.size(value)
    number = value.item() if size == 1 and hasattr(value, "item") else value
    if not isinstance(number, int | float):
        raise UserError(f"{label} must be a number, not {type(value).__name__}")
    return number


def _check_state(label: str, state: Any) -> None:
    """Raise UserError if a checkpoint cannot hold this state."""
    if isinstance(state, dict):
        for key, value in state.items():
            if not isinstance(key, str) or "/" in key:
                raise UserError(f"{label}: keys are strings without a slash, not {key!r}")
            _check_state(f"{label}[{key!r}]", value)
    elif not isinstance(state, Tensor):
        try:
            json.dumps(state)
        except (TypeError, ValueError):
            raise UserError(f"{label} must hold tensors and JSON values, in nested dicts, not {type(state).__name__}") from None


def _lacks(agent: type, verb: str) -> bool:
    definition = getattr(agent, verb, None)
    if verb == "update" and getattr(agent, "iterate", Agent.iterate) is not Agent.iterate:
        return False  # it overrides `iterate` and need not call `update`
    return definition is None or definition is getattr(Agent, verb)


def _default(label: str, agent: Any) -> Preset:
    settings = getattr(agent, "Settings", None)
    if not inspect.isclass(settings) or not is_dataclass(settings):
        raise UserError(f"{label} needs an attribute Settings, a frozen dataclass of its settings (it may be empty)")
    try:
        return Preset(settings(), getattr(agent, "options", {}))
    except TypeError as error:
        raise UserError(f"{label}: every setting needs a default: {error}") from None


def _check_settings(label: str, preset: Preset) -> None:
    if not is_dataclass(preset.settings) or isinstance(preset.settings, type):
        raise UserError(f"{label}: settings must be an instance of a dataclass, not {type(preset.settings).__name__}")
    try:
        json.dumps(asdict(preset.settings))
    except TypeError as error:
        raise UserError(f"{label}: settings must be numbers, strings, None or tuples of them: {error}") from None
