"""Builds the page: makes a section for each run and renders them to one HTML file. Called by `metarl report`."""

import base64
import hashlib
import os
import time
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from urllib.parse import quote

import jinja2
from markupsafe import Markup

import metarl
from metarl.agents import CONTROL, FEW_SHOT
from metarl.reports.control import section as robots
from metarl.reports.fewshot import section as fewshot
from metarl.reports.reading import VIDEOS, Reading
from metarl.reports.sections import Comparison, Section, Video
from metarl.system.counts import plural
from metarl.system.machine import worker_count
from metarl.system.printable import printable
from metarl.system.processes import process_map

VIDEO_BYTES = 6_000_000
"""Maximum size of the videos embedded in a page, over all runs; the page links to the others."""
_FEW = 4
"""Below this number of runs, drawing in one process is faster than starting others."""
_SECTIONS = {CONTROL: robots.section, FEW_SHOT: fewshot.section}


@dataclass
class Videos:
    """Embeds videos until the size limit is reached.

    Attributes:
        page: the page's folder, to which links to videos are relative.
        room: bytes that may still be embedded.
    """

    page: Path
    room: int = field(default=VIDEO_BYTES)

    def of(self, run: Reading) -> list[Video]:
        """The run's videos, newest first."""
        videos = []
        for path in run.videos:
            size, data = path.stat().st_size, ""
            if 0 < size <= self.room:
                self.room -= size
                data = f"data:{VIDEOS[path.suffix]};base64," + base64.b64encode(path.read_bytes()).decode()
            videos.append(Video(printable(path.name), quote(os.path.relpath(path, self.page)), data))
        return videos


def sections(runs: Sequence[Reading], page: Path) -> list[Section]:
    """Make the section of each run. Drawing takes about a second per run, so several processes share many runs.

    Args:
        runs: the runs as read.
        page: the path of the page.
    """
    numbers, videos = range(1, len(runs) + 1), Videos(page.resolve().parent)
    if len(runs) < _FEW or worker_count() == 1:
        without_videos = list(map(section, numbers, runs))
    else:
        died = "a process that draws figures died (out of memory?): report fewer runs at once"
        with closing(process_map(section, zip(numbers, runs), min(worker_count(), len(runs)), died=died)) as results:
            without_videos = list(results)
    return [replace(each, videos=videos.of(each.run)) for each in without_videos]


def section(number: int, run: Reading) -> Section:
    """Make the section of a run. Without an evaluation it has fewer parts."""
    return _SECTIONS[run.training](f"run-{number}", run)


@lru_cache(maxsize=1)
def _environment() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("metarl.reports", "."),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    environment.globals["plural"] = plural
    return environment


def render(sections: Sequence[Section], comparisons: Sequence[Comparison], assets: str) -> str:
    """Render the HTML file. Its policy allows only its own style and embedded pictures and videos: no requests, no scripts."""
    style, _, _ = _environment().loader.get_source(_environment(), "style.css")  # type: ignore[union-attr]
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    policy = (
        f"default-src 'none'; style-src 'sha256-{digest}'; img-src data:; media-src data:; base-uri 'none'; form-action 'none'"
    )
    return (
        _environment()
        .get_template("page.html")
        .render(
            sections=sections,
            comparisons=comparisons,
            style=Markup(style),
            policy=policy,
            assets=assets,
            version=metarl.__version__,
            made=time.strftime("%Y-%m-%d %H:%M"),
        )
    )
