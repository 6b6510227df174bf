"""Compiled functions of float32, accurate to a few units in the last place: exp, sigmoid and tanh, and a step of a GRU."""

from functools import partial

import numpy as np

from metarl.system.jit import float_of_bits, jit

fast = partial(jit, fast=True)
F32 = np.float32
ONE, TWO = F32(1), F32(2)
LOG2_E, LN2_HIGH, LN2_LOW = F32(1.4426950408889634), F32(0.693359375), F32(-2.12194440e-4)
P0, P1, P2, P3, P4, P5 = map(
    F32, (1.9875691500e-4, 1.3981999507e-3, 8.3334519073e-3, 4.1665795894e-2, 1.6666665459e-1, 5.0000001201e-1)
)
"""Minimax polynomial of exp(r) for |r| <= ln(2) / 2 (Cephes, expf)."""
T0, T1, T2, T3, T4 = map(F32, (-5.70498872745e-3, 2.06390887954e-2, -5.37397155531e-2, 1.33314422036e-1, -3.33332819422e-1))
NEAR = F32(0.625**2)
"""Polynomial of (tanh(x) - x) / x^3 for |x| < 0.625 (Cephes, tanhf)."""


@fast
def exponential(x):
    """exp(x) to within 2e-7 relative; the compiler turns loops of it into SIMD, which it cannot do with the C library's."""
    x = min(max(x, F32(-87)), F32(88))
    n = np.floor(x * LOG2_E + F32(0.5))
    r = x - n * LN2_HIGH - n * LN2_LOW
    p = ((((P0 * r + P1) * r + P2) * r + P3) * r + P4) * r + P5
    p = p * r * r + r + ONE
    # exp(x) = 2^n exp(r)
    return p * float_of_bits((np.int32(n) + np.int32(127)) << np.int32(23))


@fast
def sigmoid(x):
    """1 / (1 + exp(-x))."""
    return ONE / (ONE + exponential(-x))


@fast
def tanh(x):
    """tanh(x) to within 2e-7 relative: near 0 by a polynomial, since there 1 - 2 / (exp(2x) + 1) cancels."""
    z = x * x
    near = ((((T0 * z + T1) * z + T2) * z + T3) * z + T4) * z * x + x
    far = ONE - TWO / (ONE + exponential(TWO * abs(x)))
    return near if z < NEAR else (far if x > F32(0) else -far)


@fast
def sigmoids(x, h):
    """x = sigmoid(x + h)."""
    for k in range(len(x)):
        x[k] = sigmoid(x[k] + h[k])


@fast
def candidates(n, r, h):
    """n = tanh(n + r h)."""
    for k in range(len(n)):
        n[k] = tanh(n[k] + r[k] * h[k])


@fast
def mixed(z, n, before, after):
    """after = (1 - z) n + z before."""
    for k in range(len(after)):
        after[k] = (ONE - z[k]) * n[k] + z[k] * before[k]


@jit
def gru_step(x, h, before, after):
    """Compute a GRU's next state (`torch.nn.GRU`); the gates r, z, n replace the input's products.

    The loops are apart, with few arrays each: only then does the compiler turn them into SIMD.

    Args:
        x, h: (3 H,) products of input and hidden state, with biases.
        before, after: (H,) the hidden state before the step and, filled, after it; they may be one array.
    """
    size = len(before)
    # r, z = sigmoid(i + h), n = tanh(i_n + r h_n), h' = (1 - z) n + z h
    sigmoids(x[: 2 * size], h[: 2 * size])
    candidates(x[2 * size :], x[:size], h[2 * size :])
    mixed(x[size : 2 * size], x[2 * size :], before, after)
