"""Names of files and folders made from texts of the user's: visible, and never the same for two different texts."""

import hashlib
import re

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
