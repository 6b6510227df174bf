"""Make file and folder names from user-supplied texts: never hidden, and distinct for distinct texts."""

import hashlib
import re
from collections.abc import Mapping
from dataclasses import fields
from typing import Any

_MOST = 80
"""Characters of a name before its digest; file systems allow 255 bytes, and other parts are added to the name."""


def file_name(*parts: str) -> str:
    """Return a file or folder name that is the same for the same parts and differs for others.

    Parts such as ml1:reach-v3 and still.py:Still are unchanged except for the colon. If more must be replaced or cut, or the
    name would be hidden or look like an option, the start of a SHA-256 is appended.
    """
    plain = re.sub(r"[^A-Za-z0-9_.-]+", "-", "_".join(parts))[:_MOST].lstrip("-._")
    if plain == "_".join(part.replace(":", "-", 1) for part in parts):
        return plain
    digest = hashlib.sha256("\0".join(parts).encode("utf-8", "surrogatepass")).hexdigest()
    return "-".join(filter(None, (plain, digest[:8])))


def suffix(plan: Any, letters: Mapping[str, str]) -> str:
    """Return the file-name suffix for settings that differ from their defaults: "_t4" for 4 trials with {"trials": "t"}.

    Args:
        plan: an instance of a dataclass.
        letters: maps each relevant field to the prefix of its value.
    """
    values = {field.name: getattr(plan, field.name) for field in fields(plan) if getattr(plan, field.name) != field.default}
    return "".join(f"_{letter}{file_name(str(values[name]))}" for name, letter in letters.items() if name in values)
