"""Looks at what is held out: each finished evaluation on held-out goals or classes adds a line to evaluations/looks.jsonl.

The number of looks tells how far choices may have been fitted to the held-out goals or classes.
"""

import json
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any, TypedDict

from metarl.system.files import writing
from metarl.system.json_types import convert

LOOKS = "evaluations/looks.jsonl"
"""The file's path in a run directory."""


class Look(TypedDict):
    """A finished evaluation on held-out goals or classes; of few-shot learners, the suite is the data set and its split."""

    time: str
    protocol: str
    checkpoint: str
    step: int
    suite: str
    suite_seed: int


def suite_seed(options: Mapping[str, Any]) -> Any:
    """The suite seed in the options of a training, 1 by default; of a few-shot learner, the split seed."""
    return options.get("suite_seed", options.get("split_seed", 1))


def append_look(path: Path, content: Mapping[str, Any]) -> None:
    """Append a line for an evaluation that is finished now; `content` has the other keys of a `Look`, among others."""
    now = {"time": datetime.now().astimezone().isoformat(timespec="seconds")}
    look = {key: {**content, **now}[key] for key in Look.__annotations__}
    with writing(str(path)):
        path.parent.mkdir(parents=True, exist_ok=True)
        cut_off = path.exists() and not path.read_bytes().endswith(b"\n")  # by a crash
        with path.open("a") as file:
            file.write("\n" * cut_off + json.dumps(look) + "\n")


def read_looks(path: Path) -> list[Look]:
    """The looks in a file, which need not exist; incomplete and damaged lines are left out."""
    looks = []
    for line in path.read_text(errors="replace").splitlines() if path.is_file() else ():
        try:
            looks.append(convert(json.loads(line), Look))
        except (ValueError, RecursionError):
            continue
    return looks
