"""Compute a gradient in parts, in parallel, one core per part.

The number of parts determines how sums round, so it is a setting and does not depend on the machine's cores.
"""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
from torch import Tensor

from metarl.system.devices import Workers


class Shards:
    """Computes gradients in parallel parts.

    Args:
        count: number of parts on a CPU; on other devices there is one.
        device: device of the computation.

    Attributes:
        count: actual number of parts.
    """

    def __init__(self, count: int, device: torch.device) -> None:
        self.count = count if device.type == "cpu" else 1
        self._workers = Workers(self.count, "metarl-shard")

    def gradients(
        self, loss: Callable[..., tuple[Tensor, Any]], parameters: Sequence[Tensor], *items: Iterable[Any]
    ) -> tuple[list[tuple[Tensor, ...]], list[Any]]:
        """Compute each part's gradient with respect to the parameters, zero where the loss does not depend on one.

        Args:
            loss: maps the items of a part to its loss and any other result.
            parameters: tensors to differentiate with respect to.
            items: one iterable per argument of `loss`, with one item per part.

        Returns:
            The gradients and the other results, both in order of the parts.
        """

        def part(*item: Any) -> tuple[tuple[Tensor, ...], Any]:
            value, output = loss(*item)
            return torch.autograd.grad(value, parameters, allow_unused=True, materialize_grads=True), output

        gradients, outputs = zip(*self._workers.map(part, *items))
        return list(gradients), list(outputs)
