"""Describe a policy's forward pass as a list of operations on one vector, which compiled code executes beside the engine.

`metarl.nn.acting` is the interpreter. A new kind of policy needs a method `program` built from the operations
below; a new operation needs a number here and a branch there. Weights are data: neither their values nor their sizes
compile anything again.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from torch import Tensor

    from metarl.nn.input_scaling import InputScaler

LINEAR, ADD_LINEAR, TANH, GRU, FILM, LIMIT = range(6)
"""Operations. With n inputs from register a and m outputs from register b, weights at w and biases at v:
LINEAR  b = W a + b0: weights (n, m), transposed, at w, biases at v
ADD_LINEAR  b = b + W a: weights likewise
TANH    b = tanh(a)
GRU     a = next hidden state; b holds W_i x + b_i and W_h h + b_h, 3 n each (gates r, z, n as in `torch.nn.GRU`)
FILM    a = a (1 + scale) + shift; b holds scale and shift, n each
LIMIT   b = a, clamped to [-1, 1]
"""
KIND, SOURCE, TARGET, INPUTS, OUTPUTS, WEIGHTS, BIASES = range(7)
"""Columns of `Program.operations`."""


@dataclass(frozen=True)
class Program:
    """A policy for compiled acting. S sets of weights: one for all environments, or one per environment.

    Attributes:
        operations: (operations, 7) int64, see `KIND` and following.
        weights: (S, ...) float32.
        registers: size of the vector that the operations work on; it starts with the inputs.
        observed: number of observation entries among the inputs.
        with_previous: whether the inputs continue with the previous action, reward and done.
        center, unit, clamp: scale of the inputs, float32: (value - center) / unit, within [-clamp, clamp].
        memory: first register and size of each part of the memory, by name; it persists from step to step.
        out: first register of the head's output: the mean and, if it depends on the state, the logarithm of the std.
        log_std: (S, actions) float32, bounded; None: it depends on the state.
        log_std_bounds: lower and upper bound of a logarithm of the std that depends on the state.
    """

    operations: np.ndarray
    weights: np.ndarray
    registers: int
    observed: int
    with_previous: bool
    center: np.ndarray
    unit: np.ndarray
    clamp: float
    memory: dict[str, tuple[int, int]]
    out: int
    log_std: np.ndarray | None
    log_std_bounds: tuple[float, float]


class ProgramBuilder:
    """Builds a `Program`, operation by operation; methods return the first register of their result.

    Args:
        scaler: scales the inputs.
        with_previous: whether the inputs contain the previous action, reward and done.
    """

    def __init__(self, scaler: "InputScaler", *, with_previous: bool) -> None:
        from metarl.nn.input_scaling import CLAMP  # imports torch, which the engine does not need

        observed = scaler.mean.numel() - 1
        actions = scaler.output_size - observed - 2
        center, unit = (tensor.cpu().numpy() for tensor in scaler.constants())
        if with_previous:  # action and done are not scaled
            center = np.concatenate([center[:-1], np.zeros(actions), center[-1:], [0.0]])
            unit = np.concatenate([unit[:-1], np.ones(actions), unit[-1:], [1.0]])
        else:
            center, unit = center[:-1], unit[:-1]
        self._inputs = {
            "observed": observed,
            "with_previous": with_previous,
            "center": center.astype(np.float32),
            "unit": unit.astype(np.float32),
            "clamp": CLAMP,
        }
        self.inputs = 0
        self.size = {0: len(center)}  # by first register
        self._end = len(center)
        self._operations: list[tuple[int, ...]] = []
        self._weights: list[np.ndarray] = []
        self._offset = 0
        self._memory: dict[str, tuple[int, int]] = {}

    def _registers(self, size: int) -> int:
        first, self._end = self._end, self._end + size
        self.size[first] = size
        return first

    def _add(self, tensor: "Tensor") -> int:
        """Append weights, (S, ...) or for all tasks (1, ...); return their offset."""
        flat = tensor.detach().cpu().numpy().reshape(len(tensor), -1)
        offset, self._offset = self._offset, self._offset + flat.shape[1]
        self._weights.append(flat)
        return offset

    def linear(self, source: int, weight: "Tensor", bias: "Tensor") -> int:
        """W x + b, with weight (S, out, in) and bias (S, out)."""
        target = self._registers(weight.shape[1])
        weights, biases = self._add(weight.mT.contiguous()), self._add(bias)
        self._operations.append((LINEAR, source, target, weight.shape[2], weight.shape[1], weights, biases))
        return target

    def add_linear(self, source: int, target: int, weight: "Tensor") -> int:
        """Add W x to the target, with weight (S, out, in)."""
        self._operations.append(
            (ADD_LINEAR, source, target, weight.shape[2], weight.shape[1], self._add(weight.mT.contiguous()), 0)
        )
        return target

    def film(self, source: int, scale_and_shift: int) -> int:
        """x (1 + scale) + shift, in place, with scale and shift in consecutive registers (Perez et al. 2018)."""
        size = self.size[source]
        self._operations.append((FILM, source, scale_and_shift, size, 2 * size, 0, 0))
        return source

    def tanh(self, source: int) -> int:
        """tanh, in place."""
        return self._in_place(TANH, source)

    def limit(self, source: int) -> int:
        """Clamp to [-1, 1], in place."""
        return self._in_place(LIMIT, source)

    def _in_place(self, kind: int, source: int) -> int:
        size = self.size[source]
        self._operations.append((kind, source, source, size, size, 0, 0))
        return source

    def memory(self, name: str, size: int) -> int:
        """Registers that persist from step to step."""
        first = self._registers(size)
        self._memory[name] = first, size
        return first

    def gru(self, source: int, hidden: int, weights: "Sequence[Tensor]") -> int:
        """Update the memory `hidden` by a GRU; weights as in `torch.nn.GRU.all_weights`, each (S, ...)."""
        of_input, of_hidden, input_bias, hidden_bias = weights
        gates = self.linear(source, of_input, input_bias)
        self.linear(hidden, of_hidden, hidden_bias)  # its registers follow
        size = self.size[hidden]
        self._operations.append((GRU, hidden, gates, size, 6 * size, 0, 0))
        return hidden

    def build(self, out: int, log_std: "Tensor | None", log_std_bounds: tuple[float, float]) -> Program:
        """Build the program; see `Program` for the arguments, log_std (S, actions)."""
        sets = max(len(weights) for weights in self._weights)
        weights = np.concatenate([np.broadcast_to(part, (sets, part.shape[1])) for part in self._weights], 1)
        return Program(
            operations=np.array(self._operations, np.int64),
            weights=np.ascontiguousarray(weights, np.float32),
            registers=self._end,
            memory=self._memory,
            out=out,
            log_std=None if log_std is None else log_std.detach().cpu().numpy().astype(np.float32),
            log_std_bounds=log_std_bounds,
            **self._inputs,  # type: ignore[arg-type]
        )


def playback(observations: int, actions: int) -> Program:
    """A policy whose action is its noise: it plays recorded actions back, and costs next to nothing."""
    import torch

    from metarl.nn.input_scaling import InputScaler  # stepping environments does not need torch

    scaler = InputScaler(observations, actions, None)
    builder = ProgramBuilder(scaler, with_previous=False)
    out = builder.linear(builder.inputs, torch.zeros(1, actions, observations), torch.zeros(1, actions))
    return builder.build(out, torch.zeros(1, actions), (0.0, 0.0))
