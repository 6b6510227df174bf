"""An agent's inputs and outputs in config.json: enough to load the agent without its environments or data.

Agents on environments: {"observations": 39, "actions": {"low": [...], "high": [...]}, "input_scale": "fixed" or "running"},
with null for a missing bound. Discrete actions: {"choices": n}, with "start" if their numbers do not start at 0. Few-shot
learners: {"kind": "image", "shape": [1, 28, 28], "outputs": 5, "classes": 4112}.
"""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np

from metarl.errors import UserError
from metarl.nn.input_scaling import InputScale
from metarl.nn.spaces import box_bounds, observation_size

Interface = dict[str, Any]
_MOST = 2**20
"""Largest number of entries of an observation or an action: a guard against damaged files."""


def described(observations: gymnasium.Space[Any], actions: gymnasium.Space[Any], scale: InputScale | None) -> Interface:
    """The interface of an agent on environments, from its environment's spaces; scale: None if it keeps running statistics."""
    scaled = "running" if scale is None else "fixed"
    if isinstance(actions, gymnasium.spaces.Discrete):
        kind: dict[str, Any] = {"choices": int(actions.n)} | ({"start": int(actions.start)} if actions.start else {})
    else:
        assert isinstance(actions, gymnasium.spaces.Box)
        low, high, _ = box_bounds(actions)
        kind = {
            key: [bound if math.isfinite(bound) else None for bound in bounds.tolist()]
            for key, bounds in (("low", low), ("high", high))
        }
    return {"observations": observation_size(observations), "actions": kind, "input_scale": scaled}


def suite_name(config: dict[str, Any]) -> str:
    """The suite's name without its folder on this machine."""
    kind, _, place = config["suite"].partition(":")
    return f"{kind}:{Path(place).name}" if kind in ("folder", "csv") else config["suite"]


def encoder_name(options: Mapping[str, Any]) -> str | None:
    """The sentence encoder in a run's options, without its folder on this machine; None: there is none."""
    name = options.get("sentence_encoder")
    return Path(name).name if name is not None and Path(name).expanduser().is_absolute() else name


def spaces(interface: Interface) -> tuple[gymnasium.spaces.Box, gymnasium.spaces.Box | gymnasium.spaces.Discrete]:
    """Observation space (without bounds) and action space of an agent on environments.

    Raises:
        UserError: the interface does not describe valid spaces.
    """
    try:
        size, actions = interface["observations"], interface["actions"]
        entries = actions["choices"] if "choices" in actions else len(actions["low"])
        if any(type(count) is not int or not 1 <= count <= _MOST for count in (size, entries)):
            raise ValueError("invalid size")
        observations = gymnasium.spaces.Box(-np.inf, np.inf, (size,), np.float64)
        if "choices" in actions:
            return observations, gymnasium.spaces.Discrete(entries, start=int(actions.get("start", 0)))
        low, high = (
            np.array([none if bound is None else bound for bound in actions[key]], np.float32)
            for key, none in (("low", -np.inf), ("high", np.inf))
        )
        if low.ndim != 1 or low.shape != high.shape or not (low <= high).all():
            raise ValueError("invalid bounds")
        return observations, gymnasium.spaces.Box(low, high, dtype=np.float32)
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise UserError(f"the agent's interface is damaged: {error}") from None
