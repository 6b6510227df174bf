"""What the files of evaluations have in common, and the checks by which they are read.

A file is a JSON object of one of the forms `ControlEvaluation`, `StockEvaluation` and `FewShotEvaluation`. Each form has one
checker. A checker takes what a file holds, fills in what older versions did not write, and raises one of `FAULTS` where a
report could not be made of it.
"""

import json
import math
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from types import UnionType
from typing import Any, NotRequired, TypedDict, get_origin, get_type_hints, is_typeddict

import numpy as np

Content = Mapping[str, Any]
"""An evaluation of any form."""
Row = list[Any]
"""Mean, low and high of an interval; the ends are None where they cannot be known."""
FAULTS = (OSError, ValueError, LookupError, TypeError, AttributeError, OverflowError, RecursionError)
"""What reading and checking a file raises where it is not what it should be."""


class Trained(TypedDict):
    """What a run was trained on."""

    suite: str
    suite_seed: int


class Header(TypedDict):
    """What all forms say of the run and its checkpoint."""

    protocol: NotRequired[str]
    run: str
    agent: str
    suite: str
    run_seed: int
    checkpoint: str
    step: int
    seed: NotRequired[int]
    device: NotRequired[str]
    packages: NotRequired[dict[str, Any]]
    git_commit: NotRequired[str | None]


def read(path: Path, check: Callable[[dict[str, Any]], Any]) -> Any:
    """What the checker makes of a file. Raises one of `FAULTS`."""
    # ends of intervals that older versions wrote as Infinity are unknown
    content = json.loads(path.read_text(), parse_constant=lambda constant: None)
    if not isinstance(content, dict):
        raise ValueError("not an object")
    return check(content)


def typed(content: Content, form: type) -> None:
    """Raise one of `FAULTS` unless the values have the types of the form; what it does not require may be absent or null."""
    optional: Collection[str] = form.__optional_keys__  # type: ignore[attr-defined]
    for key, kind in get_type_hints(form).items():
        if key in optional and content.get(key) is None:
            continue
        plain = dict if is_typeddict(kind) else kind if isinstance(kind, UnionType) else get_origin(kind) or kind
        true(isinstance(content[key], plain))


def known(found: Any, names: Collection[str]) -> None:
    """Raise ValueError but for a dict with some of these keys, and no other: keys may become names of files, and words."""
    if not isinstance(found, dict) or not found or not found.keys() <= set(names):
        raise ValueError("keys that are not known")


def true(*conditions: bool) -> None:
    """Raise ValueError unless all conditions hold."""
    if not all(conditions):
        raise ValueError("a value of the wrong kind")


def number(value: Any) -> bool:
    """Whether it is a finite number."""
    return isinstance(value, int | float) and math.isfinite(value)


def numbers(rows: Any, shape: tuple[int, ...], *, ends: bool = False) -> np.ndarray:
    """Finite numbers of this shape; with `ends` each row's second and third may be null."""
    array = np.array(rows, dtype=float)  # null becomes NaN
    true(array.shape == shape, not np.isnan(array[..., 0] if ends else array).any(), not np.isinf(array).any())
    return array


def counted(value: Any, least: int = 0) -> int:
    """A whole number from `least` on."""
    true(isinstance(value, int), not isinstance(value, bool))
    true(least <= value < 10**12)
    return value


def texts(value: Any) -> list[str]:
    """A list of texts."""
    true(isinstance(value, list))
    true(all(isinstance(name, str) for name in value))
    return value
