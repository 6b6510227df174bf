"""Names of files and folders made from texts of the user's: visible, and never the same for two different texts."""

import hashlib
import re
from collections.abc import Mapping
from dataclasses import fields
from typing import Any

_MOST = 80
"""Characters of a name before its digest; a file system takes 255 bytes, and other parts come beside it."""


def file_name(*parts: str) -> str:
    """A name for a file or a folder: the same for the same parts, another one for others.

    Parts such as ml1:reach-v3 and still.py:Still stay as they are, but for the colon. Where more has to be replaced or cut, or
    the name would be hidden or look like an option, the beginning of a SHA-256 follows.
    """
    plain = re.sub(r"[^A-Za-z0-9_.-]+", "-", "_".join(parts))[:_MOST].lstrip("-._")
    if plain == "_".join(part.replace(":", "-", 1) for part in parts):
        return plain
    digest = hashlib.sha256("\0".join(parts).encode("utf-8", "surrogatepass")).hexdigest()
    return "-".join(filter(None, (plain, digest[:8])))


def suffix(plan: Any, letters: Mapping[str, str]) -> str:
    """What a file's name says of settings that are not the default: "_t4" of 4 trials with {"trials": "t"}.

    Args:
        plan: an object of a dataclass.
        letters: what stands before the value of each of its fields that count.
    """
    values = {field.name: getattr(plan, field.name) for field in fields(plan) if getattr(plan, field.name) != field.default}
    return "".join(f"_{letter}{file_name(str(values[name]))}" for name, letter in letters.items() if name in values)
