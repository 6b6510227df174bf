"""Formats numbers and intervals for reports."""

from collections.abc import Callable, Sequence
from math import floor, log10
from typing import Any

Interval = Sequence[float | None]
"""Mean, low, high; the ends are None if they are unknown."""


def percent(x: float) -> str:
    """A share in whole percent; 99.6 % does not become 100 %, nor 0.4 % zero."""
    rounded = round(100 * x)
    if (rounded == 100 and x < 1) or (rounded == 0 and x > 0):
        return f"{100 * x:.1f}\N{NO-BREAK SPACE}%"
    return f"{rounded}\N{NO-BREAK SPACE}%"


def _bounds(interval: Interval, scale: float, form: str) -> str:
    _, low, high = interval
    return (
        ""
        if low is None or high is None
        else f" [{signless_zero(scale * low, form)},\N{NO-BREAK SPACE}{signless_zero(scale * high, form)}]"
    )


def signless_zero(x: float, form: str) -> str:
    """Format a number, without a sign if it rounds to 0."""
    text = f"{x:{form}}"
    return text.lstrip("+-") if not text.strip("+-0.") else text


def percent_of(interval: Interval) -> str:
    """Format a share, as 98 % [90, 100]."""
    return percent(interval[0] or 0.0) + _bounds(interval, 100, ".0f")


def points_of(interval: Interval) -> str:
    """Format a difference of shares, as +58 points [+46, +71]."""
    value = round(100 * (interval[0] or 0.0))
    return f"{signless_zero(value, '+.0f')} point{'s' * (abs(value) != 1)}" + _bounds(interval, 100, "+.0f")


def number_of(interval: Interval) -> str:
    """Format a number, as 4,769 [4,726, 4,812]; if mean and ends are below 100, as -8.3 [-9.1, -7.5]."""
    return _plain(interval, f",.{_tenth(interval)}f")


def change_of(interval: Interval) -> str:
    """Format a difference, as +1,241 [+971, +1,511]; if mean and ends are below 100, as +8.3 [+7.5, +9.1]."""
    return _plain(interval, f"+,.{_tenth(interval)}f")


def _plain(interval: Interval, form: str) -> str:
    return signless_zero(interval[0] or 0.0, form) + _bounds(interval, 1, form)


def _tenth(interval: Interval) -> int:
    return int(0 < max(abs(x or 0.0) for x in interval) < 100)


def share_of(interval: Interval) -> str:
    """Format a share with tenths of a percent, as 98.7 % [98.5, 98.9]. Only an exact 100 % is written as 100.0 %."""
    value = 100 * (interval[0] or 0.0)
    text = f"{value:.1f}" if f"{value:.1f}" != "100.0" or value == 100 else f"{min(value, 99.99):.2f}"
    return f"{text}\N{NO-BREAK SPACE}%" + _bounds(interval, 100, ".1f")


def tenths_of(interval: Interval) -> str:
    """Format a difference of shares with tenths, as +1.2 points [+0.9, +1.5]."""
    return f"{signless_zero(100 * (interval[0] or 0.0), '+.1f')} points" + _bounds(interval, 100, "+.1f")


def error_of(interval: Interval) -> str:
    """Format a mean squared error, as 0.214 [0.203, 0.225]; the interval's width sets the decimals."""
    return _plain(interval, f",.{_decimals(interval)}f")


def error_change_of(interval: Interval) -> str:
    """Format a difference of mean squared errors, as -1.52 [-1.61, -1.43]."""
    return _plain(interval, f"+,.{_decimals(interval)}f")


def _decimals(interval: Interval) -> int:
    """Decimals that show two digits of an interval's half width, or three digits of a number without interval."""
    mean, low, high = interval
    known = low is not None and high is not None and high > low
    size, digits = ((high - low) / 2, 2) if known else (abs(mean or 0.0), 3)  # type: ignore[operator]
    return min(max(digits - 1 - floor(log10(size)), 0), 8) if size > 0 else 0


FORMS: dict[str, Callable[[Any], str]] = {
    "text": str,
    "percent": percent_of,
    "points": points_of,
    "number": number_of,
    "change": change_of,
    "share": share_of,
    "tenths": tenths_of,
    "error": error_of,
    "error change": error_change_of,
}
"""Formatters of table cells and sentences, by kind."""
