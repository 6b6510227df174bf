"""Split classes into training, validation and test, depending only on the names of the classes and a seed."""

import hashlib
from collections.abc import Iterable, Sequence

from metarl.datasets.episodes import Part
from metarl.errors import UserError
from metarl.system.counts import plural


def shuffled(names: Iterable[str], seed: int) -> list[str]:
    """Order the names by the SHA-256 of "seed name": the same on every machine and with every version of numpy."""
    return sorted(names, key=lambda name: hashlib.sha256(f"{seed} {name}".encode("utf-8", "surrogatepass")).digest())


def split_by_count(names: Sequence[str], train: int, validation: int) -> dict[str, Part]:
    """Assign the first names to training, the next to validation, all others to test."""
    return {name: "train" if i < train else "validation" if i < train + validation else "test" for i, name in enumerate(names)}


def held_out(classes: int) -> int:
    """Return how many classes are for test; the same number is for validation."""
    return max(1, round(classes / 5))


def split_by_share(names: Sequence[str], seed: int, data_set: str) -> tuple[dict[str, Part], str]:
    """Assign 60 % of the classes to training and 20 % each to validation and test; also return a sentence about the split.

    Raises:
        UserError: fewer than three classes.
    """
    count = plural(len(names), "class")
    if len(names) < 3:
        raise UserError(f"{data_set} has {count}: a split into training, validation and test needs at least 3")
    held_count = held_out(len(names))
    train = len(names) - 2 * held_count
    sentence = (
        f"{count} in an order drawn with seed {seed}: {train} for training, {held_count} for validation, {held_count} for test"
    )
    return split_by_count(shuffled(names, seed), train, held_count), sentence
