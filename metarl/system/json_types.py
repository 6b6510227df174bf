"""Convert values read from JSON to the types that the program declares, and refuse values of other kinds by their key."""

import json
import types
from contextlib import suppress
from dataclasses import MISSING, fields, is_dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints, is_typeddict

from metarl.errors import unknown
from metarl.system.printable import short

_WORDS: dict[Any, str] = {
    bool: "true or false",
    int: "a whole number",
    float: "a number",
    str: "text",
    Path: "text",
    list: "a list",
    tuple: "a list",
    dict: "an object",
    types.NoneType: "null",
}
"""What JSON calls the values of each type."""


def convert(value: Any, kind: Any, key: str = "") -> Any:
    """Convert a value to a type.

    Args:
        value: read from JSON.
        kind: a type of `_WORDS`, a union or Literal, or a dataclass or TypedDict of such. A dataclass has no other entries than
            its fields; a TypedDict may have. Values of any other type are returned as they are.
        key: place of the value in its file, such as options.goals; empty: it is the whole file.

    Raises:
        ValueError: the value is of another kind, or an entry is missing or unknown; the message names its key.
    """
    origin, arguments = get_origin(kind) or kind, get_args(kind)
    if origin is Annotated:
        return convert(value, arguments[0], key)
    if is_dataclass(kind) or is_typeddict(kind):
        return _object(value, kind, key)
    if origin in (Union, types.UnionType):
        for choice in arguments:
            with suppress(ValueError):
                return convert(value, choice, key)
    elif origin is Literal:
        if any(type(value) is type(choice) and value == choice for choice in arguments):
            return value
    elif origin in (list, tuple):
        if isinstance(value, list | tuple) and (kinds := _kinds_of_entries(origin, arguments, len(value))) is not None:
            return origin(convert(entry, each, f"{key}[{i}]") for i, (entry, each) in enumerate(zip(value, kinds)))
    elif origin is dict:
        if isinstance(value, dict):
            of_values = arguments[1] if arguments else Any
            return {name: convert(entry, of_values, _within(key, name)) for name, entry in value.items()}
    elif origin is float:
        if type(value) in (int, float):
            with suppress(OverflowError):
                return float(value)
    elif origin is Path:
        if isinstance(value, str):
            return Path(value)
    elif type(value) is origin or origin not in _WORDS:
        return value
    raise ValueError(f"{key or 'it'} must be {_in_words(kind)}, not {_shown(value)}")


def _object(value: Any, kind: Any, key: str) -> Any:
    """Convert to a dataclass or, leaving other entries as they are, to a TypedDict."""
    if not isinstance(value, dict):
        raise ValueError(f"{key or 'it'} must be an object, not {_shown(value)}")
    kinds = get_type_hints(kind)
    if is_dataclass(kind):
        of_init = {field.name: field for field in fields(kind) if field.init}
        required = {name for name, field in of_init.items() if field.default is field.default_factory is MISSING}
        for name in value:
            if name not in of_init:
                raise unknown(f"key in {key}", name, of_init)
    else:
        required = kind.__required_keys__
    for name in sorted(required - value.keys()):
        raise ValueError(f"{_within(key, name)} is missing")
    entries = {name: convert(entry, kinds[name], _within(key, name)) for name, entry in value.items() if name in kinds}
    return {**value, **entries} if is_typeddict(kind) else kind(**entries)


def _kinds_of_entries(origin: type, arguments: tuple[Any, ...], count: int) -> tuple[Any, ...] | None:
    """The type of each of this many entries of a list or tuple; None: it has another number of entries."""
    if not arguments:
        return (Any,) * count
    if origin is list or arguments[1:] == (...,):
        return arguments[:1] * count
    return arguments if len(arguments) == count else None


def _within(key: str, name: str) -> str:
    return f"{key}.{name}" if key else name


def _shown(value: Any) -> str:
    """A value as the file shows it, if it is short."""
    return short(json.dumps(value, default=str), 60)


def _in_words(kind: Any) -> str:
    origin, arguments = get_origin(kind) or kind, get_args(kind)
    if origin in (Union, types.UnionType):
        return " or ".join(dict.fromkeys(map(_in_words, arguments)))
    if origin is Literal:
        return " or ".join(map(repr, arguments))
    if origin is tuple and arguments[1:] != (...,):
        return f"a list of {len(arguments)}" if arguments else "a list"
    return _WORDS.get(origin, "an object")
