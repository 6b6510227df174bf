"""Files that are made once and read ever after: written atomically, checked when read, rebuilt when damaged.

The cache lies in `$METARL_CACHE`, or `$XDG_CACHE_HOME/metarl`, or `~/.cache/metarl`. Several processes may write the
same file at once: each writes its own temporary file and renames it, and all of them write the same content.

File systems of clusters, network disks and object stores lack some of what a local disk has: locks, modes, `fsync`, renamed
folders. Each is asked for in one place, here; what refuses is done without.
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
"""Bytes that must fit into a folder of the cache: a little more than the engine's compiled code takes."""
_UNKNOWN_HERE = {errno.EINVAL, errno.ENOSYS, errno.ENOTSUP}
"""How a file system answers to what it does not know."""


def directory(*parts: str) -> Path:
    """The path of a folder of the cache (not created)."""
    root = os.environ.get("METARL_CACHE")
    if not root:
        home = os.path.expanduser("~")
        if home == "~":  # a user without a home folder, as containers have them: nothing is kept
            home = "/nonexistent"
        root = os.path.join(os.environ.get("XDG_CACHE_HOME") or f"{home}/.cache", "metarl")
    return Path(root, *parts)


@contextlib.contextmanager
def writing(what: str) -> Iterator[None]:
    """Turn the system's refusal to write into a message."""
    try:
        yield
    except OSError as error:
        raise UserError(f"could not write {what}: {error.strerror or error}") from error


def write_atomically(path: Path, content: bytes, *, durable: bool = True) -> None:
    """Write a file so that readers see the old content or the new one, never a part.

    Args:
        path: its folder is made where it is missing.
        content: of the file.
        durable: also after a power cut, which costs milliseconds.

    Raises:
        OSError: the disk is full or the folder cannot be written; the file is then as it was.
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
    """Give a file that is complete its place, readable for all where the file system has modes."""
    with contextlib.suppress(OSError):
        temporary.chmod(0o644)
    os.replace(temporary, path)


def put_folder(temporary: Path, path: Path) -> None:
    """Give a folder of files its place, where there is none; as copies where folders cannot be renamed (object stores).

    Copies come one after the other: what reads such a folder must see by itself whether it is whole.
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
    """`fcntl.flock`; where the file system has no locks, it goes on without, and says so once.

    Raises:
        BlockingIOError: another process has the lock, and `how` says not to wait.
    """
    try:
        fcntl.flock(file, how)
    except BlockingIOError:
        raise
    except OSError as error:
        without(f"there are no locks on this file system ({error.strerror}): let only one process at a time write there")


@lru_cache
def without(what: str) -> None:
    """Say, once, what is done without."""
    log.warning("%s", what)


def refusal(folder: Path) -> str | None:
    """Why files cannot be kept in a folder, which is made where it is missing; None: they can."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder) as file:
            file.write(bytes(ROOM))
    except OSError as error:
        return error.strerror or str(error)
    return None


def store(path: Path, content: bytes) -> None:
    """Keep `content` under a checksum. A cache that cannot be written is no error: the next start builds again."""
    with contextlib.suppress(OSError):  # what a power cut damaged, its checksum will show
        write_atomically(path, hashlib.sha256(content).digest() + content, durable=False)


def load(path: Path) -> bytes | None:
    """What `store` kept, or None where nothing whole is there."""
    try:
        data = path.read_bytes()
    except OSError:
        return None
    digest, content = data[:32], data[32:]
    return content if hashlib.sha256(content).digest() == digest else None
