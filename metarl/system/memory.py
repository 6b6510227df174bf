"""Estimate the memory that work needs, and refuse it before allocation if it does not fit."""

from collections.abc import Callable, Mapping
from typing import Any

from metarl.errors import UserError
from metarl.system.machine import available_memory


def refuse_beyond(needs: Mapping[str, float], advice: str) -> None:
    """Raise `UserError` if the needs exceed the available memory.

    Args:
        needs: lower bounds in bytes, by what needs them.
        advice: how to reduce the need.

    Raises:
        UserError: the memory does not suffice.
    """
    total, available = sum(needs.values()), available_memory()
    if total > available:
        parts = ", ".join(f"{what} {size(count)}" for what, count in sorted(needs.items(), key=lambda need: -need[1]) if count)
        raise UserError(
            f"this takes at least {size(total)} of memory ({parts}), but only {size(available)} are available: {advice}"
        )


def weights(make: Callable[[Any], Any]) -> int:
    """Return the bytes of the tensors of the agent that `make` builds on a device, without allocating; 0: unknown.

    Raises:
        UserError: a tensor is too large for torch to represent.
    """
    import torch  # environments do not need torch

    try:
        with torch.device("meta"):
            return _bytes(make(torch.device("meta")).state_dict())
    except NotImplementedError:  # stable-baselines3 needs real memory
        return 0
    except RuntimeError as error:
        raise UserError(f"such a network cannot be made: {str(error).splitlines()[0]}") from None


def of_a_network(make: Callable[[Any], Any], adapted: int, least: float = 0) -> dict[str, float]:
    """Return the memory for an agent's weights in training: weights, gradient, two moments, and weights of adapted tasks.

    Args:
        make: see `weights`.
        adapted: number of tasks that have their own weights at a time.
        least: lower bound of the weights in bytes, in case they are unknown.
    """
    copies = 4 + adapted
    return {f"{copies:,} times the network's weights": copies * max(least, weights(make))}


def _bytes(state: Any) -> int:
    if isinstance(state, dict):
        return sum(map(_bytes, state.values()))
    return state.numel() * state.element_size() if hasattr(state, "element_size") else 0


def size(count: float) -> str:
    """Format bytes with decimal units (powers of 1000)."""
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:.{int(unit == 'GB')}f} {unit}"
        count /= 1000
    return f"{count:,.1f} TB"
