"""Find packed models by name or folder; `metarl.sharing.packed` reads them."""

import os
from pathlib import Path

from metarl.errors import UserError, unknown

PREFIX = "pretrained:"
CONFIG, WEIGHTS, EVALUATION, CARD = "config.json", "model.safetensors", "evaluation.json", "README.md"
"""Files of a packed model: see `metarl.sharing.packed`."""


def is_packed(path: Path) -> bool:
    """Whether the path names a packed model: it starts with "pretrained:", or is the folder of one."""
    return str(path).startswith(PREFIX) or (path / WEIGHTS).is_file()


def pretrained() -> dict[str, Path]:
    """Folders of packed models by name: those in the package, and those in the directory METARL_PRETRAINED."""
    of_user = os.environ.get("METARL_PRETRAINED")
    roots = [Path(__file__).parents[1] / "agents" / "pretrained", *([Path(of_user).expanduser()] if of_user else [])]
    places = [place for root in roots if root.is_dir() for place in sorted(root.iterdir())]
    return {place.name: place for place in places if (place / WEIGHTS).is_file()}


def folder_of(path: Path) -> Path:
    """The packed model's folder for "pretrained:NAME", "pretrained:FOLDER" or a plain folder.

    Raises:
        UserError: there is no such packed model.
    """
    name = str(path).removeprefix(PREFIX)
    folder = Path(name).expanduser()
    if str(path).startswith(PREFIX) and folder.name == name and name not in ("", ".", ".."):
        models = pretrained()
        if name not in models:
            if models:
                raise unknown("pretrained model", name, models)
            raise UserError(f"no pretrained model {name!r}, nor any other: set METARL_PRETRAINED to a directory of them")
        return models[name]
    if not (folder / WEIGHTS).is_file():
        raise UserError(f"{folder} is not a packed model: it has no {WEIGHTS}")
    return folder
