"""Wrap standard output and error so that no command fails because something cannot be shown.

A terminal may support few characters (they are replaced), be narrower than any table (it is widened), or be gone: a closed
pipe or stream, a full disk. Output that cannot be written is dropped, and the work continues.
"""

import errno
import io
import os
import select
import shutil
import sys
from typing import Any

NARROWEST = 40
"""Minimum columns for the layout of help and tables: below this, tyro does not terminate."""


class _Dropping(io.FileIO):
    """A file that drops output the system refuses to write.

    Attributes:
        refused: the first error.
    """

    refused: OSError | None = None

    def write(self, content: Any) -> int:
        """Write all or part of the content, as raw files do."""
        try:
            while (written := super().write(content)) is None:  # not ready: another process made it non-blocking
                select.select([], [self], [])
            return written
        except OSError as error:
            self.refused = self.refused or error
            return len(content)


_streams: dict[str, _Dropping] = {}


def prepare() -> None:
    """Replace `sys.stdout` and `sys.stderr`; only for processes that run a command."""
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:  # closed: the next opened file would get this number and receive all printed output
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)
    for number, name, errors in ((1, "stdout", "replace"), (2, "stderr", "backslashreplace")):
        before = getattr(sys, name)
        if before is not None:
            before.flush()
        _streams[name] = _Dropping(number, "w", closefd=False)
        stream = io.TextIOWrapper(
            io.BufferedWriter(_streams[name]),
            encoding=getattr(before, "encoding", "utf-8"),
            errors=errors,
            line_buffering=getattr(before, "line_buffering", False),
        )
        setattr(sys, name, stream)
    columns = shutil.get_terminal_size().columns
    if columns < NARROWEST or not os.environ.get("COLUMNS", "1").isascii():
        os.environ["COLUMNS"] = str(max(columns, NARROWEST))


def finish(status: int) -> int:
    """Return the exit status: 2 if output could not be written, unless its reader has closed the pipe."""
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    refused = _streams["stdout"].refused
    if refused is None or refused.errno == errno.EPIPE:
        return status
    print(f"metarl: could not write to standard output: {refused.strerror}. Files are still written", file=sys.stderr)
    return status or 2
