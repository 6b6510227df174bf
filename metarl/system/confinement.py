"""Paths in a folder that may come from someone else, such as a run directory or a packed model: they stay in that folder."""

import os
import stat
from collections.abc import Iterator
from pathlib import Path

from metarl.errors import UserError


def leads_out(folder: Path, path: Path) -> bool:
    """Whether a path in a folder ends outside of it: by "..", as an absolute path, or through a symbolic link."""
    try:
        return not path.resolve().is_relative_to(folder.resolve())
    except (OSError, RuntimeError):  # links in a circle
        return True


def confined(folder: Path, name: str) -> Path:
    """The path of something in a folder, by a name that may come from a file.

    Raises:
        UserError: it leads out of the folder.
    """
    if leads_out(folder, folder / name):
        raise UserError(f"{folder / name} leads out of {folder}, and nothing outside of it is read or written in its place")
    return folder / name


def strangers(folder: Path, home: Path | None = None) -> Iterator[Path]:
    """What lies in a folder, or in a folder of it, and is not its own: links that lead out of it, pipes and devices.

    Args:
        folder: which is looked through; it need not exist.
        home: a folder above it in which links may lead, too.
    """
    for place, folders, files in os.walk(folder):  # which follows no link
        for path in (Path(place, name) for name in sorted([*folders, *files])):
            try:
                mode = path.lstat().st_mode
            except OSError:  # gone meanwhile: the run may be training
                continue
            if leads_out(home or folder, path) if stat.S_ISLNK(mode) else not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
                yield path


def check_own(folder: Path, home: Path | None = None) -> None:
    """Refuse a folder with anything in it that is not its own: see `strangers`.

    Raises:
        UserError: there is something, which is named.
    """
    for path in strangers(folder, home):
        raise UserError(
            f"{path} is a link out of {folder}, or no file: it is neither followed nor opened. Put a copy of the file in its "
            "place, or delete it"
        )


def run_of(path: Path) -> tuple[Path, str | None]:
    """The run directory that a path names, with links followed; and the name of its checkpoint, where the path is of one.

    Raises:
        UserError: there is nothing, or the path is of a checkpoint and leads out of its run.
    """
    if not path.exists():
        raise UserError(f"there is no run {path}")
    if path.absolute().parent.name == "checkpoints":  # `latest` is a link, too
        confined(path.absolute().parents[1], f"checkpoints/{path.name}")
    root = path.resolve()
    if root.name == "latest" and root.is_file():  # with the name in it, where there are no links
        name = root.read_text(errors="replace").strip()
        if not name.isdecimal():
            raise UserError(f"{path} is damaged: it names no checkpoint")
        root = confined(root.parents[1], f"checkpoints/{name}").resolve()
    return (root.parents[1], root.name) if root.parent.name == "checkpoints" else (root, None)
