"""A run directory: its configuration, metrics and checkpoints; written so that a crash at any moment loses no border.

config.json        every resolved setting, package versions, git commit
metrics.jsonl      a line an iteration
tensorboard/       the same, for TensorBoard
checkpoints/<step>/agent.safetensors, checkpoint.json; `latest` is a link to the newest, or a file with its name
"""

import fcntl
import hashlib
import json
import os
import platform
import shutil
import subprocess
import time
from contextlib import suppress
from itertools import chain, count
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors.torch import load as load_tensors
from safetensors.torch import save as save_tensors
from torch import Tensor

import metarl
from metarl.cache import lock, put_folder, without, write_atomically, writing
from metarl.confined import check_own, run_of
from metarl.console import say
from metarl.errors import UserError
from metarl.machine import processor, usable_cores, versions
from metarl.names import file_name
from metarl.pretrained import is_packed

FORMAT = 2
PACKAGES = ("torch", "metaworld", "mujoco", "gymnasium", "numpy", "numba", "stable-baselines3")
TIMES = ("seconds", "cpu_seconds", "collect_seconds", "steps_per_second", "joules")
"""Entries of a metrics line that differ between two equal runs."""
_TRAINED = ("agent", "suite", "files", "options", "settings")  # what of config.json a checkpoint repeats


class Checkpoint(NamedTuple):
    """A whole checkpoint.

    Attributes:
        path: its folder.
        step: environment steps over all slots before it.
        iteration: the iteration that comes next.
        state: what the agent's `state_dict` gave.
        config: agent, suite, options and settings that it was trained with.
    """

    path: Path
    step: int
    iteration: int
    state: dict[str, Any]
    config: dict[str, Any]

    @property
    def digest(self) -> str:
        """SHA-256 of the weights."""
        return hashlib.sha256(save_tensors(split(self.state)[0])).hexdigest()


