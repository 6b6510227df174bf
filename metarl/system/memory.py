"""What would take more memory than there is, refused before it is made."""

from collections.abc import Callable, Mapping
from typing import Any

from metarl.errors import UserError
from metarl.system.machine import available_memory


def refuse_beyond(needs: Mapping[str, float], advice: str) -> None:
    """Refuse what does not fit into the memory that is available.

    Args:
        needs: bytes that are taken at least, by what takes them.
        advice: what makes it less.

    Raises:
        UserError: it does not fit.
    """
    total, there = sum(needs.values()), available_memory()
    if total > there:
        parts = ", ".join(f"{what} {size(count)}" for what, count in sorted(needs.items(), key=lambda need: -need[1]) if count)
        raise UserError(f"this takes at least {size(total)} of memory ({parts}), and {size(there)} are available: {advice}")


def weights(make: Callable[[Any], Any]) -> int:
    """Bytes of the tensors of the agent that this makes on a device; nothing is allocated. 0: it has to be, to be known.

    Raises:
        UserError: a tensor would be larger than can be counted.
    """
    import torch  # environments alone do without

    try:
        with torch.device("meta"):
            return _bytes(make(torch.device("meta")).state_dict())
    except NotImplementedError:  # stable-baselines3 insists on memory
        return 0
    except RuntimeError as error:
        raise UserError(f"such a network cannot be made: {str(error).splitlines()[0]}") from None


def of_a_network(make: Callable[[Any], Any], adapted: int, least: float = 0) -> dict[str, float]:
    """What training takes for an agent's weights: they, their gradient and two moments, and weights of adapted tasks.

    Args:
        make: see `weights`.
        adapted: tasks that have weights of their own at a time.
        least: bytes of the weights at least, where they cannot be known.
    """
    copies = 4 + adapted
    return {f"{copies:,} times the network's weights": copies * max(least, weights(make))}


def _bytes(state: Any) -> int:
    if isinstance(state, dict):
        return sum(map(_bytes, state.values()))
    return state.numel() * state.element_size() if hasattr(state, "element_size") else 0


def size(count: float) -> str:
    """Bytes in words, in powers of 1000 as disks are sold."""
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:.{int(unit == 'GB')}f} {unit}"
        count /= 1000
    return f"{count:,.1f} TB"
