"""Which values settings and options may have: intervals, written as such, checked in one place."""

import math
import re
from dataclasses import fields
from typing import Any, get_args

from metarl.errors import UserError

_MOST = 10**15
"""Of whole numbers without a bound of their own: more than any of them can count, and exact as a float."""
SIZES = "[1, 1000000]"
"""Of layers: a larger one has more weights than any memory holds."""
_LARGEST = 1e30
"""Of other numbers: what is computed in float32 ends at 3e38."""
_FORM = re.compile(r"([\[(])(\S+), (\S+)([\])])")


def check(settings: Any, **intervals: str) -> None:
    """Check the numbers of a dataclass.

    Args:
        settings: an object of a dataclass. Whatever else it holds, its numbers must be finite; so must those in its tuples.
        intervals: by field such as gamma="[0, 1)"; "inf" is no bound. None is in any where the field may be None.

    Raises:
        UserError: one lies outside; NaN lies in no interval.
        TypeError: a field with an interval holds no number.
    """
    by_name = {field.name: field for field in fields(settings)}
    if not intervals.keys() <= by_name.keys():
        raise KeyError(f"{type(settings).__name__} has no {', '.join(intervals.keys() - by_name.keys())}")
    for name, field in by_name.items():
        value, interval = getattr(settings, name), intervals.get(name)
        for entry in value if isinstance(value, tuple) else (value,):
            if isinstance(entry, int | float) and not isinstance(entry, bool):
                within(name, entry, interval or "(-inf, inf)")
            elif interval and not (entry is None and type(None) in get_args(field.type)):
                raise TypeError(f"{name} is no number")


def within(name: str, value: float, interval: str) -> None:
    """Check a number; see `check`.

    Raises:
        UserError: it lies outside.
    """
    found = _FORM.fullmatch(interval)
    assert found, interval
    opened, low, high, closed = found.groups()
    least, most = float(low), float(high)
    above = least <= value if opened == "[" else least < value
    below = value <= most if closed == "]" else value < most
    whole, shown = isinstance(value, int), str(value)[:30]
    if above and below and abs(value) <= (_MOST if whole else _LARGEST):
        return
    if whole and not above:
        raise UserError(f"{name} must be at least {least + (opened == '('):,.0f}, not {shown}")
    if whole:
        raise UserError(f"{name} must be at most {min(most, _MOST):,.0f}, not {shown}")
    if above and below:
        raise UserError(f"{name} must lie between -{_LARGEST:g} and {_LARGEST:g}, not {shown}")
    if most < math.inf or least == -math.inf:
        raise UserError(f"{name} must {'be finite' if most == math.inf else f'lie in {interval}'}, not {shown}")
    raise UserError(f"{name} must be {'positive' if opened == '(' else f'at least {low}'} and finite, not {shown}")
