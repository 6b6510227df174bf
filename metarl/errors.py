"""The one error that stands for wrong input, and how a wrong name is answered."""

from collections.abc import Iterable
from difflib import get_close_matches


class UserError(ValueError):
    """Wrong input. The command line prints the message, without a traceback, and exits with status 2."""


def unknown(kind: str, name: str, known: Iterable[str]) -> UserError:
    """A `UserError` for a name that does not exist, naming the nearest ones (or all, where none is near)."""
    known = list(known)
    shown = repr(name if len(name) <= 100 else f"{name[:100]}...")
    near = get_close_matches(name, known, n=3, cutoff=0.5) or [k for k in known if name and name in k][:5]
    if near:
        return UserError(f"unknown {kind} {shown}. Did you mean {' or '.join(near)}?")
    return UserError(f"unknown {kind} {shown}. There are: {', '.join(known)}")
