"""Python files of the user's own: agents and suites named as PATH.py:NAME.

A file is run only where the user names it on the command line. A run directory says which file it was trained with and its
SHA-256, and nothing runs that file on its word: a run may come from someone else.
"""

import hashlib
import importlib
import importlib.util
import re
import shlex
import sys
import traceback
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

from metarl.errors import UserError
from metarl.system.printable import printable

_FORM = re.compile(r"(.+\.py):([^:/]+)", re.DOTALL)
_OURS = Path(__file__).parents[1]


class UserFile(NamedTuple):
    """Something in a Python file that the user named.

    Attributes:
        label: the file's name and the name in it, such as "point_robot.py:point_robot".
        path: of the file, absolute.
        sha256: of its content.
        value: what has the name.
    """

    label: str
    path: Path
    sha256: str
    value: Any


_named: dict[str, UserFile] = {}
_modules: dict[tuple[Path, str], ModuleType] = {}


def is_named(text: str | None) -> bool:
    """Whether this names something in a Python file, or is meant to."""
    return text is not None and (text.endswith(".py") or _FORM.fullmatch(text) is not None)


def label_of(text: str) -> str:
    """The name under which `run_file` keeps what PATH.py:NAME is."""
    path, _, name = text.rpartition(":")
    return f"{Path(path).name}:{name}"


def run_file(text: str) -> UserFile:
    """Run the Python file that the user named, once, and find the name in it.

    Its folder is where it may import its neighbours from, after all that is installed.

    Args:
        text: PATH.py:NAME.

    Raises:
        UserError: no such file or name, or the file raises an error: then its traceback is shown, from the file on.
    """
    found = _FORM.fullmatch(text)
    file, name = (Path(found[1]), found[2]) if found else (Path(text), "")
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
        what = f"there is no {name!r} in {file}" if name else f"write {file}:NAME"
        raise UserError(f"{what}. It has: {', '.join(_names(module)) or 'nothing of its own'}")
    label = f"{path.name}:{name}"
    _named[label] = UserFile(label, path, digest, vars(module)[name])
    return _named[label]


def lookup(label: str) -> UserFile:
    """What was named before in this process.

    Raises:
        UserError: it was not.
    """
    if label not in _named:
        raise UserError(f"{label} is the user's Python code: it is run only where you name the file on the command line")
    return _named[label]


def notes(*labels: str) -> dict[str, Any]:
    """What config.json says of those of the labels that are files: under "files" path and SHA-256 of each; else nothing."""
    files = [lookup(label) for label in labels if is_named(label)]
    return {"files": {file.label: {"path": str(file.path), "sha256": file.sha256} for file in files}} if files else {}


def name_again(
    config: Mapping[str, Any], *texts: str | None, how: str, needed: Sequence[str] = ("agent", "suite")
) -> list[str]:
    """Run the files that a run was trained with, as the user names them again.

    Args:
        config: as in config.json.
        texts: PATH.py:NAME of what the user named; another NAME of the same file will do.
        how: the command that names them, for the error.
        needed: which of "agent" and "suite" must be named where they are files.

    Returns:
        A sentence for each file that is no longer what the run was trained with.

    Raises:
        UserError: one is not named.
    """
    given = {label_of(text).partition(":")[0]: text.rpartition(":")[0] for text in texts if text and is_named(text)}
    changed = []
    for label, note in _files(config).items():
        file, _, name = label.partition(":")
        if file not in given:
            if label not in [config.get(key) for key in needed]:
                continue
            raise UserError(f"this run was trained with {label}, which is run only where you name it yourself: {how}")
        now = run_file(f"{given[file]}:{name}")
        if now.sha256 != note["sha256"]:
            changed.append(
                f"{now.path} is not what the run was trained with: its SHA-256 begins with {now.sha256[:12]}, then with "
                f"{note['sha256'][:12]}"
            )
    for text in texts:
        if text and is_named(text):
            run_file(text)
    return changed


def arguments(config: Mapping[str, Any], form: str = "{agent} {suite}") -> str:
    """Agent and suite of a run as a command line names them, files by their paths.

    Args:
        form: of what is named; "" gives the options of the commands that take a run.
    """
    paths = {label: f"{note['path']}:{label.partition(':')[2]}" for label, note in _files(config).items()}
    shown = {key: shlex.quote(printable(paths.get(config[key], config[key]))) for key in ("agent", "suite")}
    if form:
        return form.format(**shown)
    return "".join(f" --{key} {shown[key]}" for key in ("agent", "suite") if config[key] in paths)


