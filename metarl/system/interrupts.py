"""Interrupts, by Ctrl-C or SIGTERM, that wait until what must not be cut in two is done.

KeyboardInterrupt can be raised between any two instructions of the main thread. Raised while it holds a lock of a pool of
threads, it leaves the lock held for ever, and closing the pool hangs.
"""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

_depth = 0
_pending = False


def interrupt(number: int, frame: Any) -> None:
    """A handler of signals: raise KeyboardInterrupt, now or where the outermost `held` ends."""
    global _pending
    if not _depth:
        raise KeyboardInterrupt
    _pending = True


@contextmanager
def held() -> Iterator[None]:
    """Let interrupts wait meanwhile, where `interrupt` handles them: keep it short.

    A mask of signals would not do: another thread would take the signal, and Python hand it to the main thread.

    Raises:
        KeyboardInterrupt: when it ends, if one came.
    """
    global _depth, _pending
    if threading.current_thread() is not threading.main_thread():  # which alone is interrupted
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


@contextmanager
def interruptible() -> Iterator[None]:
    """Let the first SIGINT or SIGTERM interrupt what can then be saved; a second one ends the process at once."""
    global _pending

    def first(number: int, frame: Any) -> None:
        for each in before:
            signal.signal(each, signal.SIG_DFL)
        interrupt(number, frame)

    before = {each: signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM)}
    for each in before:
        signal.signal(each, first)
    try:
        yield
    finally:
        _pending = False
        for each, handler in before.items():
            signal.signal(each, handler)
