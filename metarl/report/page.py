"""The page: what it shows of each run, and the one file that it becomes."""

import base64
import hashlib
import math
import multiprocessing
import os
import signal
import statistics
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from typing import Any
from urllib.parse import quote

import jinja2
from markupsafe import Markup

import metarl
from metarl.console import clock
from metarl.curves import SIDES, headline, measured
from metarl.machine import worker_count
from metarl.report import figures
from metarl.report.drawing import Picture
from metarl.report.numbers import percent, plural
from metarl.report.reading import Reading, printable
from metarl.report.tables import Table
from metarl.report.verdicts import MODE, Tile, gap_of, main_side, sentences, stock_sentence, tiles, warnings

VIDEO_BYTES = 6_000_000
"""How much video is embedded in a page, all runs together; what is over it is linked to."""
_FEW = 4
"""Runs that are drawn before another process would have started."""


@dataclass(frozen=True)
class Video:
    """A video: embedded as `data`, or named only."""

    name: str
    address: str
    data: str = ""


@dataclass(frozen=True)
class Beside:
    """Meta-World's figure beside that of all goals alike."""

    stock: str
    ours: str
    engine: str
    sentence: str


@dataclass(frozen=True)
class Section:
    """What the page shows of a run."""

    anchor: str
    run: Reading
    status: str
    tiles: Sequence[Tile]
    sentences: Sequence[str]
    warnings: Sequence[str]
    beside: Sequence[Beside]
    pictures: dict[str, list[Picture]]
    results: Sequence[Table]
    details: Sequence[Table]
    videos: Sequence[Video] = ()


@dataclass(frozen=True)
class Comparison:
    """What the page shows of runs that can be compared, or why some cannot."""

    title: str
    sentences: Sequence[str] = ()
    reasons: Sequence[str] = ()
    pictures: Sequence[Picture] = ()
    tables: Sequence[Table] = ()


@dataclass
class Videos:
    """Embeds videos until their room is full.

    Attributes:
        page: the page's folder, from which videos that are not embedded are addressed.
        left: bytes.
    """

    page: Path
    left: int = field(default=VIDEO_BYTES)

    def of(self, run: Reading) -> list[Video]:
        """The run's videos, the newest first."""
        shown = []
        for path in run.videos:
            size, data = path.stat().st_size, ""
            if 0 < size <= self.left:
                self.left -= size
                data = "data:video/mp4;base64," + base64.b64encode(path.read_bytes()).decode()
            shown.append(Video(printable(path.name), quote(os.path.relpath(path, self.page)), data))
        return shown


def sections(runs: Sequence[Reading], page: Path) -> list[Section]:
    """What is shown of each run; drawing takes about a second a run, so several processes share many runs.

    Args:
        runs: what was read of them.
        page: where the page will be.
    """
    numbers, videos = range(1, len(runs) + 1), Videos(page.resolve().parent)
    if len(runs) < _FEW or worker_count() == 1:
        made = list(map(section, numbers, runs))
    else:
        spawn = multiprocessing.get_context("spawn")
        pool = ProcessPoolExecutor(min(worker_count(), len(runs)), spawn, _ignore_interrupts)
        try:
            made = list(pool.map(section, numbers, runs))
        finally:
            pool.shutdown(cancel_futures=True)
    return [replace(one, videos=videos.of(one.run)) for one in made]


def _ignore_interrupts() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent sees Ctrl-C and ends the work


def section(number: int, run: Reading) -> Section:
    """All that is shown of a run. A section of a run that was never evaluated has fewer parts."""
    content = run.evaluation
    pictures = {"How it learned": figures.learning(run)}
    beside: list[Beside] = []
    if content:
        side = main_side(content)
        bars = [one for each in content["sides"] for one in figures.by_task(content, each)]
        pictures = {"How it adapts": figures.adaptation(content), "Task by task": bars,
                    "Where the goals are": figures.goal_map(content, side), **pictures}  # fmt: skip
        beside = [_beside(stock, content) for stock in run.stock if stock["checkpoint"] == content["checkpoint"]]
        beside = beside if "test" in content["sides"] and headline(content) == "success" else []
    return Section(
        f"run-{number}", run, _status(run), tiles(content) if content else (), sentences(content) if content else (),
        warnings(run), beside, {title: some for title, some in pictures.items() if some}, _results(run), _details(run),
    )  # fmt: skip


def _beside(stock: dict[str, Any], content: dict[str, Any]) -> Beside:
    alike = content["sides"]["test"]["by_episode"]
    ours = alike["mean" if "mean" in alike else MODE]["success"][-1][0]
    return Beside(percent(stock["sides"]["test"]["success"]), percent(ours), stock["engine"], stock_sentence(stock, content))


def _status(run: Reading) -> str:
    options = run.config["options"]
    planned, per = options.get("steps"), [options.get(key) for key in ("num_envs", "episodes_per_trial", "horizon")]
    # --steps counts whole episodes; those that ended early took fewer
    whole = len(run.lines) * math.prod(per) if all(isinstance(n, int) for n in per) else 0
    done = f"{run.step:,} environment steps"
    if run.running:
        return f"running: {done} of {planned:,} so far" if isinstance(planned, int) else f"running: {done} so far"
    if isinstance(planned, int) and max(run.step, whole) < planned:
        return f"stopped at {done} of {planned:,}"
    return f"trained for {done}"


