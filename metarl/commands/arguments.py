"""Reads a command line before its options are known: `train` and `evaluate` choose their options by the agent it names."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields, is_dataclass, make_dataclass
from typing import Any, get_args

import tyro


@dataclass(frozen=True)
class CommandLine:
    """A command line, read before its final options are known.

    Attributes:
        positionals: its positional arguments: runs, suites.
        options: the values of the options given, by name, as text.
        help: whether it asks for help.
    """

    positionals: tuple[str, ...]
    options: dict[str, str]
    help: bool


def read_command_line(args: Sequence[str], *commands: Any) -> CommandLine:
    """Read a command line with the options of several commands at once, to tell positional arguments from option values.

    Args:
        args: the command line.
        commands: the dataclasses, or instances of them, that may parse the command line later.
    """
    options = {name: default for command in commands for name, default in _options(command)}
    positionals = ("positionals", tyro.conf.Positional[tuple[str, ...]], ())
    known = make_dataclass("Known", [positionals, *(_text_field(*option) for option in options.items())])
    parsed: Any
    parsed, unparsed = tyro.cli(known, args=args, add_help=False, return_unknown_args=True)
    values = {name: value for name in options if isinstance(value := getattr(parsed, name), str) and value}
    return CommandLine(parsed.positionals, values, not {"-h", "--help"}.isdisjoint(unparsed))


def _options(command: Any) -> Iterable[tuple[str, Any]]:
    """Yield the name and the default of each option (None: no default)."""
    for field in fields(command):
        default = getattr(command, field.name, None)
        if is_dataclass(default):
            yield from _options(default)
        elif tyro.conf.Positional not in get_args(field.type):
            yield field.name, default


def _text_field(name: str, default: Any) -> tuple[str, Any, Any]:
    """Turn an option into a field that accepts any text; flags stay flags, tuples take any number of texts."""
    if isinstance(default, bool):
        return name, bool, default
    return (name, tuple[str, ...], ()) if isinstance(default, tuple) else (name, str, "")
