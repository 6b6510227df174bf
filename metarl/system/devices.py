"""Choose the compute device and control the number of torch threads."""

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import torch

from metarl.errors import UserError
from metarl.system.interrupts import held, results

DEVICES = ("auto", "cpu", "cuda")


def choose_device(name: str) -> torch.device:
    """Return the device for a name of `DEVICES`; auto: the GPU if there is one.

    Raises:
        UserError: unknown name, or cuda but torch finds no GPU.
    """
    if name not in DEVICES:
        raise UserError(f"device must be {', '.join(DEVICES)}, not {name!r}")
    if name == "cuda" and not torch.cuda.is_available():
        why = "this torch was built without CUDA" if torch.version.cuda is None else "torch finds no GPU"
        raise UserError(f"no CUDA device: {why}; --device auto or cpu trains on the CPU")
    return torch.device("cuda" if name == "cuda" or (name == "auto" and torch.cuda.is_available()) else "cpu")


@contextmanager
def one_thread() -> Iterator[None]:
    """Run torch with one thread inside the block, then restore the previous number.

    Acting consists of many tiny products, which a second thread only slows down. The setting applies to the calling thread
    and to threads that use torch for the first time inside the block.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


class Workers:
    """Threads that compute parts in parallel, each with one torch thread: two would stall each other on a busy machine.

    Args:
        count: number of threads.
        name: prefix of their names.
    """

    def __init__(self, count: int, name: str) -> None:
        self.pool = ThreadPoolExecutor(count, name)

    def map(self, function: Callable[..., Any], *items: Iterable[Any]) -> list[Any]:
        """Apply the function to the items in parallel; return results in order. The caller's thread setting is kept."""

        def alone(*item: Any) -> Any:
            torch.set_num_threads(1)
            return function(*item)

        with one_thread():
            with held():
                futures = [self.pool.submit(alone, *item) for item in zip(*items)]
            return results(futures)
