"""What a page is made of: a section a run, and comparisons of runs."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from metarl.reports.drawing import Picture
from metarl.reports.reading import Reading
from metarl.reports.tables import Table


class Tile(NamedTuple):
    """A number large enough to be read first."""

    value: str
    label: str


@dataclass(frozen=True)
class Video:
    """A video: embedded as `data`, or named only."""

    name: str
    address: str
    data: str = ""

    @property
    def moving_picture(self) -> bool:
        """Whether it is a GIF, which pages show as they show pictures."""
        return self.data.startswith("data:image/")


@dataclass(frozen=True)
class Beside:
    """Meta-World's figure beside that of all goals alike."""

    stock: str
    ours: str
    engine: str
    sentence: str


@dataclass(frozen=True)
class Part:
    """Pictures and tables under a heading, with a sentence where they need one."""

    heading: str
    pictures: Sequence[Picture] = ()
    tables: Sequence[Table] = ()
    note: str = ""


@dataclass(frozen=True)
class Section:
    """What the page shows of a run."""

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
    """What the page shows of runs that can be compared, or why some cannot."""

    title: str
    sentences: Sequence[str] = ()
    reasons: Sequence[str] = ()
    pictures: Sequence[Picture] = ()
    tables: Sequence[Table] = ()
