"""What a command line names, where that decides which options its command has. The parser then reads it with these."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields, is_dataclass, make_dataclass
from typing import Any, get_args

import tyro


@dataclass(frozen=True)
class Named:
    """A command line as far as it is understood before its command is known.

    Attributes:
        places: what stands in it without an option's name: runs, suites.
        options: values of options that are given, by name, as text.
        help: whether it asks for help.
    """

    places: tuple[str, ...]
    options: dict[str, str]
    help: bool


def glance(args: Sequence[str], *commands: Any) -> Named:
    """Read a command line by all options of some commands at once, which decide what is an option's value.

    Args:
        args: the command line.
        commands: dataclasses or objects of them, such as the command will be read by.
    """
    options = {name: default for command in commands for name, default in _options(command)}
    places = ("places", tyro.conf.Positional[tuple[str, ...]], ())
    known = make_dataclass("Known", [places, *(_loosely(*option) for option in options.items())])
    found: Any
    found, others = tyro.cli(known, args=args, add_help=False, return_unknown_args=True)
    given = {name: value for name in options if isinstance(value := getattr(found, name), str) and value}
    return Named(found.places, given, not {"-h", "--help"}.isdisjoint(others))


def _options(command: Any) -> Iterable[tuple[str, Any]]:
    """Names of the options, and their defaults (None: there is none)."""
    for field in fields(command):
        default = getattr(command, field.name, None)
        if is_dataclass(default):
            yield from _options(default)
        elif tyro.conf.Positional not in get_args(field.type):
            yield field.name, default


def _loosely(name: str, default: Any) -> tuple[str, Any, Any]:
    """The option as one that takes any text, and as much of it."""
    if isinstance(default, bool):
        return name, bool, default
    return (name, tuple[str, ...], ()) if isinstance(default, tuple) else (name, str, "")
