"""A GRU over a sequence, with its derivative: torch's products, and gates that compiled code computes in one pass.

torch's own GRU on a CPU records a dozen operations per step and multiplies the weights' gradient step by step. Here the
input's product, and all products of the derivative with respect to weights and inputs, take all steps at once.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from metarl.nn.functions import ONE, fast, gru_step
from metarl.system.jit import jit


@jit
def gates(of_input, of_hidden, states, t):
    """Compute step t: states[t + 1] from states[t]; the gates r, z, n replace the input's products.

    Args:
        of_input, of_hidden: (T, B, 3 H) products with biases.
        states: (T + 1, B, H) hidden states.
        t: index of the step.
    """
    for b in range(states.shape[1]):
        gru_step(of_input[t, b], of_hidden[t, b], states[t, b], states[t + 1, b])


@fast
def gates_backward(gated, of_hidden, states, gradient, carried, t):
    """Compute the derivatives of step t, in place.

    Args:
        gated: (T, B, 3 H) gates r, z, n; replaced by the derivatives of the input's products.
        of_hidden: (T, B, 3 H) replaced by the derivatives of the hidden state's products.
        states: (T + 1, B, H) hidden states.
        gradient: (T, B, H) of the loss with respect to the outputs.
        carried: (B, H) of the loss with respect to the state after step t through later steps; replaced by the part of that
            with respect to the state before it that does not pass through a product.
        t: index of the step.
    """
    size = states.shape[2]
    for b in range(states.shape[1]):
        g, h, before, passed = gated[t, b], of_hidden[t, b], states[t, b], carried[b]
        for k in range(size):
            r, z, n, h_n = g[k], g[size + k], g[2 * size + k], h[2 * size + k]
            d = gradient[t, b, k] + passed[k]
            d_n = d * (ONE - z) * (ONE - n * n)
            d_z = d * (before[k] - n) * z * (ONE - z)
            d_r = d_n * h_n * r * (ONE - r)
            g[k], g[size + k], g[2 * size + k] = d_r, d_z, d_n
            h[k], h[size + k], h[2 * size + k] = d_r, d_z, d_n * r
            passed[k] = d * z


class _GRU(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, x: Tensor, hidden: Tensor, w_input: Tensor, w_hidden: Tensor, b_input: Tensor, b_hidden: Tensor
    ) -> Tensor:
        steps, batch, inputs = x.shape
        of_input = torch.addmm(b_input, x.reshape(-1, inputs), w_input.T).view(steps, batch, -1)
        of_hidden = torch.empty_like(of_input)
        states = x.new_empty(steps + 1, batch, hidden.shape[1])
        states[0] = hidden
        arrays = of_input.numpy(), of_hidden.numpy(), states.numpy()
        for t, (before, product) in enumerate(zip(states.unbind(), of_hidden.unbind())):
            torch.addmm(b_hidden, before, w_hidden.T, out=product)
            gates(*arrays, t)
        ctx.save_for_backward(x, w_input, w_hidden, of_input, of_hidden, states)
        return states[1:]

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        x, w_input, w_hidden, of_input, of_hidden, states = ctx.saved_tensors
        carried = torch.zeros_like(states[0])
        arrays = of_input.numpy(), of_hidden.numpy(), states.numpy(), gradient.contiguous().numpy(), carried.numpy()
        products = of_hidden.unbind()
        for t in range(len(x) - 1, -1, -1):
            gates_backward(*arrays, t)
            carried.addmm_(products[t], w_hidden)
        d_input, d_hidden = of_input.flatten(0, 1), of_hidden.flatten(0, 1)
        return (
            (d_input @ w_input).view_as(x),
            carried,
            d_input.T @ x.flatten(0, 1),
            d_hidden.T @ states[:-1].flatten(0, 1),
            d_input.sum(0),
            d_hidden.sum(0),
        )


def gru(x: Tensor, hidden: Tensor, weights: Sequence[Tensor]) -> Tensor:
    """The hidden states of a GRU on a CPU, as `torch.nn.GRU` computes them to within rounding; differentiable once.

    Args:
        x: (T, B, inputs) float32.
        hidden: (B, H) the first hidden state.
        weights: as in `torch.nn.GRU.all_weights`.

    Returns:
        (T, B, H).
    """
    return _GRU.apply(x, hidden, *weights)
