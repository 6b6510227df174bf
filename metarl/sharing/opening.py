"""Open the run directory, checkpoint or packed model that a user names. Most commands call `open_run`."""

import json
from pathlib import Path

import metarl
from metarl.errors import UserError
from metarl.runs.checkpoints import FORMAT
from metarl.runs.directory import Run
from metarl.runs.migration import migrated
from metarl.sharing.locations import is_packed
from metarl.system.confinement import run_of


def open_run(path: Path) -> tuple[Run, Path | None]:
    """Open a run directory, a checkpoint's folder inside one, or a packed model (its folder, or "pretrained:NAME").

    Returns:
        The run, and the folder of the checkpoint if the path names one, else None.

    Raises:
        UserError: the path is none of these, or another version made the run.
    """
    if is_packed(path):
        from metarl.sharing.packed import open_packed  # late: it imports the training set-up

        return open_packed(path), None
    root, checkpoint = run_of(path)
    named = root / "checkpoints" / checkpoint if checkpoint else None
    if Path.cwd() in root.parents:
        root = root.relative_to(Path.cwd())  # shorter messages
    if not (root / "config.json").is_file():
        raise UserError(f"{path} is not a run: it has no config.json")
    try:
        config = json.loads((root / "config.json").read_text())
        found = config["format"], ".".join(config["metarl"].split(".")[:2])
    except OSError as error:
        raise UserError(f"{root}/config.json cannot be read: {error.strerror}") from None
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise UserError(f"{root}/config.json is damaged") from None
    if found != (FORMAT, ".".join(metarl.__version__.split(".")[:2])):
        raise UserError(f"{root} was made by metarl {config['metarl']}; this is {metarl.__version__}, which cannot continue it")
    return Run(root, migrated(config)), named
