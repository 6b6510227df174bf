"""Open the run directory, checkpoint or packed model that a user names. Most commands call `open_run`."""

from pathlib import Path
from typing import TypedDict

import metarl
from metarl.errors import UserError
from metarl.runs.checkpoints import FORMAT
from metarl.runs.config import Config, json_object, read_config
from metarl.runs.directory import Run
from metarl.sharing.locations import is_packed
from metarl.system.confinement import run_of
from metarl.system.json_types import convert


class _Version(TypedDict):
    """The keys of config.json that tell which version made it."""

    format: int
    metarl: str


def open_run(path: Path) -> tuple[Run, Path | None]:
    """Open a run directory, a checkpoint's folder inside one, or a packed model (its folder, or "pretrained:NAME").

    Returns:
        The run, and the folder of the checkpoint if the path names one, else None.

    Raises:
        UserError: the path is none of these, another version made the run, or a key of config.json is missing or of the wrong
            kind. Options and settings are checked when `Run.experiment` is first used.
    """
    if is_packed(path):
        from metarl.sharing.packed import open_packed  # late: it imports the training set-up

        return open_packed(path), None
    root, checkpoint = run_of(path)
    named = root / "checkpoints" / checkpoint if checkpoint else None
    if Path.cwd() in root.parents:
        root = root.relative_to(Path.cwd())  # shorter messages
    file = root / "config.json"
    if not file.is_file():
        raise UserError(f"{path} is not a run: it has no config.json")
    try:
        content = json_object(file.read_bytes())
        version: _Version = convert(content, _Version)
        if (version["format"], _release(version["metarl"])) != (FORMAT, _release(metarl.__version__)):
            raise ValueError(f"metarl {version['metarl']} made the run; this is {metarl.__version__}, which cannot continue it")
        config = read_config(content, Config)
    except OSError as error:
        raise UserError(f"{file} cannot be read: {error.strerror}") from None
    except ValueError as error:
        raise UserError(f"{file}: {error}") from None
    return Run(root, config), named


def _release(version: str) -> str:
    """Major and minor number of a version, such as 0.2."""
    return ".".join(version.split(".")[:2])
