"""Read packed models: folders with a trained agent, its configuration and evaluation, as `metarl pack` writes them.

A packed model may come from anyone. It is data, JSON and safetensors, and nothing in it is executed. Only files with fixed
names in the folder itself are read, their content is checked before it is used, and nothing is ever written to the folder.

config.json         the agent, its settings, interface and options; suite, versions and commit of its training
model.safetensors   its weights and running statistics
evaluation.json     its evaluation, if there is one
README.md           the model card
"""

import hashlib
import json
import os
import re
from dataclasses import fields
from pathlib import Path
from typing import Any, get_args

import torch
from safetensors import SafetensorError
from safetensors.torch import load as load_tensors
from torch import Tensor

from metarl.agents import AGENTS
from metarl.errors import UserError
from metarl.runs.checkpoints import Checkpoint, join
from metarl.runs.directory import Run
from metarl.runs.migration import migrated
from metarl.sharing.locations import CONFIG, EVALUATION, PREFIX, WEIGHTS, folder_of
from metarl.system.confinement import check_own
from metarl.system.counts import plural
from metarl.system.file_names import file_name
from metarl.training.setup import read_config, untrained

PACKED_FORMAT = 1
"""Format of packed models: the entry "packed" in config.json."""
_MOST = {CONFIG: 2**20, EVALUATION: 2**26, WEIGHTS: 2**31}
"""Largest size of each file, bytes."""


class Packed(Run):
    """A packed model used as a run; its evaluations and videos are written to runs/pretrained_<name>.

    Attributes:
        folder: the packed model's folder; it is only read.
        path: the folder for output, created on the first write.
    """

    def __init__(self, folder: Path, name: str) -> None:
        super().__init__(Path("runs", f"pretrained_{name}"), _config(folder))
        self.folder = folder
        self._content = _content(folder, WEIGHTS)
        self._state = _state(folder, self.config, self._content)

    def load(self, path: Path | None = None) -> tuple[Checkpoint, list[str]]:
        """The model's only checkpoint, and no messages."""
        step = self.config["step"]
        place = self.path / "checkpoints" / f"{step:012d}"
        return Checkpoint(place, step, self.config["iteration"], self._state, self.config), []

    def lock(self) -> None:
        """Refuse training: packed models do not contain the optimiser's moments.

        Raises:
            UserError: always.
        """
        raise UserError(f"{self.folder} is a packed model: it can be used, but not trained further")

    def evaluation(self) -> Path:
        """Path of the default evaluation made here if it exists, else of the model's own, which need not exist."""
        made = self.path / EVALUATION
        return made if made.exists() else self.folder / EVALUATION


def open_packed(path: Path) -> Packed:
    """The packed model of "pretrained:NAME", "pretrained:FOLDER" or a folder.

    Raises:
        UserError: there is no such model, or it is damaged or invalid.
    """
    folder = folder_of(path)
    place = folder.resolve()
    # the Hugging Face Hub's cache holds models--NAME/snapshots/COMMIT, with links to files in models--NAME/blobs
    check_own(folder, place.parents[1] if place.parent.name == "snapshots" else None)
    name = file_name(place.name)
    if str(path) != PREFIX + place.name:  # another folder may have the same name
        name += f"-{hashlib.sha256(os.fsencode(place)).hexdigest()[:8]}"
    return Packed(folder, name)


def _content(folder: Path, name: str) -> bytes:
    try:
        size = (folder / name).stat().st_size
        if size > _MOST[name]:
            raise UserError(f"{folder}/{name} has {size:,} bytes; a packed model's has at most {_MOST[name]:,}")
        return (folder / name).read_bytes()
    except OSError as error:
        raise UserError(f"{folder} is not a readable packed model: {name}: {error.strerror}") from None


_KINDS = {
    "agent": str,
    "suite": str,
    "options": dict,
    "settings": dict,
    "interface": dict,
    "rest": dict,
    "step": int,
    "iteration": int,
    "metarl": str,
}


def _config(folder: Path) -> dict[str, Any]:
    """The content of config.json, with checked types."""
    try:
        config = json.loads(_content(folder, CONFIG))
        if config["packed"] != PACKED_FORMAT:
            raise UserError(f"{folder} has format {config['packed']!r} of packed models; this version reads {PACKED_FORMAT}")
        for key, kind in _KINDS.items():
            if type(config[key]) is not kind:
                raise ValueError(f"{key!r} is invalid")
        if config["agent"] not in AGENTS or re.search(r"\.py\b", config["suite"]):
            raise ValueError("its agent or suite is from a Python file, which a packed model may not name")
        if not 0 <= config["iteration"] <= config["step"] < 10**12:
            raise ValueError("invalid steps")
        config = migrated(config)
        config["options"] |= {"device": "auto", "run_dir": None}
        for made in read_config(config):
            _check_kinds(made)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError, OverflowError) as error:
        if isinstance(error, UserError) and str(folder) in str(error):
            raise
        why = f"{error} is missing" if isinstance(error, KeyError) else error
        raise UserError(f"{folder} is not a readable packed model: {CONFIG}: {why}") from None
    return config


def _check_kinds(settings: Any) -> None:
    """Raise ValueError if a setting has another type than its default."""
    for field in fields(settings):
        given, default = getattr(settings, field.name), field.default
        if given is None and type(None) in get_args(field.type):
            continue
        kinds: tuple[type, ...] = (type(None), int, float, str) if default is None else (type(default),)
        if isinstance(default, float):
            kinds = (float, int)
        if not isinstance(given, kinds) or (isinstance(given, bool) and not isinstance(default, bool)):
            raise ValueError(f"{field.name} is invalid")
        if isinstance(given, tuple) and any(type(entry) is not int for entry in given):
            raise ValueError(f"{field.name} is not a list of whole numbers")


def _state(folder: Path, config: dict[str, Any], content: bytes) -> dict[str, Any]:
    """The agent's state; tensor shapes and types must match the configuration before the weights are used."""
    try:
        tensors = load_tensors(content)
        with torch.device("meta"):
            expected = _shapes(untrained(config, torch.device("meta")).state_dict())
        found = {name: (tuple(tensor.shape), tensor.dtype) for name, tensor in tensors.items()}
        if found != expected:
            different = sorted(name for name in found.keys() | expected.keys() if found.get(name) != expected.get(name))
            raise ValueError(f"{plural(len(different), 'tensor')} not as in its {CONFIG}, such as {different[0]!r}")
        state = join(tensors, config["rest"])
    except (
        SafetensorError,
        ValueError,
        TypeError,
        KeyError,
        AttributeError,
        RuntimeError,
        OverflowError,
        MemoryError,
    ) as error:
        raise UserError(f"{folder} is not a readable packed model: {WEIGHTS}: {_first_line(error)}") from None
    return state


def _shapes(state: dict[str, Any], prefix: str = "") -> dict[str, tuple[tuple[int, ...], torch.dtype]]:
    """Shape and type of the tensors in nested dicts, by path, without the optimiser's."""
    found = {}
    for key, value in state.items():
        if isinstance(value, Tensor):
            found[prefix + key] = tuple(value.shape), value.dtype
        elif isinstance(value, dict) and key != "optimizer":
            found |= _shapes(value, f"{prefix}{key}/")
    return found


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
