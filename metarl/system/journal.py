"""What a long piece of work has done so far, in a file, so that an interruption loses no more than the part at hand."""

import json
from hashlib import sha256
from pathlib import Path
from typing import Any

from metarl.system.console import say
from metarl.system.files import writing


class Journal:
    """Parts of some work that are done, by name; the file is appended to and may end in a line that was cut.

    A line is a part's name, the part, and the SHA-256 of both and of what the work is. A line that is not so is damaged: what
    it kept is done again, and that is said.

    Args:
        path: the file; what it keeps of any other work is dropped.
        work: all that decides what the parts are; JSON.
    """

    def __init__(self, path: Path, work: dict[str, Any]) -> None:
        self.path, self.parts, self._head = path, dict[str, Any](), json.dumps(work)
        lines = path.read_text(errors="replace").split("\n") if path.is_file() else []
        damaged = 0
        for line in lines[1:-1] if lines[:1] == [self._head] else []:  # after the last end of a line is what was being written
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

    def put(self, name: str, part: Any) -> None:
        """Keep a part, JSON."""
        self.parts[name] = part
        with writing(str(self.path)), self.path.open("a") as file:
            file.write(self._line(name, part) + "\n")

    def finish(self) -> None:
        """The work is done and written elsewhere."""
        self.path.unlink(missing_ok=True)

    def _line(self, name: str, part: Any) -> str:
        digest = sha256(f"{self._head}\n{json.dumps([name, part])}".encode()).hexdigest()
        return json.dumps([name, part, digest])
