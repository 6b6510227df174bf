"""Which classes are trained on: splits that depend on the names of the classes and a seed, and on nothing else."""

import hashlib
from collections.abc import Iterable, Sequence

from metarl.datasets.episodes import Part
from metarl.errors import UserError
from metarl.system.counts import plural


def shuffled(names: Iterable[str], seed: int) -> list[str]:
    """The names in the order of SHA-256 of "seed name": the same on every machine and with every version of numpy."""
    return sorted(names, key=lambda name: hashlib.sha256(f"{seed} {name}".encode("utf-8", "surrogatepass")).digest())


def cut(names: Sequence[str], train: int, validation: int) -> dict[str, Part]:
    """The first names are for training, the next for validation, all others for test."""
    return {name: "train" if i < train else "validation" if i < train + validation else "test" for i, name in enumerate(names)}


def held_out(classes: int) -> int:
    """How many of so many classes are for the test, and as many for validation."""
    return max(1, round(classes / 5))


def by_share(names: Sequence[str], seed: int, what: str) -> tuple[dict[str, Part], str]:
    """60 % of the classes for training, 20 % each for validation and test; and a sentence that says so.

    Raises:
        UserError: fewer than three classes.
    """
    count = plural(len(names), "class")
    if len(names) < 3:
        raise UserError(f"{what} has {count}: a part each for training, validation and test takes 3 or more")
    held = held_out(len(names))
    train = len(names) - 2 * held
    sentence = f"{count} in an order drawn with seed {seed}: {train} for training, {held} for validation, {held} for test"
    return cut(shuffled(names, seed), train, held), sentence
