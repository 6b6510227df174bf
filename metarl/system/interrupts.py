"""Handle Ctrl-C and SIGTERM so that code that must not be interrupted defers the signal.

KeyboardInterrupt can be raised between any two instructions of the main thread. If the thread holds a lock of a thread pool
at that moment, the lock is never released and closing the pool hangs.
"""

import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, wait
from contextlib import contextmanager
from typing import Any

_depth = 0
_pending = False


def interrupt(number: int, frame: Any) -> None:
    """Signal handler: raise KeyboardInterrupt at once, or at the end of the outermost `held` block."""
    global _pending
    if not _depth:
        raise KeyboardInterrupt
    _pending = True


@contextmanager
def held() -> Iterator[None]:
    """Defer interrupts that `interrupt` handles until the end of the block; keep the block short.

    Masking the signal would not work: another thread would receive it, and Python would pass it to the main thread.

    Raises:
        KeyboardInterrupt: at the end of the block, if an interrupt arrived.
    """
    global _depth, _pending
    if threading.current_thread() is not threading.main_thread():  # only the main thread is interrupted
        yield
        return
    _depth += 1
    try:
        yield
    finally:
        _depth -= 1
    if _pending and not _depth:
        _pending = False
        raise KeyboardInterrupt


def interrupted() -> bool:
    """Whether an interrupt waits for the end of a `held` block, so that long work in it can stop early."""
    return _pending


def results(futures: "Sequence[Future[Any]]", tick: Callable[[], None] = lambda: None) -> list[Any]:
    """Wait for futures and return their results in order; an interrupt waits for at most 0.1 s.

    Args:
        futures: work of other threads.
        tick: called between the waits.
    """
    waiting = set(futures)
    while waiting:
        with held():
            waiting = wait(futures, 0.1).not_done
        tick()
    with held():
        return [future.result() for future in futures]


@contextmanager
def shielded() -> Iterator[None]:
    """Start processes that Ctrl-C does not reach, from their first instruction on; the caller ends them.

    They inherit that SIGINT is blocked. In this process interrupts are held: one would be lost in the hooks that Python runs
    around a fork.
    """
    with held():
        before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        try:
            yield
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)


@contextmanager
def interruptible() -> Iterator[None]:
    """Let the first SIGINT or SIGTERM interrupt work that can then be saved; a second one ends the process at once."""
    global _pending

    def first(number: int, frame: Any) -> None:
        for signal_number in before:
            signal.signal(signal_number, signal.SIG_DFL)
        interrupt(number, frame)

    before = {signal_number: signal.getsignal(signal_number) for signal_number in (signal.SIGINT, signal.SIGTERM)}
    for signal_number in before:
        signal.signal(signal_number, first)
    try:
        yield
    finally:
        _pending = False
        for signal_number, handler in before.items():
            signal.signal(signal_number, handler)
