"""Reads a run directory for a report: everything readable, and a list of problems with the rest.

It refuses only a path that is not a run at all; the report of a broken run says what is broken.
"""

import fcntl
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from metarl.agents import AGENTS, CONTROL, FEW_SHOT
from metarl.errors import UserError
from metarl.evaluation import schema
from metarl.evaluation.control_schema import UpstreamEvaluation, whole_upstream
from metarl.evaluation.reading import CHECKS
from metarl.evaluation.shown import best
from metarl.evaluation.vocabulary import ALL_GOALS, EPISODES, METAWORLD
from metarl.runs.looks import LOOKS, Look, read_looks
from metarl.runs.migration import migrated
from metarl.sharing.locations import is_packed
from metarl.system.confinement import leads_out, run_of, strangers
from metarl.system.counts import plural
from metarl.system.printable import printable

VIDEOS = {".mp4": "video/mp4", ".gif": "image/gif"}
"""Media types of the files that `metarl render` makes, by ending."""
_PARTS = ("config.json", "metrics.jsonl", "evaluation.json", "evaluations", "checkpoints")


@dataclass(frozen=True)
class Reading:
    """The content of a run directory.

    Attributes:
        path: the directory.
        name: its name, printable.
        training: CONTROL or FEW_SHOT of `metarl.agents`.
        config: the content of config.json, or empty if unreadable; always has `options` and `settings`.
        lines: metrics by step, finite numbers only.
        evaluation: the evaluation to show, see `metarl.evaluation.shown`: by `training` a `ControlEvaluation` or a
            `FewShotEvaluation`, or None.
        others: other evaluations of that kind.
        upstream: evaluations under Meta-World's own protocol.
        looks: see `metarl.runs.directory.Run.looks`.
        videos: mp4 files and GIFs, newest first.
        problems: sentences about what could not be read.
        running: whether a process is training the run now.
    """

    path: Path
    name: str
    training: str
    config: dict[str, Any]
    lines: list[dict[str, float]]
    evaluation: Any
    others: list[Any]
    upstream: list[UpstreamEvaluation]
    looks: list[Look] | None
    videos: list[Path]
    problems: list[str]
    running: bool

    @property
    def step(self) -> int:
        """The training steps known so far, in `unit`."""
        known = [int(line["step"]) for line in self.lines[-1:]] + [self.evaluation["step"] if self.evaluation else 0]
        return max(known)

    @property
    def unit(self) -> str:
        """The unit of its steps."""
        return _FILES[self.training].unit

    @property
    def agent(self) -> str:
        """The agent's name."""
        return str(self.config.get("agent") or (self.evaluation or {}).get("agent") or "unknown agent")

    @property
    def suite(self) -> str:
        """The suite or data set that it was trained on."""
        return str(self.config.get("suite") or (self.evaluation or {}).get("trained_on", {}).get("suite") or "unknown suite")


def read(path: Path) -> Reading:
    """Read a run directory, or the run of a checkpoint's folder, to show that checkpoint's evaluation.

    For a packed model, read its configuration and the evaluations that came with it or were made here.

    Raises:
        UserError: the path is not a run.
    """
    problems: list[str] = []
    model, named = None, None
    if is_packed(path):
        from metarl.sharing.packed import open_packed  # slow to import, because it imports torch

        model = open_packed(path)
        root, config, lines = model.path, _whole_config(model.config), []
    else:
        root, named = run_of(path)
        if not any((root / part).exists() for part in _PARTS):
            raise UserError(f"{path} is not a run: it has none of {', '.join(_PARTS)}")
        problems += [
            f"{printable(str(stranger.relative_to(root)))} is a link out of the run, or not a file, and is left out."
            for stranger in strangers(root)
        ]
        config, lines = _config(root, problems), _lines(root, problems)
    training = _training(root, config)
    files = _FILES[training]
    evaluations = _evaluations(_inside(root, f"evaluations/{files.evaluations}"), files.whole, problems)
    evaluations.sort(key=lambda content: content["step"])
    default = [model.evaluation()] if model else _inside(root, "evaluation.json")
    candidates = [] if named else _evaluations(default, files.whole, problems)
    candidates += [content for content in reversed(evaluations) if named in (None, content["checkpoint"])]
    to_show = best(candidates)
    films = [
        file
        for kind in VIDEOS
        for file in (*_inside(root, f"videos/*{kind}"), *(model.folder.glob(f"*{kind}") if model else ()))
    ]
    return Reading(
        root,
        printable(root.name),
        training,
        config,
        lines,
        to_show,
        [content for content in evaluations if content != to_show],
        _evaluations(_inside(root, f"evaluations/{METAWORLD}_*.json"), whole_upstream, problems),
        model.looks() if model else [look for file in _inside(root, LOOKS) for look in read_looks(file)],
        sorted(films, key=lambda file: (file.stat().st_mtime, file.name), reverse=True),
        problems,
        any(map(_locked, _inside(root, ".lock"))),
    )


