"""Compute results in several processes, which end together with the work, however it ends."""

import multiprocessing
import os
import pickle
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from concurrent.futures import Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from multiprocessing.connection import Connection
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, TypeVar

from metarl.errors import UserError
from metarl.system.interrupts import held, shielded

Result = TypeVar("Result")

_PATIENCE = 0.1  # seconds for which an interrupt may have to wait


def process_map(
    function: Callable[..., Result],
    jobs: Iterable[tuple[Any, ...]],
    count: int,
    *,
    died: str,
    environment: Mapping[str, str] | None = None,
) -> Generator[Result, None, None]:
    """Yield `function(*job)` for each job, in order. Close the generator to end the processes at once (`contextlib.closing`).

    At most `count` jobs run or wait while a result is in use, so that memory does not grow with the number of jobs. The
    processes do not hear Ctrl-C: this process does, and ends them. They also end if this process is killed.

    Args:
        function: importable by its name; errors that it raises are raised here.
        jobs: the arguments of each call.
        count: number of processes.
        died: message of the error if a process is killed.
        environment: variables that are set in the processes from their start.

    Raises:
        UserError: a process was killed, usually for its memory.
    """
    spawn = multiprocessing.get_context("spawn")
    with held():  # and not shielded: the pool starts multiprocessing's resource tracker, which would lift the shield
        folder = TemporaryDirectory(prefix="metarl-")
        ending, alive = spawn.Pipe(duplex=False)
        pool = ProcessPoolExecutor(count, spawn, _end_with, (ending,))
    running: deque[tuple[Future[None], Path]] = deque()
    try:
        for number, job in enumerate(jobs):
            path = Path(folder.name, str(number))
            with shielded(), _variables(environment or {}):
                running.append((pool.submit(_save, path, function, *job), path))
            if len(running) > count:
                yield _load(*running.popleft())
        while running:
            yield _load(*running.popleft())
    except BrokenProcessPool as error:
        raise UserError(died) from error
    finally:
        with held():
            alive.close()
            pool.shutdown(cancel_futures=True)
            ending.close()
            folder.cleanup()


def _end_with(ending: Connection) -> None:
    """End this process when the pipe's other end closes, which it also does if the parent is killed."""

    def watch() -> None:
        ending.poll(None)
        os._exit(0)

    threading.Thread(target=watch, daemon=True).start()


def _save(path: Path, function: Callable[..., Any], *job: Any) -> None:
    """Compute a result and write it to a file.

    The pool's processes share one pipe. If one is killed in the middle of a long message, the pool waits for the rest of it
    for ever; short ones are written at once.
    """
    result = function(*job)
    with path.open("wb") as file:
        pickle.dump(result, file, pickle.HIGHEST_PROTOCOL)


def _load(future: Future[None], path: Path) -> Any:
    while True:
        with held():  # an interrupt could leave the future locked, and the pool's thread would wait for it for ever
            if wait([future], _PATIENCE).done:
                future.result()
                break
    with path.open("rb") as file:
        result = pickle.load(file)
    path.unlink()
    return result


@contextmanager
def _variables(values: Mapping[str, str]) -> Iterator[None]:
    """Set environment variables for processes started within."""
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
