"""Defines the common part of evaluation files, and the helpers of their checkers.

A file is a JSON object of one of the forms `ControlEvaluation`, `UpstreamEvaluation` and `FewShotEvaluation`. Each form has one
checker. A checker takes the content of a file as `read` returns it, fills in what older versions did not write, and raises one
of `FAULTS` if no report could be made from it.
"""

import json
import math
from collections.abc import Collection, Mapping
from pathlib import Path
from types import UnionType
from typing import Any, NotRequired, TypedDict, get_origin, get_type_hints, is_typeddict

import numpy as np

from metarl.evaluation.migration import migrated

Content = Mapping[str, Any]
"""An evaluation of any form."""
Row = list[Any]
"""Mean, low and high of an interval; the ends are None if they are unknown."""
FAULTS = (OSError, ValueError, LookupError, TypeError, AttributeError, OverflowError, RecursionError)
"""The exceptions that reading and checking a faulty file raises."""


class Trained(TypedDict):
    """The suite that a run was trained on."""

    suite: str
    suite_seed: int


class Header(TypedDict):
    """Keys of all forms: the run and its checkpoint."""

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


def read(path: Path) -> dict[str, Any]:
    """Read an evaluation file; its keys get their current names. Raises one of `FAULTS`."""
    return migrated(read_object(path))


def read_object(path: Path) -> dict[str, Any]:
    """Read a file that holds a JSON object; infinite numbers become None. Raises one of `FAULTS`."""
    # older versions wrote the unknown ends of intervals as Infinity
    content = json.loads(path.read_text(), parse_constant=lambda constant: None)
    if not isinstance(content, dict):
        raise ValueError("not an object")
    return content


def typed(content: Content, form: type) -> None:
    """Raise one of `FAULTS` unless the values have the types of the form; optional keys may be absent or null."""
    optional: Collection[str] = form.__optional_keys__  # type: ignore[attr-defined]
    for key, kind in get_type_hints(form).items():
        if key in optional and content.get(key) is None:
            continue
        plain = dict if is_typeddict(kind) else kind if isinstance(kind, UnionType) else get_origin(kind) or kind
        true(isinstance(content[key], plain))


def known(content: Any, names: Collection[str]) -> None:
    """Raise ValueError unless it is a non-empty dict with only these keys, since keys become file names and words."""
    if not isinstance(content, dict) or not content or not content.keys() <= set(names):
        raise ValueError("unknown keys")


def true(*conditions: bool) -> None:
    """Raise ValueError unless all conditions hold."""
    if not all(conditions):
        raise ValueError("a value of the wrong type")


def number(value: Any) -> bool:
    """Whether the value is a finite number."""
    return isinstance(value, int | float) and math.isfinite(value)


def numbers(rows: Any, shape: tuple[int, ...], *, ends: bool = False) -> np.ndarray:
    """Check and return finite numbers of this shape; with `ends`, the second and third of each row may be null."""
    array = np.array(rows, dtype=float)  # null becomes NaN
    true(array.shape == shape, not np.isnan(array[..., 0] if ends else array).any(), not np.isinf(array).any())
    return array


def counted(value: Any, least: int = 0) -> int:
    """Check and return a whole number that is at least `least`."""
    true(isinstance(value, int), not isinstance(value, bool))
    true(least <= value < 10**12)
    return value


def texts(value: Any) -> list[str]:
    """Check and return a list of texts."""
    true(isinstance(value, list))
    true(all(isinstance(name, str) for name in value))
    return value
