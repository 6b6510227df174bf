"""`UserError`, raised for invalid input, and a helper that suggests similar names for unknown ones."""

from collections.abc import Iterable
from difflib import get_close_matches


class UserError(ValueError):
    """Invalid input. The command line prints the message without a traceback and exits with status 2."""


def unknown(kind: str, name: str, known: Iterable[str]) -> UserError:
    """Return a `UserError` for an unknown name, listing similar names, or all names if none is similar."""
    known = list(known)
    shown = repr(name if len(name) <= 100 else f"{name[:100]}...")
    near = get_close_matches(name, known, n=3, cutoff=0.5) or [k for k in known if name and name in k][:5]
    if near:
        return UserError(f"unknown {kind} {shown}. Did you mean {' or '.join(near)}?")
    return UserError(f"unknown {kind} {shown}. There are: {', '.join(known)}")
