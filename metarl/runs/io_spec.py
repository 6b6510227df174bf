"""An agent's inputs and outputs, as config.json holds them: enough to load the agent without its environments or data.

Agents on environments: {"observations": 39, "actions": {"low": [...], "high": [...]}, "input_scale": "fixed" or "running"},
with null for a missing bound. Discrete actions: {"choices": n}, with "start" if their numbers do not start at 0. Few-shot
learners: {"kind": "image", "shape": [1, 28, 28], "outputs": 5, "classes": 4112}.
"""

import math
from typing import Any, TypedDict

import gymnasium
import numpy as np

from metarl.agents.fewshot.networks import Kind
from metarl.errors import UserError
from metarl.nn.input_scaling import InputScale
from metarl.nn.spaces import box_bounds, observation_size
from metarl.system.json_types import convert

IoSpec = dict[str, Any]
_MOST = 2**20
"""Largest number of entries of an observation or an action: a guard against damaged files."""


class _Examples(TypedDict):
    """The inputs and outputs of a few-shot learner."""

    kind: str
    shape: tuple[int, ...]
    outputs: int
    classes: int


def of_spaces(observations: gymnasium.Space[Any], actions: gymnasium.Space[Any], scale: InputScale | None) -> IoSpec:
    """Describe an agent on environments by its environment's spaces; scale: None if the agent keeps running statistics."""
    if isinstance(actions, gymnasium.spaces.Discrete):
        entries: dict[str, Any] = {"choices": int(actions.n)} | ({"start": int(actions.start)} if actions.start else {})
    else:
        assert isinstance(actions, gymnasium.spaces.Box)
        low, high, _ = box_bounds(actions)
        entries = {
            key: [bound if math.isfinite(bound) else None for bound in bounds.tolist()]
            for key, bounds in (("low", low), ("high", high))
        }
    input_scale = "running" if scale is None else "fixed"
    return {"observations": observation_size(observations), "actions": entries, "input_scale": input_scale}


def of_examples(kind: Kind, classes: int) -> IoSpec:
    """Describe a few-shot learner by the kind of its examples and the number of train classes."""
    return {"kind": kind.name, "shape": list(kind.shape), "outputs": kind.outputs, "classes": classes}


def examples(io_spec: IoSpec) -> tuple[Kind, int]:
    """The kind of a few-shot learner's examples, and the number of train classes.

    Raises:
        ValueError: the description is not one of a few-shot learner.
    """
    spec = convert(io_spec, _Examples, "io_spec")
    return Kind(spec["kind"], spec["shape"], spec["outputs"]), spec["classes"]


def spaces(io_spec: IoSpec) -> tuple[gymnasium.spaces.Box, gymnasium.spaces.Box | gymnasium.spaces.Discrete]:
    """Observation space (without bounds) and action space of an agent on environments.

    Raises:
        UserError: the description is not one of valid spaces.
    """
    try:
        size, actions = io_spec["observations"], io_spec["actions"]
        entries = actions["choices"] if "choices" in actions else len(actions["low"])
        if any(type(count) is not int or not 1 <= count <= _MOST for count in (size, entries)):
            raise ValueError("invalid size")
        observations = gymnasium.spaces.Box(-np.inf, np.inf, (size,), np.float64)
        if "choices" in actions:
            return observations, gymnasium.spaces.Discrete(entries, start=int(actions.get("start", 0)))
        low, high = (
            np.array([unbounded if bound is None else bound for bound in actions[key]], np.float32)
            for key, unbounded in (("low", -np.inf), ("high", np.inf))
        )
        if low.ndim != 1 or low.shape != high.shape or not (low <= high).all():
            raise ValueError("invalid bounds")
        return observations, gymnasium.spaces.Box(low, high, dtype=np.float32)
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise UserError(f"the agent's io_spec is damaged: {error}") from None
