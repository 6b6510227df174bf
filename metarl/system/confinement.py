"""Keep paths inside a folder that may come from someone else, such as a run directory or a packed model."""

import os
import stat
from collections.abc import Iterator
from pathlib import Path

from metarl.errors import UserError


def leads_out(folder: Path, path: Path) -> bool:
    """Whether a path in a folder ends outside it: through "..", an absolute path or a symbolic link."""
    try:
        return not path.resolve().is_relative_to(folder.resolve())
    except (OSError, RuntimeError):  # links in a circle
        return True


def confined(folder: Path, name: str) -> Path:
    """Return a path in a folder for a name that may come from a file.

    Raises:
        UserError: the path leads out of the folder.
    """
    if leads_out(folder, folder / name):
        raise UserError(f"{folder / name} leads out of {folder}: nothing outside it is read or written")
    return folder / name


def strangers(folder: Path, home: Path | None = None) -> Iterator[Path]:
    """Find entries in a folder or its subfolders that do not belong there: links that lead out of it, pipes and devices.

    Args:
        folder: the folder to search; it need not exist.
        home: a parent folder into which links may also lead.
    """
    for place, folders, files in os.walk(folder):  # does not follow links
        for path in (Path(place, name) for name in sorted([*folders, *files])):
            try:
                mode = path.lstat().st_mode
            except OSError:  # deleted meanwhile: the run may be training
                continue
            if leads_out(home or folder, path) if stat.S_ISLNK(mode) else not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
                yield path


def check_own(folder: Path, home: Path | None = None) -> None:
    """Refuse a folder that contains foreign entries, see `strangers`.

    Raises:
        UserError: there is one; the message names it.
    """
    for path in strangers(folder, home):
        raise UserError(
            f"{path} is a link out of {folder}, or not a file: it is neither followed nor opened. Put a copy of "
            "the file in its place, or delete it"
        )


def run_of(path: Path) -> tuple[Path, str | None]:
    """Return the run directory of a path, with links followed, and the checkpoint's name if the path is a checkpoint.

    Raises:
        UserError: the path does not exist, or is a checkpoint that leads out of its run.
    """
    if not path.exists():
        raise UserError(f"there is no run {path}")
    if path.absolute().parent.name == "checkpoints":  # `latest` may be a link too
        confined(path.absolute().parents[1], f"checkpoints/{path.name}")
    root = path.resolve()
    if root.name == "latest" and root.is_file():  # contains the name, on file systems without links
        name = root.read_text(errors="replace").strip()
        if not name.isdecimal():
            raise UserError(f"{path} is damaged: it names no checkpoint")
        root = confined(root.parents[1], f"checkpoints/{name}").resolve()
    return (root.parents[1], root.name) if root.parent.name == "checkpoints" else (root, None)
