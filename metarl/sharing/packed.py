"""Read packed models: folders with a trained agent, its configuration and evaluation, as `metarl pack` writes them.

A packed model may come from anyone. It is data, JSON and safetensors, and nothing in it is executed. Only files with fixed
names in the folder itself are read, their content is checked before it is used, and nothing is ever written to the folder.

config.json         the agent, its settings, io_spec and options; suite, versions and commit of its training
model.safetensors   its weights and running statistics
evaluation.json     its evaluation, if there is one
looks.jsonl         the evaluations on held-out goals or classes before it was packed; earlier versions did not write it
README.md           the model card
"""

import hashlib
import os
import re
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load as load_tensors
from torch import Tensor

from metarl.agents import AGENTS
from metarl.errors import UserError
from metarl.runs.checkpoints import RESUME_ONLY, Checkpoint, join
from metarl.runs.config import Config, json_object, read_config
from metarl.runs.directory import Run
from metarl.runs.experiment import Experiment
from metarl.runs.looks import LOOKS, Look, read_looks
from metarl.sharing.locations import CONFIG, EVALUATION, PREFIX, WEIGHTS, folder_of
from metarl.system.confinement import check_own
from metarl.system.counts import plural
from metarl.system.file_names import file_name
from metarl.training.setup import untrained

PACKED_FORMAT = 1
"""Format of packed models: the entry "packed" in config.json."""
_MOST = {CONFIG: 2**20, EVALUATION: 2**26, WEIGHTS: 2**31}
"""Largest size of each file, bytes."""


class PackedConfig(Config):
    """The content of a packed model's config.json.

    It adds the format of packed models, steps and iterations before the checkpoint, and what of the state is not a tensor.
    """

    packed: int
    step: int
    iteration: int
    rest: dict[str, Any]


class Packed(Run):
    """A packed model used as a run; its evaluations and videos are written to runs/pretrained_<name>.

    Attributes:
        path: the folder for output, created on the first write.
        folder: the packed model's folder; it is only read.
        checkpoint: the model's only checkpoint.
    """

    def __init__(self, folder: Path, name: str) -> None:
        config = _config(folder)
        super().__init__(Path("runs", f"pretrained_{name}"), config, folder)
        state = _state(folder, self.experiment, config["rest"])
        place = self.path / "checkpoints" / f"{config['step']:012d}"
        self.checkpoint = Checkpoint(place, config["step"], config["iteration"], state, config)

    def load(self, path: Path | None = None) -> tuple[Checkpoint, list[str]]:
        """The model's only checkpoint, and no messages."""
        return self.checkpoint, []

    def lock(self) -> None:
        """Refuse training: packed models do not contain the optimiser's moments.

        Raises:
            UserError: always.
        """
        raise UserError(f"{self.folder} is a packed model: it can be used, but not trained further")

    def evaluation(self) -> Path:
        """Path of the default evaluation made here if it exists, else of the model's own, which need not exist."""
        made_here = self.path / EVALUATION
        return made_here if made_here.exists() else self.folder / EVALUATION

    def looks(self) -> list[Look] | None:
        """See `Run.looks`: those before it was packed, and those made here; None if it was packed without the former."""
        before = self.folder / Path(LOOKS).name
        return read_looks(before) + (super().looks() or []) if before.is_file() else None


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


def _config(folder: Path) -> PackedConfig:
    """The content of config.json, checked, with the options that depend on the machine set to this one's."""
    text = _content(folder, CONFIG)
    try:
        content = json_object(text)
        if content.get("packed") != PACKED_FORMAT:
            raise ValueError(f"it has format {content.get('packed')!r} of packed models; this version reads {PACKED_FORMAT}")
        config = read_config(content, PackedConfig)
        if "io_spec" not in config:
            raise ValueError("io_spec is missing")
        if config["agent"] not in AGENTS or re.search(r"\.py\b", config["suite"]):
            raise ValueError("its agent or suite is from a Python file, which a packed model may not name")
        if not 0 <= config["iteration"] <= config["step"] < 10**12:
            raise ValueError("invalid steps")
    except ValueError as error:
        raise UserError(f"{folder}/{CONFIG}: {error}") from None
    config["options"] |= {"device": "auto", "run_dir": None}
    return config


def _state(folder: Path, experiment: Experiment, rest: dict[str, Any]) -> dict[str, Any]:
    """The agent's state; tensor shapes and types must match the configuration before the weights are used."""
    content = _content(folder, WEIGHTS)
    try:
        tensors = load_tensors(content)
        with torch.device("meta"):
            expected = _shapes(untrained(experiment, torch.device("meta")).state_dict())
        stored = {name: (tuple(tensor.shape), tensor.dtype) for name, tensor in tensors.items()}
        if stored != expected:
            different = sorted(name for name in stored.keys() | expected.keys() if stored.get(name) != expected.get(name))
            raise ValueError(f"{plural(len(different), 'tensor')} not as in its {CONFIG}, such as {different[0]!r}")
        state = join(tensors, rest)
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
    shapes = {}
    for key, value in state.items():
        if isinstance(value, Tensor):
            shapes[prefix + key] = tuple(value.shape), value.dtype
        elif isinstance(value, dict) and key not in RESUME_ONLY:
            shapes |= _shapes(value, f"{prefix}{key}/")
    return shapes


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
