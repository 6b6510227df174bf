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
        raise UserError(f"{what}. It has: {', '.join(_names(module)) or 'nothing'}")
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


def notes(*labels: str) -> dict[str, Any]:
    """Return the entry "files" of config.json: path and SHA-256 of each label that is a file; empty without files."""
    files = [lookup(label) for label in labels if is_named(label)]
    return {"files": {file.label: {"path": str(file.path), "sha256": file.sha256} for file in files}} if files else {}


def name_again(
    config: Mapping[str, Any], *texts: str | None, how: str, needed: Sequence[str] = ("agent", "suite")
) -> list[str]:
    """Run the files that a run was trained with, as the user names them again.

    Args:
        config: the content of config.json.
        texts: PATH.py:NAME arguments of the user; another NAME in the same file is enough.
        how: the command that names them, for the error message.
        needed: which of "agent" and "suite" the user must name if they are files.

    Returns:
        One sentence for each file that has changed since the run was trained.

    Raises:
        UserError: a needed file is not named.
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
                f"{now.path} is not what the run was trained with: its SHA-256 begins with "
                f"{now.sha256[:12]}, not with {note['sha256'][:12]}"
            )
    for text in texts:
        if text and is_named(text):
            run_file(text)
    return changed


def arguments(config: Mapping[str, Any], form: str = "{agent} {suite}") -> str:
    """Return agent and suite of a run as command-line arguments, files by their paths.

    Args:
        form: template of the arguments; "" returns the options of commands that take a run.
    """
    paths = {label: f"{note['path']}:{label.partition(':')[2]}" for label, note in _files(config).items()}
    shown = {key: shlex.quote(printable(paths.get(config[key], config[key]))) for key in ("agent", "suite")}
    if form:
        return form.format(**shown)
    return "".join(f" --{key} {shown[key]}" for key in ("agent", "suite") if config[key] in paths)


def resume_command(config: Mapping[str, Any], path: Path) -> str:
    """Return the command that resumes a run."""
    named = f"{arguments(config)} " if _files(config) else ""
    return f"metarl train {named}--resume {path}"


def told(error: BaseException) -> str | None:
    """Return the traceback of an error in the user's files, without other frames; None: it was raised elsewhere."""
    theirs = _theirs(error)
    return None if theirs is None else "".join(theirs.format()).rstrip()


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
        shown = told(error) or "".join(traceback.format_exception_only(error)).rstrip()
        raise UserError(f"{what} raises an error:\n{shown}") from error


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
        raise UserError("config.json is damaged: invalid files") from None


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
        theirs = _theirs(error, path)
        shown = traceback.format_exception_only(error) if theirs is None else theirs.format()
        raise UserError(f"{path.name} does not import.\n{''.join(shown).rstrip()}") from None
    return module


def _theirs(error: BaseException, path: Path | None = None) -> traceback.TracebackException | None:
    """Return the traceback of an error with only the frames in folders of the user's files or of `path`.

    If only an earlier error in the chain was raised there (libraries wrap errors), return that one; None: neither was.
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
    """Return the file's public names of objects defined in it or belonging to metarl."""

    def own(value: Any) -> bool:
        return getattr(value, "__module__", None) == module.__name__ or type(value).__module__.startswith("metarl")

    return [name for name, value in vars(module).items() if not name.startswith("_") and own(value)]
