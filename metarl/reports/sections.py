"""The data that a page shows: one section per run, and comparisons of runs."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from metarl.reports.drawing import Picture
from metarl.reports.reading import Reading
from metarl.reports.tables import Table


class Tile(NamedTuple):
    """A headline number, shown large."""

    value: str
    label: str


@dataclass(frozen=True)
class Video:
    """A video, embedded as `data`, or linked to by `address`."""

    name: str
    address: str
    data: str = ""

    @property
    def moving_picture(self) -> bool:
        """Whether it is a GIF, which the page shows as a picture."""
        return self.data.startswith("data:image/")


@dataclass(frozen=True)
class Beside:
    """Meta-World's figure, with its engine and rules, next to that of `all-goals`."""

    upstream: str
    ours: str
    engine: str
    rules: str
    sentence: str


@dataclass(frozen=True)
class Part:
    """Pictures and tables under a heading, with an optional note."""

    heading: str
    pictures: Sequence[Picture] = ()
    tables: Sequence[Table] = ()
    note: str = ""


@dataclass(frozen=True)
class Section:
    """The page's section about a run."""

    anchor: str
    run: Reading
    status: str
    tiles: Sequence[Tile]
    sentences: Sequence[str]
    warnings: Sequence[str]
    parts: Sequence[Part]
    results: Sequence[Table]
    details: Sequence[Table]
    beside: Sequence[Beside] = ()
    videos: Sequence[Video] = ()


@dataclass(frozen=True)
class Comparison:
    """The page's comparison of runs, or the reasons why some cannot be compared."""

    title: str
    sentences: Sequence[str] = ()
    reasons: Sequence[str] = ()
    pictures: Sequence[Picture] = ()
    tables: Sequence[Table] = ()