def resume_command(config: Mapping[str, Any], path: Path) -> str:
    """The command that goes on with a run."""
    named = f"{arguments(config)} " if _files(config) else ""
    return f"metarl train {named}--resume {path}"


def told(error: BaseException) -> str | None:
    """The traceback of an error within the user's files, without what is not theirs; None: it was not within them."""
    theirs = _theirs(error)
    return None if theirs is None else "".join(theirs.format()).rstrip()


@contextmanager
def telling(what: str) -> Iterator[None]:
    """Around a call of the user's code.

    Raises:
        UserError: it raised an error; with their frames of the traceback, or none where it could not even be called so.
    """
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        shown = told(error) or "".join(traceback.format_exception_only(error)).rstrip()
        raise UserError(f"{what} raises an error:\n{shown}") from error


def run_module(name: str) -> ModuleType:
    """Import a module that the user named, from the working directory too, as python -m does.

    Raises:
        UserError: there is none, or it raises an error.
    """
    if "" not in sys.path:
        sys.path.insert(0, "")
    path = None
    try:
        spec = importlib.util.find_spec(name)
        path = Path(spec.origin) if spec is not None and spec.origin else None
        module = importlib.import_module(name)
    except Exception as error:
        theirs = _theirs(error, path)
        shown = f"{type(error).__name__}: {error}" if theirs is None else "\n" + "".join(theirs.format()).rstrip()
        raise UserError(f"{name} cannot be imported: {shown}") from error
    if path is not None:
        _modules[path.resolve(), ""] = module
    return module


def _files(config: Mapping[str, Any]) -> dict[str, dict[str, str]]:
    files = config.get("files", {})
    try:
        return {str(label): {key: str(note[key]) for key in ("path", "sha256")} for label, note in files.items()}
    except (AttributeError, TypeError, KeyError):
        raise UserError("config.json is damaged: its files") from None


def _imported(path: Path, content: bytes, digest: str) -> ModuleType:
    """The module, under a name of its own: a file named rl2.py or random.py takes no one's place."""
    module = ModuleType(f"metarl_user_{path.stem}_{digest[:12]}")
    module.__file__ = str(path)
    sys.modules[module.__name__] = module  # dataclasses look their module up there
    if str(path.parent) not in sys.path:
        sys.path.append(str(path.parent))
    try:
        exec(compile(content, str(path), "exec", dont_inherit=True), vars(module))
    except (Exception, SystemExit) as error:
        del sys.modules[module.__name__]
        theirs = _theirs(error, path)
        shown = traceback.format_exception_only(error) if theirs is None else theirs.format()
        raise UserError(f"{path.name} does not import.\n{''.join(shown).rstrip()}") from None
    return module


def _theirs(error: BaseException, path: Path | None = None) -> traceback.TracebackException | None:
    """The error as a traceback of frames in the user's files (or in this one) and beside them.

    Where only an error before it was raised there (libraries wrap what they caught), that one; None: none was.
    """
    folders = {file.parent for file, _ in _modules} | ({path.parent} if path else set())

    def mine(filename: str) -> bool:
        file = Path(filename)
        below = [file.relative_to(folder).parts for folder in folders if folder in file.parents]
        return any("site-packages" not in parts for parts in below) and _OURS not in file.parents

    def filtered(summary: traceback.TracebackException | None) -> traceback.TracebackException | None:
        if summary is None:
            return None
        summary.stack = traceback.StackSummary.from_list([frame for frame in summary.stack if mine(frame.filename)])
        for link in ("__cause__", "__context__"):
            setattr(summary, link, filtered(getattr(summary, link)))
        return summary if summary.stack else summary.__cause__ or summary.__context__

    return filtered(traceback.TracebackException.from_exception(error))


def _names(module: ModuleType) -> list[str]:
    """Public names that the file gives to something of its own, or to an object of metarl's."""

    def own(value: Any) -> bool:
        return getattr(value, "__module__", None) == module.__name__ or type(value).__module__.startswith("metarl")

    return [name for name, value in vars(module).items() if not name.startswith("_") and own(value)]
