"""Which device computes, and with how many threads of a processor."""

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import contextmanager
from typing import Any

import torch

from metarl.errors import UserError
from metarl.system.interrupts import held

DEVICES = ("auto", "cpu", "cuda")


def choose_device(name: str) -> torch.device:
    """The device of a name of `DEVICES`; auto: the GPU where there is one.

    Raises:
        UserError: unknown name, or cuda where torch finds none.
    """
    if name not in DEVICES:
        raise UserError(f"device must be {', '.join(DEVICES)}, not {name!r}")
    if name == "cuda" and not torch.cuda.is_available():
        why = "this torch was built without CUDA" if torch.version.cuda is None else "torch finds no GPU"
        raise UserError(f"no CUDA device: {why}; --device auto or cpu trains on the CPU")
    return torch.device("cuda" if name == "cuda" or (name == "auto" and torch.cuda.is_available()) else "cpu")


@contextmanager
def one_thread() -> Iterator[None]:
    """Let torch compute with one thread, and then with as many as before.

    Acting is many tiny products, which a second thread only slows down. The number is the calling thread's, and what threads
    begin with that compute for the first time.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


class Workers:
    """Threads that compute parts side by side, each with one of torch's own: two would stall each other on a busy machine.

    Args:
        count: how many.
        name: what their names begin with.
    """

    def __init__(self, count: int, name: str) -> None:
        self.pool = ThreadPoolExecutor(count, name)

    def map(self, function: Callable[..., Any], *items: Iterable[Any]) -> list[Any]:
        """The function of each of the items, in order; the caller's own number of threads stays."""

        def alone(*item: Any) -> Any:
            torch.set_num_threads(1)
            return function(*item)

        with one_thread():
            with held():
                futures = [self.pool.submit(alone, *item) for item in zip(*items)]
            waiting = set(futures)
            while waiting:  # an interrupt waits for no longer than this
                with held():
                    waiting = wait(futures, 0.2).not_done
            with held():
                return [future.result() for future in futures]
