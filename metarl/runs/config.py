"""Read config.json of a run or packed model: its keys, checked for their kinds, under their current names."""

import json
from typing import Any, NotRequired, TypeVar

from metarl.runs.io_spec import IoSpec
from metarl.runs.migration import migrated
from metarl.system.json_types import convert
from metarl.system.user_code import Origin

F = TypeVar("F", bound="Trained")


class Trained(Origin):
    """The keys that say what is trained, and how; a checkpoint repeats them. See `metarl.runs.experiment.Experiment`.

    Options and settings are what the file says: they get types when the agent's class is known.
    """

    options: dict[str, Any]
    settings: dict[str, Any]


class Config(Trained):
    """The content of config.json. It may have more keys: see docs/files.md."""

    metarl: str
    format: NotRequired[int]
    io_spec: NotRequired[IoSpec]
    packages: NotRequired[dict[str, Any] | None]
    python: NotRequired[str | None]
    git_commit: NotRequired[str | None]


def json_object(text: bytes) -> dict[str, Any]:
    """The content of a JSON file.

    Raises:
        ValueError: it is not a JSON object.
    """
    try:
        content = json.loads(text)
    except (ValueError, RecursionError):
        content = None
    if not isinstance(content, dict):
        raise ValueError("it is damaged, not a JSON object")
    return content


def read_config(content: dict[str, Any], form: type[F]) -> F:
    """The content of config.json, or of the entry `config` of a checkpoint, with current names.

    Raises:
        ValueError: a key is missing, or its value is of another kind than in the form.
    """
    return convert(migrated(content), form)
