"""What an agent is built for, as config.json keeps it: enough to load it without its environments or its data.

On robots: {"observations": 39, "actions": {"low": [...], "high": [...]}, "input_scale": "fixed" or "running"}, null where there
is no bound; discrete actions {"choices": n}, and "start" where the environment's numbers do not begin with 0. Of few-shot
learners: {"kind": "image", "shape": [1, 28, 28], "outputs": 5, "classes": 4112}.
"""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import torch

from metarl.agents import ROBOTS, entry, find
from metarl.config import read_config, set_up
from metarl.envs.scales import InputScale
from metarl.errors import UserError
from metarl.learner import Agent
from metarl.spaces import box_bounds, observation_size

Interface = dict[str, Any]
_MOST = 2**20
"""Entries of an observation or an action, at most: a guard against nonsense in files."""


def described(
    observations: gymnasium.Space[Any], actions: gymnasium.Space[Any], scale: InputScale | None
) -> Interface:  # fmt: skip
    """The interface of an agent that acts: of one slot; scale: None where the agent keeps running statistics."""
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


def interface_of(config: dict[str, Any]) -> Interface:
    """The interface that config.json holds; of runs made before it did, that of what they train on, which is made for it."""
    if "interface" not in config:
        setup = set_up(config, device="cpu", **({"num_envs": 1} if entry(config["agent"]).training == ROBOTS else {}))
        setup.close()
        return setup.interface()
    return config["interface"]


def suite_name(config: dict[str, Any]) -> str:
    """The suite without where on this machine it lies."""
    kind, _, place = config["suite"].partition(":")
    return f"{kind}:{Path(place).name}" if kind in ("folder", "csv") else config["suite"]


def encoder_name(options: Mapping[str, Any]) -> str | None:
    """The sentence encoder that a run's options name, without where on this machine it lies; None: there is none."""
    name = options.get("sentence_encoder")
    return Path(name).name if name is not None and Path(name).expanduser().is_absolute() else name


def spaces(interface: Interface) -> tuple[gymnasium.spaces.Box, gymnasium.spaces.Box | gymnasium.spaces.Discrete]:
    """Observation space (without bounds) and action space of an agent that acts.

    Raises:
        UserError: these are none.
    """
    try:
        size, actions = interface["observations"], interface["actions"]
        entries = actions["choices"] if "choices" in actions else len(actions["low"])
        if any(type(count) is not int or not 1 <= count <= _MOST for count in (size, entries)):
            raise ValueError("a size that is no size")
        observations = gymnasium.spaces.Box(-np.inf, np.inf, (size,), np.float64)
        if "choices" in actions:
            return observations, gymnasium.spaces.Discrete(entries, start=int(actions.get("start", 0)))
        low, high = (
            np.array([none if bound is None else bound for bound in actions[key]], np.float32)
            for key, none in (("low", -np.inf), ("high", np.inf))
        )
        if low.ndim != 1 or low.shape != high.shape or not (low <= high).all():
            raise ValueError("bounds that are none")
        return observations, gymnasium.spaces.Box(low, high, dtype=np.float32)
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise UserError(f"the agent's interface is damaged: {error}") from None


def untrained(config: dict[str, Any], device: torch.device) -> Agent:
    """The agent of a configuration with its first weights, from its interface alone.

    Raises:
        UserError: the configuration does not fit this version.
    """
    interface = interface_of(config)
    settings, options = read_config(config)
    agent_class, _ = find(config["agent"])
    if entry(config["agent"]).training != ROBOTS:
        from metarl.fewshot.networks import Kind

        try:
            kind = Kind(interface["kind"], tuple(map(int, interface["shape"])), int(interface["outputs"]))
            return agent_class(
                settings, kind, seed=options.seed, device=device, classes=int(interface["classes"]),
                total_updates=options.total_steps,
            )  # fmt: skip
        except (KeyError, TypeError, ValueError, IndexError) as error:
            raise UserError(f"the learner's interface is damaged: {error}") from None
    observations, actions = spaces(interface)
    n, fixed = observations.shape[0], interface.get("input_scale") == "fixed"
    scale = InputScale((0.0,) * n, (1.0,) * n, 0.0, 1.0) if fixed else None  # its figures come with the weights
    return agent_class(
        settings, observations, actions, scale, seed=options.seed, device=device, total_iterations=options.iterations
    )