def _inside(root: Path, pattern: str) -> list[Path]:
    """The run's files that match a pattern, sorted; leaves out links that lead out of the run."""
    return [path for path in sorted(root.glob(pattern)) if path.is_file() and not leads_out(root, path)]


def _training(root: Path, config: dict[str, Any]) -> str:
    """The kind of run, by its agent or, if that is unknown, by its evaluations."""
    if isinstance(config.get("agent"), str) and config["agent"] in AGENTS:
        return AGENTS[config["agent"]].training
    protocols = [content.get("protocol") for content in _load(_inside(root, "evaluation.json"), schema.read, [])]
    few_shot = any(_inside(root, f"evaluations/{_FILES[FEW_SHOT].evaluations}")) or EPISODES in protocols
    return FEW_SHOT if few_shot else CONTROL


def _config(root: Path, problems: list[str]) -> dict[str, Any]:
    files = _inside(root, "config.json")
    if not files:
        problems.append("config.json is missing: settings, versions and the planned length are unknown.")
    return _whole_config(next(iter(_load(files, schema.read_object, problems)), {}))


def _whole_config(content: Mapping[str, Any]) -> dict[str, Any]:
    """Add to a configuration the parts that a report uses, if they are missing."""
    content = migrated(dict(content))
    for key in ("options", "settings", "packages", "machine"):
        content[key] = content[key] if isinstance(content.get(key), dict) else {}
    return content


def _lines(root: Path, problems: list[str]) -> list[dict[str, float]]:
    """Lines of metrics, sorted by step. An incomplete last line is being written, and is no problem."""
    files = _inside(root, "metrics.jsonl")
    if not files:
        problems.append("metrics.jsonl is missing: there are no learning curves.")
        return []
    *texts, being_written = files[0].read_text(errors="replace").split("\n")
    by_step, bad = {}, 0
    for text in [*texts, being_written]:
        try:
            line = {key: value for key, value in json.loads(text).items() if schema.number(value)}
            by_step[line["step"]] = line
        except (ValueError, KeyError, AttributeError, OverflowError, RecursionError):
            bad += text is not being_written and bool(text.strip())
    if bad:
        problems.append(f"metrics.jsonl: {bad} of {plural(len(texts), 'line')} cannot be read, left out.")
    return [by_step[step] for step in sorted(by_step)]


def _evaluations(paths: list[Path], check: Callable[[dict[str, Any]], Any], problems: list[str]) -> list[Any]:
    """The checked evaluations of the files that exist; notes damaged files in `problems`."""
    return _load(paths, lambda path: check(schema.read(path)), problems)


def _load(paths: list[Path], load: Callable[[Path], Any], problems: list[str]) -> list[Any]:
    """What `load` returns for the files that exist; notes damaged files in `problems`."""
    contents = []
    for path in paths:
        try:
            contents.append(load(path))
        except FileNotFoundError:
            continue
        except schema.FAULTS:
            problems.append(f"{printable(path.name)} is damaged and left out.")
    return contents


class _Files(NamedTuple):
    """For a kind of run: the pattern of its evaluations' files, their checker, and the unit of its steps."""

    evaluations: str
    whole: Callable[[dict[str, Any]], Any]
    unit: str


_FILES = {
    CONTROL: _Files(f"{ALL_GOALS}_*.json", CHECKS[CONTROL], "environment steps"),
    FEW_SHOT: _Files(f"{EPISODES}_*.json", CHECKS[FEW_SHOT], "outer updates"),
}


def _locked(path: Path) -> bool:
    """Whether a training process holds the run's lock."""
    try:
        with path.open() as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False
    return False
