"""Files that are made once and read ever after: written atomically, checked when read, rebuilt when damaged.

The cache lies in `$METARL_CACHE`, or `$XDG_CACHE_HOME/metarl`, or `~/.cache/metarl`. Several processes may write the
same file at once: each writes its own temporary file and renames it, and all of them write the same content.
"""

import contextlib
import hashlib
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

from metarl.errors import UserError


def directory(*parts: str) -> Path:
    """The path of a folder of the cache (not created)."""
    root = os.environ.get("METARL_CACHE")
    if not root:
        root = os.path.join(os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache"), "metarl")
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
                os.fsync(file.fileno())
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise


def writable(folder: Path) -> bool:
    """Whether files can be kept in a folder; it is made where it is missing."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            return True
    except OSError:
        return False


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
