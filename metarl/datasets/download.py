"""Read the files of data sets from the user's folder, downloading missing ones from their official source.

The folder is `$METARL_DATA`, or `data` in metarl's cache. Unexpected content is saved as a `.wrong` file and never used.
"""

import contextlib
import fcntl
import hashlib
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Generic, TypeVar

from metarl.errors import UserError
from metarl.system import files as cache
from metarl.system.console import say

T = TypeVar("T")

TIMEOUT = 30
"""Seconds without data before a download is abandoned."""


def folder() -> Path:
    """Return the folder of the files."""
    root = os.environ.get("METARL_DATA")
    return Path(root).expanduser() if root else cache.directory("data")


@dataclass(frozen=True)
class File(Generic[T]):
    """A file of a data set.

    Attributes:
        name: path within the folder.
        url: the official source.
        read: converts the content to its value; raises ValueError, with an explanation, if the content is not as expected.
        convert: converts the downloaded data to the content that is stored.
    """

    name: str
    url: str
    read: Callable[[bytes], T]
    convert: Callable[[bytes], bytes] = bytes


def checked(content: bytes, sha256: str) -> bytes:
    """Return the content if its SHA-256 matches.

    Raises:
        ValueError: it does not match.
    """
    digest = hashlib.sha256(content).hexdigest()
    if digest != sha256:
        raise ValueError(f"expected SHA-256 {sha256}, found {digest} of {len(content):,} bytes")
    return content


class _UnusableFileError(Exception):
    """A file is missing (no message) or invalid."""


def obtain(file: File[T]) -> T:
    """Return the value of a file, from the folder, or from its source if it is missing or damaged.

    Raises:
        UserError: the file is missing and cannot be downloaded, or the source returned something else.
    """
    path, damage = folder() / file.name, ""
    try:
        with contextlib.suppress(_UnusableFileError):
            return _load(file, path)
        path.parent.mkdir(parents=True, exist_ok=True)
        with _locked(path.parent):
            try:
                return _load(file, path)  # another process may have fetched it meanwhile
            except _UnusableFileError as error:
                damage = str(error)
            if damage:
                os.replace(path, _rejected(path))
                say(f"{damage} It is kept as {path.name}.wrong and fetched again.")
            return _fetch(file, path)
    except OSError as error:
        raise UserError(f"{damage} {path} cannot be read or made: {error}".strip()) from None
    except UserError as error:
        raise UserError(f"{damage} {error}".strip()) from None


def _load(file: File[T], path: Path) -> T:
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        raise _UnusableFileError from None
    try:
        return file.read(content)
    except ValueError as error:
        raise _UnusableFileError(f"{path} is damaged ({len(content):,} bytes): {error}.") from None


def _fetch(file: File[T], path: Path) -> T:
    import pooch  # rarely needed, and slow to import

    say(f"fetching {file.url} to {path}")
    source, fetched = pooch.HTTPDownloader(chunk_size=1 << 16, timeout=TIMEOUT), BytesIO()
    try:
        source(file.url, fetched, None)
    except OSError as error:
        raise UserError(
            f"{path} (METARL_DATA) is not there, and {file.url} cannot be fetched: {error}; download it once, "
            "or put the file there"
        ) from None
    try:
        content = file.convert(fetched.getvalue())
        value = file.read(content)
    except Exception as error:  # readers may raise any error if the source returns something else
        rejected = _rejected(path)
        cache.write_atomically(rejected, fetched.getvalue())
        raise UserError(
            f"{file.url} did not return {file.name}: {error}. Its answer is kept as {rejected} and not used; "
            "repeat the command to fetch it again."
        ) from None
    cache.write_atomically(path, content)
    return value


def _rejected(path: Path) -> Path:
    return path.with_name(f"{path.name}.wrong")


@contextlib.contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Lock the folder, so that no other process downloads to it at the same time."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        cache.lock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)
