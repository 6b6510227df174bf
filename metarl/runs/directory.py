"""Read and write a run directory. A crash at any moment leaves all saved checkpoints intact.

config.json        every resolved setting, package versions, git commit
metrics.jsonl      one line per iteration
tensorboard/       the same metrics for TensorBoard
checkpoints/<step>/agent.safetensors, checkpoint.json; `latest` is a link to the newest, or a file with its name
evaluations/       results, and looks.jsonl: one line per evaluation on held-out goals or classes
"""

import fcntl
import hashlib
import json
import os
import re
import shutil
import time
from collections.abc import Mapping
from contextlib import suppress
from functools import cached_property
from itertools import chain, count
from pathlib import Path
from typing import Any

from safetensors.torch import save as save_tensors

import metarl
from metarl.errors import UserError
from metarl.runs.checkpoints import FORMAT, Checkpoint, read_checkpoint, reason, split
from metarl.runs.config import Config, Trained
from metarl.runs.experiment import Experiment
from metarl.runs.looks import LOOKS, Look, append_look, read_looks, suite_seed
from metarl.runs.provenance import provenance
from metarl.system.confinement import check_own
from metarl.system.console import say
from metarl.system.file_names import file_name
from metarl.system.files import lock, put_folder, without, write_atomically, writing

TIMES = ("seconds", "cpu_seconds", "collect_seconds", "steps_per_second", "joules")
"""Entries of a metrics line that differ between two otherwise equal runs."""
_GROUPS = {
    "rollout": re.compile(r"(return|success)(_first_episode|_last_episode)?|last_step_success"),
    "eval": re.compile(r"(validation|test)_\w+"),
    "time": re.compile("|".join(TIMES)),
}
"""Groups of TensorBoard, and the metrics in each; all others, such as those of a user's agent, are in train."""