class Run:
    """A run directory. Make one with `create`, open one with `open_run`.

    It may come from someone else, so one with a link out of it is refused with a UserError: see `metarl.confined`.
    """

    def __init__(self, path: Path, config: dict[str, Any]) -> None:
        check_own(path)
        self.path, self.config = path, config
        self._lock: Any = None
        self._writer: Any = None

    @classmethod
    def create(cls, path: Path, config: dict[str, Any], *, numbered: bool = False) -> "Run":
        """A new run directory, locked for this process.

        Args:
            path: where it is made.
            config: content of config.json, but for what is known here.
            numbered: where it exists already, a number follows its name; else it is refused.

        Raises:
            UserError: it exists already, or cannot be written.
        """
        run = cls(_made(path, numbered), {"metarl": metarl.__version__, "format": FORMAT, **config, **_provenance()})
        run.lock()
        run.write_config()
        return run

    def write_config(self) -> None:
        """Write config.json."""
        with writing(f"{self.path}/config.json"):
            write_atomically(self.path / "config.json", (json.dumps(self.config, indent=2) + "\n").encode())

    def lock(self) -> None:
        """Keep other processes from writing here as long as this one lives.

        Raises:
            UserError: another process is writing here, or the directory cannot be written.
        """
        with writing(f"{self.path}"):
            self._lock = open(self.path / ".lock", "w")  # noqa: SIM115 - held until the process ends
        try:
            lock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UserError(f"another process is writing to {self.path}") from None

    def close(self) -> None:
        """Let go of the lock and of TensorBoard's writer, which has a thread of its own."""
        if self._writer is not None:
            with suppress(Exception):  # what it could not write, `log` has said
                self._writer.close()
        if self._lock is not None:
            self._lock.close()
        self._writer = self._lock = None

    def log(self, line: dict[str, Any]) -> None:
        """Append a line of metrics; `step` is the axis in environment steps."""
        with writing(f"{self.path}/metrics.jsonl"), open(self.path / "metrics.jsonl", "a") as file:
            file.write(json.dumps(line) + "\n")
        try:
            self._chart(line)
        except Exception as error:  # its writer's thread hands on whatever stopped it
            without(f"nothing more is written for TensorBoard ({_reason(error)}): {self.path}/metrics.jsonl has it all")

    def _chart(self, line: dict[str, Any]) -> None:
        if self._writer is None:
            from torch.utils.tensorboard import SummaryWriter  # slow to import, so not before there is something to log

            self._writer = SummaryWriter(str(self.path / "tensorboard"), purge_step=line["step"])
        for key, value in line.items():
            if key not in ("step", "iteration"):
                self._writer.add_scalar(key, value, line["step"])
        self._writer.flush()

    def drop_metrics_after(self, iteration: int) -> None:
        """Drop lines of iterations that a resumed run does again, and a last line that was cut off."""
        path, kept = self.path / "metrics.jsonl", []
        for text in path.read_text().splitlines() if path.exists() else []:
            try:
                if json.loads(text)["iteration"] < iteration:
                    kept.append(text + "\n")
            except (ValueError, KeyError):
                break
        with writing(str(path)):
            write_atomically(path, "".join(kept).encode())

    def save(self, step: int, iteration: int, state: dict[str, Any], keep: int) -> Path:
        """Write a checkpoint, whole or not at all, and delete all but the newest `keep`.

        Raises:
            UserError: it could not be written; the ones before are as they were.
        """
        folder = self.path / "checkpoints"
        final, temporary = folder / f"{step:012d}", folder / f".{step:012d}.{os.getpid()}"
        tensors, rest = split(state)
        content = save_tensors(tensors)
        note = {
            "format": FORMAT, "metarl": metarl.__version__, "step": step, "iteration": iteration, "rest": rest,
            "sha256": {"agent.safetensors": hashlib.sha256(content).hexdigest()},
            "config": {key: self.config[key] for key in _TRAINED if key in self.config},
        }  # fmt: skip
        with writing(f"a checkpoint to {folder}, the last whole one stands"):
            try:
                temporary.mkdir(parents=True)
                write_atomically(temporary / "agent.safetensors", content)
                write_atomically(temporary / "checkpoint.json", (json.dumps(note, indent=2) + "\n").encode())
                if final.exists():
                    shutil.rmtree(final)
                put_folder(temporary, final)
            finally:
                shutil.rmtree(temporary, ignore_errors=True)
            _point(folder / "latest", final.name)
        for old in self.checkpoints()[:-keep] if keep > 0 else []:
            shutil.rmtree(old, ignore_errors=True)
        return final

    def evaluation(self) -> Path:
        """The default evaluation; it need not exist."""
        return self.path / "evaluation.json"

    def store(self, content: dict[str, Any], name: str) -> Path:
        """Write evaluations/<name>.json, whole or not at all."""
        path = self.path / "evaluations" / f"{name}.json"
        with writing(str(path)):
            write_atomically(path, (json.dumps(content, allow_nan=False) + "\n").encode())
        return path

    def checkpoints(self) -> list[Path]:
        """Folders of checkpoints, oldest first; whether they are whole is not checked."""
        folder = self.path / "checkpoints"
        return sorted(p for p in folder.iterdir() if p.name.isdigit()) if folder.is_dir() else []

    def usable(self, path: Path | None, doing: str) -> Checkpoint:
        """As `load`; of damaged checkpoints passed over it says what is done with the one before, such as "evaluating"."""
        checkpoint, problems = self.load(path)
        for problem in problems:
            say(f"{problem}: {doing} the one before")
        return checkpoint

    def load(self, path: Path | None = None) -> tuple[Checkpoint, list[str]]:
        """The newest whole checkpoint, or the one named, and what is to be said about damaged ones passed over.

        Raises:
            UserError: there is none, or the one named is damaged.
        """
        problems: list[str] = []
        for folder in [path] if path else reversed(self.checkpoints()):
            try:
                return _read(folder), problems
            except (OSError, ValueError, KeyError, TypeError) as error:
                if isinstance(error, UserError):
                    raise
                problems.append(f"checkpoint {folder} is damaged ({_reason(error)})")
        if path or problems:
            raise UserError("; ".join(problems) + ("" if path else "; there is no whole one"))
        raise UserError(f"{self.path} has no checkpoint")


def _made(path: Path, numbered: bool) -> Path:
    """A new folder: at the path, or with a number behind its name, the first that is free; other processes look too."""
    places = chain([path], (path.with_name(f"{path.name}_{number}") for number in count(2)) if numbered else ())
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        for place in places:
            with suppress(FileExistsError):
                place.mkdir()
                return place
    except OSError as error:
        raise UserError(f"cannot make the run directory {path}: {error.strerror}") from None
    raise UserError(_taken(path))


def refuse_existing(path: Path) -> None:
    """Raise a `UserError` where a new run directory could not be made because something is there."""
    if path.exists():
        raise UserError(_taken(path))


def _taken(path: Path) -> str:
    return f"{path} exists already: choose another --run-dir, or go on with metarl train --resume {path}"


