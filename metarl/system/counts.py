"""Parse whole numbers from the command line, such as 2e6 or 2_000_000, and format counts with nouns: 1 goal, 2 goals."""

from decimal import Decimal, InvalidOperation
from typing import Annotated

import tyro


def parse(text: str) -> int:
    """Parse a whole number: accepts 2e6 and 2_000_000, rejects 2.5.

    Raises:
        ValueError: it is not a whole number.
    """
    try:
        number = Decimal(text.replace("_", "").replace(",", ""))
    except InvalidOperation:
        raise ValueError(f"{text!r} is not a number") from None
    if number.is_finite() and number.adjusted() > 15:
        raise ValueError(f"{text[:30]} is too large")
    if not number.is_finite() or number != int(number):
        raise ValueError(f"{text} is not a whole number")
    return int(number)


Count = Annotated[
    int,
    tyro.constructors.PrimitiveConstructorSpec(
        nargs=1,
        metavar="INT",
        instance_from_str=lambda args: parse(args[0]),
        is_instance=lambda value: isinstance(value, int),
        str_from_instance=lambda value: [f"{value:_}"],
    ),
]
"""An int that the command line also accepts as 2e6."""


def plural(n: int, word: str) -> str:
    """Format a count with its noun: 1 goal, 50 goals, 5 classes, 2 queries"""
    if n == 1:
        return f"1 {word}"
    many = f"{word[:-1]}ies" if word.endswith("ry") else f"{word}{'es' if word.endswith('s') else 's'}"
    return f"{n:,} {many}"
