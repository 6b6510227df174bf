"""Run the user's own Python files: agents and suites named as PATH.py:NAME.

A file runs only if the user names it on the command line. A run directory records the file it was trained with and its
SHA-256, but that never causes the file to run: a run may come from someone else.
"""

import hashlib
import importlib
import importlib.util
import re
import shlex
import sys
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple, NotRequired, TypedDict

from metarl.errors import UserError
from metarl.system.printable import printable

_FORM = re.compile(r"(.+\.py):([^:/]+)", re.DOTALL)
_OURS = Path(__file__).parents[1]


class UserFile(NamedTuple):
    """An object defined in a Python file that the user named.

    Attributes:
        label: file name and object name, such as "point_robot.py:point_robot".
        path: absolute path of the file.
        sha256: digest of its content.
        value: the object.
    """

    label: str
    path: Path
    sha256: str
    value: Any


class FileNote(TypedDict):
    """What a run records of a file: its absolute path, and the digest of its content."""

    path: str
    sha256: str


class Origin(TypedDict):
    """Where a run's agent and suite come from: their names, and for labels of the user's files a note on the file, by label."""

    agent: str
    suite: str
    files: NotRequired[dict[str, FileNote]]


_named: dict[str, UserFile] = {}
_modules: dict[tuple[Path, str], ModuleType] = {}


def is_named(text: str | None) -> bool:
    """Whether the text names an object in a Python file, or is meant to."""
    return text is not None and (text.endswith(".py") or _FORM.fullmatch(text) is not None)


def label_of(text: str) -> str:
    """Return the label that `run_file` gives to PATH.py:NAME."""
    path, _, name = text.rpartition(":")
    return f"{Path(path).name}:{name}"


def run_file(text: str) -> UserFile:
    """Run the Python file that the user named, once, and look up the name in it.

    The file can import modules from its folder, which comes last in the search path.

    Args:
        text: PATH.py:NAME.

    Raises:
        UserError: there is no such file or name, or the file raises an error; its traceback is shown, from the file on.
    """
    path_and_name = _FORM.fullmatch(text)
    file, name = (Path(path_and_name[1]), path_and_name[2]) if path_and_name else (Path(text), "")
    try:
        path = file.expanduser().resolve()
        content = path.read_bytes()
    except OSError as error:
        raise UserError(f"cannot read {file}: {error.strerror}") from None
    digest = hashlib.sha256(content).hexdigest()
    if (path, digest) not in _modules:
        _modules[path, digest] = _imported(path, content, digest)
    module = _modules[path, digest]
    if not name or name not in vars(module):
        problem = f"there is no {name!r} in {file}" if name else f"write {file}:NAME"
        raise UserError(f"{problem}. It has: {', '.join(_names(module)) or 'nothing'}")
    label = f"{path.name}:{name}"
    _named[label] = UserFile(label, path, digest, vars(module)[name])
    return _named[label]


def lookup(label: str) -> UserFile:
    """Return the object that was named earlier in this process.

    Raises:
        UserError: it was not named.
    """
    if label not in _named:
        raise UserError(f"{label} is the user's Python code: it is run only where you name the file on the command line")
    return _named[label]


def notes(*labels: str) -> dict[str, FileNote]:
    """Return a note on each label that is of a file, by label."""
    files = [lookup(label) for label in labels if is_named(label)]
    return {file.label: {"path": str(file.path), "sha256": file.sha256} for file in files}


def name_again(config: Origin, *texts: str | None, how: str, needed: Sequence[str] = ("agent", "suite")) -> list[str]:
    """Run the files that a run was trained with, as the user names them again.

    Args:
        config: what the run names, from config.json or a checkpoint.
        texts: PATH.py:NAME arguments of the user; another NAME in the same file is enough.
        how: the command that names them, for the error message.
        needed: which of "agent" and "suite" the user must name if they are files.

    Returns:
        One sentence for each file that has changed since the run was trained.

    Raises:
        UserError: a needed file is not named.
    """
    path_of = {label_of(text).partition(":")[0]: text.rpartition(":")[0] for text in texts if text and is_named(text)}
    changed = []
    for label, note in config.get("files", {}).items():
        file, _, name = label.partition(":")
        if file not in path_of:
            if label not in [config.get(key) for key in needed]:
                continue
            raise UserError(f"this run was trained with {label}, which is run only where you name it yourself: {how}")
        current = run_file(f"{path_of[file]}:{name}")
        if current.sha256 != note["sha256"]:
            changed.append(
                f"{current.path} is not what the run was trained with: its SHA-256 begins with "
                f"{current.sha256[:12]}, not with {note['sha256'][:12]}"
            )
    for text in texts:
        if text and is_named(text):
            run_file(text)
    return changed


