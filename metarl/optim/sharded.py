"""The gradient of a loss in parts that are computed side by side, one core each.

How many parts there are decides how sums round, so it is a setting and never follows the machine's cores.
"""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
from torch import Tensor

from metarl.system.devices import Workers


class Shards:
    """Computes gradients in parts.

    Args:
        count: how many parts, on a CPU; elsewhere there is one.
        device: where they are computed.

    Attributes:
        count: how many parts there are.
    """

    def __init__(self, count: int, device: torch.device) -> None:
        self.count = count if device.type == "cpu" else 1
        self._workers = Workers(self.count, "metarl-shard")

    def gradients(
        self, loss: Callable[..., tuple[Tensor, Any]], parameters: Sequence[Tensor], *items: Iterable[Any]
    ) -> tuple[list[tuple[Tensor, ...]], list[Any]]:
        """Of each part, in order: the gradient by each parameter, zeros where the loss does not depend on it.

        Args:
            loss: from the items of a part to its loss and whatever else is found.
            parameters: by which the gradients are.
            items: of the parts.

        Returns:
            The gradients, and whatever else was found.
        """

        def part(*item: Any) -> tuple[tuple[Tensor, ...], Any]:
            value, found = loss(*item)
            return torch.autograd.grad(value, parameters, allow_unused=True, materialize_grads=True), found

        gradients, found = zip(*self._workers.map(part, *items))
        return list(gradients), list(found)
