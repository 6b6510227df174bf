"""Record the finished parts of long work in a file, so that an interruption loses only the current part."""

import json
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import Any

from metarl.system.console import say
from metarl.system.files import writing


class Journal:
    """Finished parts of some work, by name; the file is appended to and may end in an incomplete line.

    Each line holds a part's name, the part, and the SHA-256 of both and of the description of the work. Lines that do not match
    are damaged: their parts are redone, which is printed.

    Args:
        path: the file; parts that it holds of other work are dropped.
        work: everything that determines the parts; JSON.
    """

    def __init__(self, path: Path, work: dict[str, Any]) -> None:
        self.path, self.parts, self._head = path, dict[str, Any](), json.dumps(work)
        lines = path.read_text(errors="replace").split("\n") if path.is_file() else []
        damaged = 0
        for line in lines[1:-1] if lines[:1] == [self._head] else []:  # the last, incomplete line was being written
            try:
                name, part, _ = json.loads(line)
                whole = self._line(name, part) == line
            except (ValueError, TypeError, RecursionError):
                whole = False
            if whole:
                self.parts[name] = part
            damaged += not whole
        if damaged:
            say(f"{path}: {damaged} of {len(lines) - 2} parts are damaged and are done again")
        with writing(str(path)):
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text("".join(f"{line}\n" for line in [self._head, *map(self._line, self.parts, self.parts.values())]))

    def part(self, name: str, work: Callable[[], Any]) -> Any:
        """Return the finished part of this name, JSON; if there is none, do its work and add the result."""
        if name not in self.parts:
            self.put(name, work())
        return self.parts[name]

    def put(self, name: str, part: Any) -> None:
        """Add a finished part, JSON."""
        self.parts[name] = part
        with writing(str(self.path)), self.path.open("a") as file:
            file.write(self._line(name, part) + "\n")

    def finish(self) -> None:
        """Delete the file, once the work is complete and written elsewhere."""
        self.path.unlink(missing_ok=True)

    def _line(self, name: str, part: Any) -> str:
        digest = sha256(f"{self._head}\n{json.dumps([name, part])}".encode()).hexdigest()
        return json.dumps([name, part, digest])