def arguments(config: Origin, form: str = "{agent} {suite}") -> str:
    """Return agent and suite of a run as command-line arguments, files by their paths.

    Args:
        form: template of the arguments; "" returns the options of commands that take a run.
    """
    paths = {label: f"{note['path']}:{label.partition(':')[2]}" for label, note in config.get("files", {}).items()}
    labels = {"agent": config["agent"], "suite": config["suite"]}
    quoted = {key: shlex.quote(printable(paths.get(label, label))) for key, label in labels.items()}
    if form:
        return form.format(**quoted)
    return "".join(f" --{key} {quoted[key]}" for key, label in labels.items() if label in paths)


def resume_command(config: Origin, path: Path) -> str:
    """Return the command that resumes a run."""
    agent_and_suite = f"{arguments(config)} " if config.get("files") else ""
    return f"metarl train {agent_and_suite}--resume {path}"


def user_traceback(error: BaseException) -> str | None:
    """Return the traceback of an error in the user's files, without other frames; None: it was raised elsewhere."""
    user_frames = _user_frames(error)
    return None if user_frames is None else "".join(user_frames.format()).rstrip()


@contextmanager
def telling(what: str) -> Iterator[None]:
    """Wrap a call of the user's code.

    Raises:
        UserError: the call raised an error; with the user's frames of the traceback, or none if the call itself failed.
    """
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        lines = user_traceback(error) or "".join(traceback.format_exception_only(error)).rstrip()
        raise UserError(f"{what} raises an error:\n{lines}") from error


def run_module(name: str) -> ModuleType:
    """Import a module that the user named, also from the working directory, as python -m does.

    Raises:
        UserError: there is no such module, or it raises an error.
    """
    if "" not in sys.path:
        sys.path.insert(0, "")
    path = None
    try:
        spec = importlib.util.find_spec(name)
        path = Path(spec.origin) if spec is not None and spec.origin else None
        module = importlib.import_module(name)
    except Exception as error:
        user_frames = _user_frames(error, path)
        cause = f"{type(error).__name__}: {error}" if user_frames is None else "\n" + "".join(user_frames.format()).rstrip()
        raise UserError(f"{name} cannot be imported: {cause}") from error
    if path is not None:
        _modules[path.resolve(), ""] = module
    return module


def _imported(path: Path, content: bytes, digest: str) -> ModuleType:
    """Load the module under a unique name, so that a file named rl2.py or random.py does not shadow another module."""
    module = ModuleType(f"metarl_user_{path.stem}_{digest[:12]}")
    module.__file__ = str(path)
    sys.modules[module.__name__] = module  # dataclasses look up their module there
    if str(path.parent) not in sys.path:
        sys.path.append(str(path.parent))
    try:
        exec(compile(content, str(path), "exec", dont_inherit=True), vars(module))
    except (Exception, SystemExit) as error:
        del sys.modules[module.__name__]
        user_frames = _user_frames(error, path)
        lines = traceback.format_exception_only(error) if user_frames is None else user_frames.format()
        raise UserError(f"{path.name} does not import.\n{''.join(lines).rstrip()}") from None
    return module


def _user_frames(error: BaseException, path: Path | None = None) -> traceback.TracebackException | None:
    """Return the traceback of an error with only the frames in folders of the user's files or of `path`.

    If only an earlier error in the chain was raised there (libraries wrap errors), return that one; None: neither was.
    """
    folders = {file.parent for file, _ in _modules} | ({path.parent} if path else set())

    def of_user(filename: str) -> bool:
        file = Path(filename)
        below = [file.relative_to(folder).parts for folder in folders if folder in file.parents]
        return any("site-packages" not in parts for parts in below) and _OURS not in file.parents

    def filtered(summary: traceback.TracebackException | None) -> traceback.TracebackException | None:
        if summary is None:
            return None
        summary.stack = traceback.StackSummary.from_list([frame for frame in summary.stack if of_user(frame.filename)])
        for link in ("__cause__", "__context__"):
            setattr(summary, link, filtered(getattr(summary, link)))
        return summary if summary.stack else summary.__cause__ or summary.__context__

    return filtered(traceback.TracebackException.from_exception(error))


def _names(module: ModuleType) -> list[str]:
    """Return the file's public names of objects defined in it or belonging to metarl."""

    def belongs(value: Any) -> bool:
        return getattr(value, "__module__", None) == module.__name__ or type(value).__module__.startswith("metarl")

    return [name for name, value in vars(module).items() if not name.startswith("_") and belongs(value)]
