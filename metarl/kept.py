"""What a long piece of work has done so far, in a file, so that an interruption loses no more than the part at hand."""

import json
from pathlib import Path
from typing import Any

from metarl.cache import writing


class Kept:
    """Parts of some work that are done, by name; the file is appended to and may end in a line that was cut.

    Args:
        path: the file; what it keeps of any other work is dropped.
        work: all that decides what the parts are; JSON.
    """

    def __init__(self, path: Path, work: dict[str, Any]) -> None:
        self.path, self.parts = path, dict[str, Any]()
        head = json.dumps(work)
        lines = path.read_text().splitlines() if path.exists() else []
        for line in lines[1:] if lines[:1] == [head] else []:
            try:
                name, part = json.loads(line)
            except ValueError:  # the line that was being written
                break
            self.parts[name] = part
        with writing(str(path)):
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text("".join(f"{line}\n" for line in [head, *map(json.dumps, self.parts.items())]))

    def put(self, name: str, part: Any) -> None:
        """Keep a part, JSON."""
        self.parts[name] = part
        with writing(str(self.path)), self.path.open("a") as file:
            file.write(json.dumps([name, part]) + "\n")

    def finish(self) -> None:
        """The work is done and written elsewhere."""
        self.path.unlink(missing_ok=True)
