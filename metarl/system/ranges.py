"""Check that the numbers in settings and options lie within intervals such as "[0, 1)"."""

import math
import re
from dataclasses import fields
from typing import Any, get_args

from metarl.errors import UserError

_MOST = 10**15
"""Bound of whole numbers without an interval: larger than any count in use, and exact as a float."""
SIZES = "[1, 1000000]"
"""Interval of layer sizes: a larger layer has more weights than fit in any memory."""
_LARGEST = 1e30
"""Bound of other numbers: float32 ends at 3e38."""
_FORM = re.compile(r"([\[(])(\S+), (\S+)([\])])")


def check(settings: Any, **intervals: str) -> None:
    """Check the numbers in a dataclass.

    Args:
        settings: an instance of a dataclass. All of its numbers must be finite, including those in tuples.
        intervals: by field, such as gamma="[0, 1)"; "inf" means no bound. Fields that may be None accept None.

    Raises:
        UserError: a number lies outside its interval; NaN lies outside every interval.
        TypeError: a field with an interval is not a number.
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
                raise TypeError(f"{name} is not a number")


def within(name: str, value: float, interval: str) -> None:
    """Check one number, see `check`.

    Raises:
        UserError: the number lies outside.
    """
    parts = _FORM.fullmatch(interval)
    assert parts, interval
    opened, low, high, closed = parts.groups()
    least, most = float(low), float(high)
    above = least <= value if opened == "[" else least < value
    below = value <= most if closed == "]" else value < most
    whole, text = isinstance(value, int), str(value)[:30]
    if above and below and abs(value) <= (_MOST if whole else _LARGEST):
        return
    if whole and not above:
        raise UserError(f"{name} must be at least {least + (opened == '('):,.0f}, not {text}")
    if whole:
        raise UserError(f"{name} must be at most {min(most, _MOST):,.0f}, not {text}")
    if above and below:
        raise UserError(f"{name} must lie between -{_LARGEST:g} and {_LARGEST:g}, not {text}")
    if most < math.inf or least == -math.inf:
        raise UserError(f"{name} must {'be finite' if most == math.inf else f'lie in {interval}'}, not {text}")
    raise UserError(f"{name} must be {'positive' if opened == '(' else f'at least {low}'} and finite, not {text}")
