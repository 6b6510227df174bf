"""Read checkpoints, and convert an agent's state between nested dicts and files: tensors as safetensors, the rest as JSON."""

import hashlib
from pathlib import Path
from typing import Any, NamedTuple, TypedDict

from safetensors.torch import load as load_tensors
from safetensors.torch import save as save_tensors
from torch import Tensor

from metarl.errors import UserError
from metarl.runs.config import Trained, json_object, read_config
from metarl.system.json_types import convert

RESUME_ONLY = ("optimizer", "previous")
"""Parts of an agent's state that only a resumed training needs."""
FORMAT = 2


class _Note(TypedDict):
    """The content of checkpoint.json."""

    step: int
    iteration: int
    rest: dict[str, Any]
    sha256: dict[str, str]
    config: dict[str, Any]


class Checkpoint(NamedTuple):
    """An intact checkpoint.

    Attributes:
        path: its folder.
        step: steps taken before it, over all environments.
        iteration: the next iteration.
        state: the result of the agent's `state_dict`.
        config: what config.json said of its training.
    """

    path: Path
    step: int
    iteration: int
    state: dict[str, Any]
    config: Trained

    @property
    def digest(self) -> str:
        """SHA-256 of the weights."""
        return hashlib.sha256(save_tensors(split(self.state)[0])).hexdigest()


def read_checkpoint(folder: Path) -> Checkpoint:
    """The checkpoint in a folder.

    Raises:
        UserError: another version made it.
        OSError, ValueError, TypeError, AttributeError: it is damaged.
    """
    text, weights = ((folder / name).read_bytes() for name in ("checkpoint.json", "agent.safetensors"))
    try:
        content = json_object(text)
        if content.get("format", FORMAT) != FORMAT:
            raise UserError(f"checkpoint {folder} has format {content['format']}, this version reads {FORMAT}")
        note = convert(content, _Note)
        config = read_config(note["config"], Trained)
    except ValueError as error:
        if isinstance(error, UserError):
            raise
        raise ValueError(f"checkpoint.json: {error}") from None
    if hashlib.sha256(weights).hexdigest() != note["sha256"].get("agent.safetensors"):
        raise ValueError("agent.safetensors does not match its checksum")
    return Checkpoint(folder, note["step"], note["iteration"], join(load_tensors(weights), note["rest"]), config)


def reason(error: Exception) -> str:
    """Why a checkpoint could not be read, in words."""
    if isinstance(error, FileNotFoundError):
        return f"{Path(str(error.filename)).name} is missing"
    return str(error)


def split(state: dict[str, Any], prefix: str = "") -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Split nested dicts into tensors and all other values, both by path."""
    tensors: dict[str, Tensor] = {}
    rest: dict[str, Any] = {}
    for key, value in state.items():
        if isinstance(value, dict):
            inner, others = split(value, f"{prefix}{key}/")
            tensors |= inner
            rest |= others
        elif isinstance(value, Tensor):
            tensors[prefix + key] = value.detach().cpu().contiguous()
        else:
            rest[prefix + key] = value
    return tensors, rest


def join(tensors: dict[str, Tensor], rest: dict[str, Any]) -> dict[str, Any]:
    """The nested dicts that `split` took apart."""
    state: dict[str, Any] = {}
    for path, value in {**tensors, **rest}.items():
        *parents, last = path.split("/")
        inner = state
        for parent in parents:
            inner = inner.setdefault(parent, {})
        inner[last] = value
    return state


def copied(state: Any) -> Any:
    """A copy of nested dicts of tensors, which later training does not change."""
    if isinstance(state, dict):
        return {key: copied(value) for key, value in state.items()}
    return state.detach().clone() if isinstance(state, Tensor) else state
