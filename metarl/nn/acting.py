"""Compiled forward pass of a policy: executes a `metarl.nn.program.Program` for one environment, without the interpreter."""

from metarl.nn.functions import ONE, fast, gru_step, tanh
from metarl.nn.program import ADD_LINEAR, BIASES, FILM, GRU, INPUTS, KIND, LINEAR, OUTPUTS, SOURCE, TANH, TARGET, WEIGHTS
from metarl.system.jit import jit


@fast
def add_linear(source, weights, target):
    """target += W x, for transposed weights (inputs, outputs): eight inputs at a time, so that sums stay in registers."""
    inputs, outputs = weights.shape
    for j in range(0, inputs - 7, 8):
        a, b, c, d = source[j], source[j + 1], source[j + 2], source[j + 3]
        e, f, g, h = source[j + 4], source[j + 5], source[j + 6], source[j + 7]
        for i in range(outputs):
            target[i] += (
                weights[j, i] * a
                + weights[j + 1, i] * b
                + weights[j + 2, i] * c
                + weights[j + 3, i] * d
                + weights[j + 4, i] * e
                + weights[j + 5, i] * f
                + weights[j + 6, i] * g
                + weights[j + 7, i] * h
            )
    for j in range(inputs - inputs % 8, inputs):
        a = source[j]
        for i in range(outputs):
            target[i] += weights[j, i] * a


@fast
def film(x, scale, shift):
    """x = x (1 + scale) + shift."""
    for k in range(len(x)):
        x[k] = x[k] * (ONE + scale[k]) + shift[k]


@fast
def tanh_all(x):
    """tanh of every entry, in place."""
    for k in range(len(x)):
        x[k] = tanh(x[k])


@fast
def limit_all(x):
    """Every entry clamped to [-1, 1], in place."""
    for k in range(len(x)):
        x[k] = min(max(x[k], -ONE), ONE)


@jit
def scaled(value, center, unit, clamp):
    """One scaled input, as `metarl.nn.input_scaling.InputScaler` computes it."""
    return min(max((value - center) / unit, -clamp), clamp)


@jit
def run_program(operations, weights, registers):
    """Execute the operations on an environment's registers with its weights; see `metarl.nn.program`."""
    for i in range(len(operations)):
        row = operations[i]
        kind, source, target, inputs, outputs = row[KIND], row[SOURCE], row[TARGET], row[INPUTS], row[OUTPUTS]
        x = registers[source : source + inputs]
        if kind in (LINEAR, ADD_LINEAR):
            matrix = weights[row[WEIGHTS] : row[WEIGHTS] + inputs * outputs].reshape((inputs, outputs))
            y = registers[target : target + outputs]
            if kind == LINEAR:
                y[:] = weights[row[BIASES] : row[BIASES] + outputs]
            add_linear(x, matrix, y)
        elif kind == FILM:
            film(x, registers[target : target + inputs], registers[target + inputs : target + outputs])
        elif kind == TANH:
            tanh_all(x)
        elif kind == GRU:
            gates = registers[target : target + 6 * inputs]
            gru_step(gates[: 3 * inputs], gates[3 * inputs :], x, x)
        else:
            limit_all(x)