def _results(run: Reading) -> list[Table]:
    """The evaluation in figures: by side, by task, by episode; and other evaluations."""
    content, made = run.evaluation, []
    if content:
        columns = [("goals", "text"), *_columns(content)]
        rows = [[SIDES.get(s, s), *_row(figures)] for s, figures in content["sides"].items()]
        if {"train", "test"} <= content["sides"].keys():
            gap = [gap_of(content, measure) for measure in measured(content)]
            columns_of_gap = [("success", "points"), ("at the last step", "points"), ("return", "change")][-len(gap) :]
            caption = "Generalisation gap: train minus held-out goals, last episode, 95 % intervals"
            made.append(Table("gap", caption, columns_of_gap, [gap]))
        made.insert(
            0, Table("summary", "First and last episode of a trial, sampled actions, 95 % intervals over goals", columns, rows)
        )
        tasks = [[name, SIDES.get(s, s), *_row(figures)] for s, side in content["sides"].items()
                 for name, figures in side["by_task"].items()]  # fmt: skip
        if tasks:
            made.append(Table("tasks", "Task by task", [("task", "text"), *columns], tasks))
        made.append(_episodes(content))
    head = headline(content) if content else "success"
    others = [[c["protocol"], c["checkpoint"], c["suite"], str(c["suite_seed"]), SIDES.get(main_side(c), main_side(c)),
               *[c["sides"][main_side(c)]["by_episode"][MODE][head][e] for e in (0, -1)]]
              for c in run.others if head in measured(c)]  # fmt: skip
    if others:
        kind = "percent" if head == "success" else "number"
        columns = [("protocol", "text"), ("checkpoint", "text"), ("suite", "text"), ("suite seed", "text"), ("goals", "text"),
                   (f"{head} before", kind), (f"{head} after", kind)]  # fmt: skip
        made.append(Table("others", "Other evaluations of this run", columns, others))
    return made


def _columns(content: dict[str, Any]) -> list[tuple[str, str]]:
    """What `_row` gives of an evaluation."""
    if headline(content) == "return":
        return [("return before", "number"), ("return after", "number"), ("gain", "change")]
    return [("success before", "percent"), ("success after", "percent"), ("gain", "points"), ("last step after", "percent"),
            ("return after", "number")]  # fmt: skip


def _row(figures: dict[str, Any]) -> list[Any]:
    by, gain = figures["by_episode"][MODE], figures["gain"][MODE]
    if "success" not in by:
        return [by["return"][0], by["return"][-1], gain["return"]]
    return [by["success"][0], by["success"][-1], gain["success"], by["last_success"][-1], by["return"][-1]]


def _episodes(content: dict[str, Any]) -> Table:
    shown = [("success", "percent"), ("at the last step", "percent"), ("return", "number")][-len(measured(content)) :]
    columns = [("goals", "text"), ("actions", "text"), ("episode", "text"), *shown]
    rows = [
        [SIDES.get(side, side), mode, str(e + 1), *(measures[m][e] for m in measured(content))]
        for side, figures in content["sides"].items()
        for mode, measures in figures["by_episode"].items()
        for e in range(content["episodes"])
    ]
    return Table("episodes", "Episode by episode", columns, rows)


def _details(run: Reading) -> list[Table]:
    """Cost, how to repeat it, and settings."""
    config, content, lines = run.config, run.evaluation or {}, run.lines
    seconds = sum(line.get("seconds", 0.0) for line in lines)
    speeds = [line["steps_per_second"] for line in lines if "steps_per_second" in line]
    cost = [("environment steps", f"{run.step:,}"), ("iterations", f"{len(lines):,}")]
    if seconds:
        collecting = sum(line.get("collect_seconds", 0.0) for line in lines)
        cost += [("time", clock(seconds)), ("of which collecting", percent(collecting / seconds))]
    if speeds:
        cost.append(("steps per second, median", f"{statistics.median(speeds):,.0f}"))
    joules = sum(line.get("joules", 0.0) for line in lines)
    if joules:
        cost.append(("energy of the processor packages, all that ran on them", f"{joules / 3.6e6:.3g} kWh"))
    versions = [
        *((key, config.get(key)) for key in ("started", "metarl", "git_commit", "python", "cuda")),
        *config["packages"].items(),
        *config["machine"].items(),
    ]
    protocol = [(key, content.get(key)) for key in (
        "protocol", "checkpoint", "trials", "episodes", "adapt_every", "horizon", "reward", "terminate_on_success", "engine",
        "device", "seed", "suite", "suite_seed", "git_commit",
    )]  # fmt: skip
    options = [("agent", run.agent), ("suite", run.suite), *config["options"].items(), *config["settings"].items()]
    tables = {
        "cost": ("Cost of training", cost),
        "settings": ("Settings of training", options),
        "versions": ("Versions and machine", versions),
        "protocol": ("Protocol of the evaluation", protocol if content else []),
    }
    return [
        Table(name, caption, [("what", "text"), ("value", "text")],
              [[printable(str(key)), printable(str(value))] for key, value in pairs if value is not None])
        for name, (caption, pairs) in tables.items() if any(value is not None for _, value in pairs)
    ]  # fmt: skip


@lru_cache(maxsize=1)
def _environment() -> jinja2.Environment:
    made = jinja2.Environment(
        loader=jinja2.PackageLoader("metarl.report", "."), autoescape=True, trim_blocks=True, lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )  # fmt: skip
    made.globals["plural"] = plural
    return made


def render(sections: Sequence[Section], comparisons: Sequence[Comparison], assets: str) -> str:
    """The HTML file. It may load nothing: its policy allows its own style, pictures and videos in it, and no script."""
    style, _, _ = _environment().loader.get_source(_environment(), "style.css")  # type: ignore[union-attr]
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    policy = (
        f"default-src 'none'; style-src 'sha256-{digest}'; img-src data:; media-src data:; base-uri 'none'; form-action 'none'"
    )
    return _environment().get_template("page.html").render(
        sections=sections, comparisons=comparisons, style=Markup(style), policy=policy, assets=assets,
        version=metarl.__version__, made=time.strftime("%Y-%m-%d %H:%M"),
    )  # fmt: skip