def open_run(path: Path) -> tuple[Run, Path | None]:
    """A run directory, a checkpoint's folder inside one, or a packed model (its folder, or "pretrained:NAME").

    Returns:
        The run, and the checkpoint where one was named.

    Raises:
        UserError: it is none of these, or the run was made by another version.
    """
    if is_packed(path):
        from metarl.packed import open_packed  # which needs this module

        return open_packed(path), None
    root, checkpoint = run_of(path)
    named = root / "checkpoints" / checkpoint if checkpoint else None
    if Path.cwd() in root.parents:
        root = root.relative_to(Path.cwd())  # shorter to read
    if not (root / "config.json").is_file():
        raise UserError(f"{path} is not a run: it has no config.json")
    try:
        config = json.loads((root / "config.json").read_text())
        found = config["format"], ".".join(config["metarl"].split(".")[:2])
    except OSError as error:
        raise UserError(f"{root}/config.json cannot be read: {error.strerror}") from None
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise UserError(f"{root}/config.json is damaged") from None
    if found != (FORMAT, ".".join(metarl.__version__.split(".")[:2])):
        raise UserError(f"{root} was made by metarl {config['metarl']}; this is {metarl.__version__}, which cannot continue it")
    return Run(root, config), named


def _point(latest: Path, name: str) -> None:
    """Make `latest` a link to the folder of this name beside it; a file with the name in it where there are no links."""
    link = latest.with_name(f".latest.{os.getpid()}")
    try:
        link.unlink(missing_ok=True)
        link.symlink_to(name)
        os.replace(link, latest)
    except OSError:
        link.unlink(missing_ok=True)
        write_atomically(latest, f"{name}\n".encode())


def default_path(agent: str, suite: str, seed: int) -> Path:
    """runs/<agent>_<suite>_s<seed>_<time>."""
    return Path("runs", f"{file_name(agent, suite)}_s{seed}_{time.strftime('%Y%m%d-%H%M%S')}")


def _read(folder: Path) -> Checkpoint:
    note = json.loads((folder / "checkpoint.json").read_text())
    content = (folder / "agent.safetensors").read_bytes()
    if note["format"] != FORMAT:
        raise UserError(f"checkpoint {folder} has format {note['format']}, this version reads {FORMAT}")
    if hashlib.sha256(content).hexdigest() != note["sha256"]["agent.safetensors"]:
        raise ValueError("agent.safetensors is not what was written")
    return Checkpoint(folder, note["step"], note["iteration"], join(load_tensors(content), note["rest"]), note["config"])


def _reason(error: Exception) -> str:
    if isinstance(error, FileNotFoundError):
        return f"{Path(str(error.filename)).name} is missing"
    return "checkpoint.json is not what was written" if isinstance(error, (json.JSONDecodeError, KeyError)) else str(error)


def split(state: dict[str, Any], prefix: str = "") -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Tensors of nested dicts by their path, and the rest."""
    tensors: dict[str, Tensor] = {}
    rest: dict[str, Any] = {}
    for key, value in state.items():
        if isinstance(value, dict):
            inner, others = split(value, f"{prefix}{key}/")
            tensors |= inner
            rest |= others
        elif isinstance(value, Tensor):
            tensors[prefix + key] = value.detach().cpu().contiguous()
        else:
            rest[prefix + key] = value
    return tensors, rest


def join(tensors: dict[str, Tensor], rest: dict[str, Any]) -> dict[str, Any]:
    """What `split` took apart."""
    state: dict[str, Any] = {}
    for path, value in {**tensors, **rest}.items():
        *parents, last = path.split("/")
        inner = state
        for parent in parents:
            inner = inner.setdefault(parent, {})
        inner[last] = value
    return state


def copied(state: Any) -> Any:
    """A copy of nested dicts of tensors that later training does not change."""
    if isinstance(state, dict):
        return {key: copied(value) for key, value in state.items()}
    return state.detach().clone() if isinstance(state, Tensor) else state


def _provenance() -> dict[str, Any]:
    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else None
    return {
        "machine": {"processor": processor(), "usable_cores": usable_cores(), "gpu": gpu},
        "packages": versions(PACKAGES), "python": platform.python_version(), "git_commit": git_commit(),
        "cuda": torch.version.cuda, "started": time.strftime("%Y-%m-%d %H:%M:%S %z"),
    }  # fmt: skip


def git_commit() -> str | None:
    """Commit of the checkout that metarl is run from, with "+" where files differ from it; None outside one."""
    root = Path(__file__).resolve().parents[1]
    if not (root / ".git").exists():
        return None
    try:
        git = ["git", "-C", str(root)]
        head = subprocess.run(
            [*git, "rev-parse", "HEAD"], capture_output=True, text=True, timeout=10, check=True
        ).stdout.strip()
        changed = subprocess.run([*git, "status", "--porcelain"], capture_output=True, text=True, timeout=10, check=True).stdout
    except (OSError, subprocess.SubprocessError):
        return None
    return head + ("+" if changed.strip() else "")
