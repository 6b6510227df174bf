"""A GRU over a sequence, with its derivative: compiled code runs the loop over steps and calls BLAS for its products.

torch's own GRU on a CPU records a dozen operations per step and multiplies the weights' gradient step by step. Here the
input's product, and the derivatives with respect to weights and inputs, take all steps at once.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from metarl.nn.blas import add_product, sgemm_address
from metarl.nn.functions import ONE, fast, gru_step
from metarl.system.jit import jit


@jit
def forward_steps(sgemm, of_input, of_hidden, states, weight, bias):
    """Compute states[t + 1] from states[t] for every t; the gates r, z, n replace the input's products.

    Args:
        sgemm: see `metarl.nn.blas`.
        of_input: (T, B, 3 H) the input's products, with biases.
        of_hidden: (T, B, 3 H) filled with the hidden state's products, with biases.
        states: (T + 1, B, H) hidden states, of which the first is given.
        weight, bias: (3 H, H) and (3 H,), of the hidden state.
    """
    for t in range(len(of_input)):
        of_hidden[t] = bias
        add_product(sgemm, states[t], weight, True, of_hidden[t])
        for b in range(states.shape[1]):
            gru_step(of_input[t, b], of_hidden[t, b], states[t, b], states[t + 1, b])


@jit
def backward_steps(sgemm, gated, of_hidden, states, gradient, carried, weight):
    """Compute the derivatives of all steps, in place.

    Args:
        sgemm: see `metarl.nn.blas`.
        gated: (T, B, 3 H) gates r, z, n; replaced by the derivatives with respect to the input's products.
        of_hidden: (T, B, 3 H) the hidden state's products, with biases; replaced by the derivatives with respect to them.
        states: (T + 1, B, H) hidden states.
        gradient: (T, B, H) with respect to the outputs.
        carried: (B, H) zeros; replaced by the derivatives with respect to the first hidden state.
        weight: (3 H, H) of the hidden state.
    """
    for t in range(len(gated) - 1, -1, -1):
        for b in range(states.shape[1]):
            gru_step_backward(gated[t, b], of_hidden[t, b], states[t, b], gradient[t, b], carried[b])
        add_product(sgemm, of_hidden[t], weight, False, carried)


@fast
def gru_step_backward(g, h, before, gradient, carried):
    """Compute the derivatives of one step for one row; see `backward_steps`.

    Args:
        g, h: (3 H,) gates and products, replaced.
        before, gradient: (H,) the hidden state before the step, and the derivatives with respect to the output.
        carried: (H,) the derivatives with respect to the state after the step through later ones; replaced by those with
            respect to the state before it, as far as they do not pass through a product.
    """
    size = len(before)
    for k in range(size):
        r, z, n, h_n = g[k], g[size + k], g[2 * size + k], h[2 * size + k]
        d = gradient[k] + carried[k]
        d_n = d * (ONE - z) * (ONE - n * n)
        d_z = d * (before[k] - n) * z * (ONE - z)
        d_r = d_n * h_n * r * (ONE - r)
        g[k], g[size + k], g[2 * size + k] = d_r, d_z, d_n
        h[k], h[size + k], h[2 * size + k] = d_r, d_z, d_n * r
        carried[k] = d * z


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
        forward_steps(sgemm_address(), *arrays(of_input, of_hidden, states, w_hidden, b_hidden))
        ctx.save_for_backward(x, w_input, w_hidden, of_input, of_hidden, states)
        return states[1:]

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        x, w_input, w_hidden, of_input, of_hidden, states = ctx.saved_tensors
        carried = torch.zeros_like(states[0])
        backward_steps(sgemm_address(), *arrays(of_input, of_hidden, states, gradient, carried, w_hidden))
        d_input, d_hidden = of_input.flatten(0, 1), of_hidden.flatten(0, 1)
        return (
            (d_input @ w_input).view_as(x),
            carried,
            d_input.T @ x.flatten(0, 1),
            d_hidden.T @ states[:-1].flatten(0, 1),
            d_input.sum(0),
            d_hidden.sum(0),
        )


def arrays(*tensors: Tensor) -> tuple[np.ndarray, ...]:
    """The tensors as row-major arrays, without copying those that are."""
    return tuple(tensor.detach().contiguous().numpy() for tensor in tensors)


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
