"""Standard output and error, such that no command ends because something cannot be shown.

A terminal may know few characters (replaced), be narrower than any table (widened), or be gone: a pipe whose reader left, a
disk that is full, a stream that was closed. What cannot be written is dropped; the work goes on.
"""

import errno
import io
import os
import select
import shutil
import sys
from typing import Any

NARROWEST = 40
"""Columns below which help and tables are laid out as if there were so many: tyro never ends with one."""


class _Dropping(io.FileIO):
    """A file that drops what the system refuses to write.

    Attributes:
        refused: the first refusal.
    """

    refused: OSError | None = None

    def write(self, content: Any) -> int:
        """Write all or a part, as every raw file does."""
        try:
            while (written := super().write(content)) is None:  # not ready for more: another process made it non-blocking
                select.select([], [self], [])
            return written
        except OSError as error:
            self.refused = self.refused or error
            return len(content)


_streams: dict[str, _Dropping] = {}


def prepare() -> None:
    """Replace `sys.stdout` and `sys.stderr`; of a process that is a command's own."""
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:  # closed: the next file that is opened would get its number, and whatever is printed
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
    """The exit status: 2 where something was to be shown and could not be, unless its reader has left."""
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    refused = _streams["stdout"].refused
    if refused is None or refused.errno == errno.EPIPE:
        return status
    print(f"metarl: could not write to standard output: {refused.strerror}. Files are written all the same", file=sys.stderr)
    return status or 2