class Run:
    """A run directory. `create` makes one; `metarl.sharing.opening.open_run` opens one.

    It may come from someone else, so links that lead out of it raise a UserError: see `metarl.system.confinement`.

    Attributes:
        path: the directory.
        folder: where config.json is: `path`, or the folder of a packed model.
        config: content of config.json.
    """

    def __init__(self, path: Path, config: Config, folder: Path | None = None) -> None:
        check_own(path)
        self.path, self.folder, self.config = path, folder or path, config
        self._lock: Any = None
        self._writer: Any = None

    @cached_property
    def experiment(self) -> Experiment:
        """What `config` describes, as objects. Read at first use: a user's agent is known once the user has named its file.

        Raises:
            UserError: see `Experiment.from_json`.
        """
        return Experiment.from_json(self.config, f"{self.folder}/config.json")

    @classmethod
    def create(cls, path: Path, experiment: Experiment, *, numbered: bool = False) -> "Run":
        """Create a run directory, locked for this process.

        Args:
            path: the new directory.
            experiment: what it trains; config.json also gets version, format and provenance.
            numbered: if the directory exists, append a number to its name; otherwise that is an error.

        Raises:
            UserError: the directory exists or cannot be written.
        """
        content: Any = {"metarl": metarl.__version__, "format": FORMAT, **experiment.to_json(), **provenance()}
        run = cls(_new_directory(path, numbered), content)
        run.experiment = experiment
        run.lock()
        run.write_config()
        return run

    def change(self, experiment: Experiment) -> None:
        """Replace the experiment, and its entries of config.json."""
        content: Any = {**self.config, **experiment.to_json()}
        self.experiment, self.config = experiment, content
        self.write_config()

    def write_config(self) -> None:
        """Write config.json."""
        with writing(f"{self.path}/config.json"):
            write_atomically(self.path / "config.json", (json.dumps(self.config, indent=2) + "\n").encode())

    def lock(self) -> None:
        """Keep other processes from writing here until this one closes the run or ends.

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
        """Release the lock and close TensorBoard's writer, which has its own thread."""
        if self._writer is not None:
            with suppress(Exception):  # `log` has already reported write errors
                self._writer.close()
        if self._lock is not None:
            self._lock.close()
        self._writer = self._lock = None

    def log(self, line: dict[str, Any]) -> None:
        """Append a line of metrics; its entry `step` is the x-axis, in environment steps."""
        with writing(f"{self.path}/metrics.jsonl"), open(self.path / "metrics.jsonl", "a") as file:
            file.write(json.dumps(line) + "\n")
        try:
            self._chart(line)
        except Exception as error:  # the writer's thread passes on any error
            without(f"nothing more is written for TensorBoard ({reason(error)}): {self.path}/metrics.jsonl has it all")

    def _chart(self, line: dict[str, Any]) -> None:
        if self._writer is None:
            from torch.utils.tensorboard import SummaryWriter  # slow to import, so only on first use

            self._writer = SummaryWriter(str(self.path / "tensorboard"), purge_step=line["step"])
        for key, value in line.items():
            if key not in ("step", "iteration"):
                self._writer.add_scalar(_grouped(key), value, line["step"])
        self._writer.flush()

    def drop_metrics_after(self, iteration: int) -> None:
        """Drop the lines of iterations that a resumed run repeats, and an incomplete last line."""
        path, lines = self.path / "metrics.jsonl", []
        for text in path.read_text().splitlines() if path.exists() else []:
            try:
                if json.loads(text)["iteration"] < iteration:
                    lines.append(text + "\n")
            except (ValueError, KeyError):
                break
        with writing(str(path)):
            write_atomically(path, "".join(lines).encode())

    def save(self, step: int, iteration: int, state: dict[str, Any], keep: int) -> Path:
        """Write a checkpoint atomically, then delete all but the newest `keep`.

        Raises:
            UserError: the checkpoint could not be written; earlier ones are unchanged.
        """
        folder = self.path / "checkpoints"
        final, temporary = folder / f"{step:012d}", folder / f".{step:012d}.{os.getpid()}"
        tensors, rest = split(state)
        content = save_tensors(tensors)
        note = {
            "format": FORMAT,
            "metarl": metarl.__version__,
            "step": step,
            "iteration": iteration,
            "rest": rest,
            "sha256": {"agent.safetensors": hashlib.sha256(content).hexdigest()},
            "config": {key: value for key, value in self.config.items() if key in Trained.__annotations__},
        }
        with writing(f"a checkpoint to {folder}, the last complete one is kept"):
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
        """Path of the default evaluation; the file need not exist."""
        return self.path / "evaluation.json"

    def store(self, content: Mapping[str, Any], name: str) -> Path:
        """Write evaluations/<name>.json atomically; if held-out goals or classes were played, count that."""
        path = self.path / "evaluations" / f"{name}.json"
        with writing(str(path)):
            write_atomically(path, (json.dumps(content, allow_nan=False) + "\n").encode())
        if "test" in content["sides"]:
            self.count_look(content)
        return path

    def count_look(self, content: Mapping[str, Any]) -> None:
        """Append a line to evaluations/looks.jsonl.

        Args:
            content: protocol, checkpoint, step, suite and, unless it is the training's, suite_seed of a finished evaluation.
        """
        append_look(self.path / LOOKS, {"suite_seed": suite_seed(self.config["options"]), **content})

    def looks(self) -> list[Look] | None:
        """The evaluations on held-out goals or classes, also those whose files were replaced or deleted; None: unknown."""
        return read_looks(self.path / LOOKS)

    def checkpoints(self) -> list[Path]:
        """Folders of checkpoints, oldest first, intact or not."""
        folder = self.path / "checkpoints"
        return sorted(p for p in folder.iterdir() if p.name.isdigit()) if folder.is_dir() else []

    def usable(self, path: Path | None, doing: str) -> Checkpoint:
        """As `load`, but prints a line per damaged checkpoint; `doing` is the use of the one before, such as "evaluating"."""
        checkpoint, problems = self.load(path)
        for problem in problems:
            say(f"{problem}: {doing} the previous one")
        return checkpoint

    def load(self, path: Path | None = None) -> tuple[Checkpoint, list[str]]:
        """The newest intact checkpoint, or the one at `path`, and a message per damaged one skipped.

        Raises:
            UserError: no checkpoint is intact, or the one at `path` is damaged.
        """
        problems: list[str] = []
        for folder in [path] if path else reversed(self.checkpoints()):
            try:
                return read_checkpoint(folder), problems
            except (OSError, ValueError, TypeError, AttributeError) as error:
                if isinstance(error, UserError):
                    raise
                problems.append(f"checkpoint {folder} is damaged ({reason(error)})")
        if path or problems:
            raise UserError("; ".join(problems) + ("" if path else "; there is no intact one"))
        raise UserError(f"{self.path} has no checkpoint")


def _grouped(key: str) -> str:
    """The name of a metric for TensorBoard, group/key; a key with a slash begins with its group, as in task/reach-v3/return."""
    group = next((group for group, keys in _GROUPS.items() if keys.fullmatch(key)), "train")
    return key if "/" in key else f"{group}/{key}"


def _new_directory(path: Path, numbered: bool) -> Path:
    """Create a folder at the path or, if that exists and `numbered`, at the first free numbered name, safe from races."""
    places = chain([path], (path.with_name(f"{path.name}_{number}") for number in count(2)) if numbered else ())
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        for place in places:
            with suppress(FileExistsError):
                place.mkdir()
                return place
    except OSError as error:
        raise UserError(f"cannot make the run directory {path}: {error.strerror}") from None
    raise UserError(_exists_already(path))


def refuse_existing(path: Path) -> None:
    """Raise a `UserError` if the path of a new run directory already exists."""
    if path.exists():
        raise UserError(_exists_already(path))


def _exists_already(path: Path) -> str:
    return f"{path} exists already: choose another --run-dir, or resume it: metarl train --resume {path}"


def _point(latest: Path, name: str) -> None:
    """Make `latest` a link to the folder of this name next to it, or a file with the name where links are not supported."""
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
