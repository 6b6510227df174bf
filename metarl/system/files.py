"""Write files atomically, and cache data under checksums: cached files are checked when read and rebuilt if damaged.

The cache is in `$METARL_CACHE`, `$XDG_CACHE_HOME/metarl` or `~/.cache/metarl`. Several processes may write the same file
at once: each writes its own temporary file and renames it, and all write the same content.

File systems of clusters, network disks and object stores lack some features of a local disk: locks, modes, `fsync`,
renaming folders. This module works without those that are refused.
"""

import contextlib
import errno
import fcntl
import hashlib
import logging
import os
import shutil
import tempfile
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any

from metarl.errors import UserError

log = logging.getLogger("metarl")

ROOM = 2**20
"""Bytes that must fit into a cache folder: slightly more than the engine's compiled code takes."""
_UNKNOWN_HERE = {errno.EINVAL, errno.ENOSYS, errno.ENOTSUP}
"""Error numbers with which a file system rejects an operation it does not support."""


def directory(*parts: str) -> Path:
    """Return the path of a cache folder, without creating it."""
    root = os.environ.get("METARL_CACHE")
    if not root:
        home = os.path.expanduser("~")
        if home == "~":  # a user without a home folder, as in containers: nothing is cached
            home = "/nonexistent"
        root = os.path.join(os.environ.get("XDG_CACHE_HOME") or f"{home}/.cache", "metarl")
    return Path(root, *parts)


@contextlib.contextmanager
def writing(what: str) -> Iterator[None]:
    """Turn a system error while writing into a `UserError`."""
    try:
        yield
    except OSError as error:
        raise UserError(f"could not write {what}: {error.strerror or error}") from error


def write_atomically(path: Path, content: bytes, *, durable: bool = True) -> None:
    """Write a file so that readers see either the old or the new content, never a part.

    Args:
        path: its folder is created if missing.
        content: the file's content.
        durable: also survive a power cut, at a cost of milliseconds.

    Raises:
        OSError: the disk is full or the folder is not writable; the file is then unchanged.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            if durable:
                file.flush()
                _synchronise(file.fileno())
        put(Path(temporary), path)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(temporary)
        raise


def _synchronise(handle: int) -> None:
    try:
        os.fsync(handle)
    except OSError as error:
        if error.errno not in _UNKNOWN_HERE:
            raise


def put(temporary: Path, path: Path) -> None:
    """Move a complete file to its path, readable by all if the file system has modes."""
    with contextlib.suppress(OSError):
        temporary.chmod(0o644)
    os.replace(temporary, path)


def put_folder(temporary: Path, path: Path) -> None:
    """Move a folder of files to its path, which must not exist; copy it if folders cannot be renamed (object stores).

    Files are copied one by one, so readers of such a folder must check that it is complete.
    """
    try:
        os.rename(temporary, path)
    except OSError:
        if path.exists():
            raise
        try:
            path.mkdir()
            for file in temporary.iterdir():
                shutil.copyfile(file, path / file.name)
        except BaseException:
            shutil.rmtree(path, ignore_errors=True)
            raise


def lock(file: Any, how: int) -> None:
    """Call `fcntl.flock`; if the file system has no locks, continue without and warn once.

    Raises:
        BlockingIOError: another process holds the lock, and `how` says not to wait.
    """
    try:
        fcntl.flock(file, how)
    except BlockingIOError:
        raise
    except OSError as error:
        without(f"there are no locks on this file system ({error.strerror}): let only one process at a time write there")


@lru_cache
def without(what: str) -> None:
    """Warn once that a feature is missing."""
    log.warning("%s", what)


def refusal(folder: Path) -> str | None:
    """Return why files cannot be stored in a folder, which is created if missing; None: they can."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder) as file:
            file.write(bytes(ROOM))
    except OSError as error:
        return error.strerror or str(error)
    return None


def store(path: Path, content: bytes) -> None:
    """Store `content` with its checksum. An unwritable cache is not an error: the next start rebuilds the content."""
    with contextlib.suppress(OSError):  # damage by a power cut is found by the checksum
        write_atomically(path, hashlib.sha256(content).digest() + content, durable=False)


def load(path: Path) -> bytes | None:
    """Return what `store` saved, or None if it is missing or damaged."""
    try:
        data = path.read_bytes()
    except OSError:
        return None
    digest, content = data[:32], data[32:]
    return content if hashlib.sha256(content).digest() == digest else None
