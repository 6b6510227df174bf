"""Draw episodes: examples of some classes to learn from (the support), and others of the same classes to predict (the query).

All data is in memory, and an episode takes a few array operations, without a loop over classes or images.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import pairwise
from typing import Literal, NamedTuple, Protocol

import numpy as np
import torch
from torch import Tensor

from metarl.errors import UserError
from metarl.system.counts import plural

Part = Literal["train", "validation", "test"]
PARTS: tuple[Part, ...] = ("train", "validation", "test")
"""Parts of a data set; each class is in only one."""


class Examples(NamedTuple):
    """n examples of each of some tasks.

    Attributes:
        x: (tasks, n, *shape). Images: float32 in [0, 1], (channels, height, width); texts: int64 feature ids padded with 0,
            or float32 vectors; regression: float32, (1,).
        y: (tasks, n) int64, the class within the episode, 0 ... ways - 1; regression: (tasks, n, 1) float32.
    """

    x: Tensor
    y: Tensor


class Episode(NamedTuple):
    """Support and query of some tasks; the examples of a task are in random order.

    Attributes:
        support: ways * shots examples per task.
        query: ways * queries examples per task, none of which is in its support.
        classes: (tasks, ways) int64, index within the part of each class of the episode; None for regression.
    """

    support: Examples
    query: Examples
    classes: Tensor | None

    def map(self, function: Callable[[Tensor], Tensor]) -> "Episode":
        """Apply the function to every tensor."""
        support, query = (Examples(function(examples.x), function(examples.y)) for examples in (self.support, self.query))
        return Episode(support, query, None if self.classes is None else function(self.classes))

    def split(self, parts: int) -> list["Episode"]:
        """Split the tasks into parts whose sizes differ by at most one."""
        bounds = [len(self.support.x) * i // parts for i in range(parts + 1)]
        return [self.map(partial(_slice, first, last)) for first, last in pairwise(bounds)]


def _slice(first: int, last: int, tensor: Tensor) -> Tensor:
    return tensor[first:last]


class Data(Protocol):
    """A data set held in memory."""

    @property
    def name(self) -> str:
        """The name, as `metarl.datasets.catalog.data_set` takes it."""

    @property
    def kind(self) -> str:
        """See `Kind`."""

    @property
    def split(self) -> str:
        """A sentence that describes how the classes are split into parts."""

    @property
    def example_shape(self) -> tuple[int, ...]:
        """Shape of one example's x."""

    def classes(self, part: Part) -> Sequence[str]:
        """Return the names of a part's classes; empty for regression."""

    def draw(self, part: Part, rng: np.random.Generator, *, tasks: int, ways: int, shots: int, queries: int) -> Episode:
        """Draw an episode of `tasks` tasks; regression has no classes and ignores `ways`.

        Raises:
            UserError: the part has too few classes or examples.
        """


@dataclass(frozen=True)
class Pool:
    """All examples of one part, ordered by class.

    Attributes:
        names: names of the classes.
        values: (examples, *shape), grouped by class.
        counts: (classes,) int64, number of examples per class.
    """

    names: Sequence[str]
    values: np.ndarray
    counts: np.ndarray

    @staticmethod
    def of(classes: dict[str, np.ndarray], like: np.ndarray) -> "Pool":
        """Build a pool from the examples (n, *shape) of each class; `like` sets shape and type if there are no classes."""
        values = np.concatenate([like[:0], *classes.values()])
        return Pool(tuple(classes), values, np.array([len(v) for v in classes.values()], np.int64))


@dataclass(frozen=True)
class Resident:
    """A data set of classes, held in memory: see `Data`.

    Attributes:
        parts: the examples of each part: uint8 for images, integers or float32 vectors for texts.
        examples, group: words for examples and classes in messages.
    """

    name: str
    kind: str
    split: str
    parts: dict[Part, Pool] = field(repr=False)
    examples: str = "examples"
    group: str = "class"

    @property
    def example_shape(self) -> tuple[int, ...]:
        """See `Data`."""
        return self.parts["train"].values.shape[1:]

    def classes(self, part: Part) -> Sequence[str]:
        """See `Data`."""
        return self.parts[part].names

    def draw(self, part: Part, rng: np.random.Generator, *, tasks: int, ways: int, shots: int, queries: int) -> Episode:
        """See `Data`."""
        self._check(part, ways, shots, queries)
        pool = self.parts[part]
        classes = choose(rng.random((tasks, len(pool.counts))), ways)
        counts, starts = pool.counts[classes], (pool.counts.cumsum() - pool.counts)[classes]
        keys = rng.random((tasks, ways, int(counts.max())))
        keys[np.arange(keys.shape[2]) >= counts[:, :, None]] = 2  # padding, for classes with fewer examples
        rows = starts[:, :, None] + choose(keys, shots + queries)
        support, query = (self._examples(pool, part_rows, rng) for part_rows in (rows[:, :, :shots], rows[:, :, shots:]))
        return Episode(support, query, torch.from_numpy(classes))

    def first(self, part: Part, classes: Sequence[int]) -> Tensor:
        """Return the first example of each of these classes, as the x of `Examples`: (classes, *shape)."""
        pool = self.parts[part]
        return self._x(pool.values[(pool.counts.cumsum() - pool.counts)[list(classes)]])

    def _x(self, values: np.ndarray) -> Tensor:
        x = torch.from_numpy(values)
        return x.float().div_(255) if self.kind == "image" else x if x.is_floating_point() else x.long()

    def _examples(self, pool: Pool, rows: np.ndarray, rng: np.random.Generator) -> Examples:
        """Gather the rows (tasks, ways, n) of the pool as (tasks, ways * n) examples in random order."""
        tasks, ways, n = rows.shape
        order = rng.random((tasks, ways * n)).argsort(1)
        values = pool.values.take(np.take_along_axis(rows.reshape(tasks, -1), order, 1), 0)
        return Examples(self._x(values), torch.from_numpy(order // max(n, 1)))

    def _check(self, part: Part, ways: int, shots: int, queries: int) -> None:
        if ways < 2 or shots < 0 or queries < 1:
            raise UserError(f"an episode needs at least 2 ways, 0 shots and 1 query, not {ways}, {shots} and {queries}")
        pool = self.parts[part]
        if ways > len(pool.counts):
            raise UserError(f"{self.name} has {plural(len(pool.counts), f'{part} class')}: {ways} ways do not fit")
        smallest = int(pool.counts.argmin())
        if shots + queries > pool.counts[smallest]:
            scope = f"a {self.group}" if pool.counts.min() == pool.counts.max() else f"of {self.group} {pool.names[smallest]!r}"
            raise UserError(
                f"{self.name} has {plural(int(pool.counts[smallest]), self.examples.removesuffix('s'))} {scope}: "
                f"{plural(shots, 'shot')} + {plural(queries, 'query')} do not fit"
            )


def choose(keys: np.ndarray, n: int) -> np.ndarray:
    """Choose n distinct indices per row (..., indices): those with the smallest random keys, in order of the keys.

    They are sorted because the order that a partition leaves is not random, and positions in an episode are its labels.
    """
    indices = np.argpartition(keys, n - 1, axis=-1)[..., :n]
    return np.take_along_axis(indices, np.take_along_axis(keys, indices, -1).argsort(-1), -1)
