"""Trust-region steps (Schulman et al. 2015): products with a linearised function, conjugate gradient, line search."""

from collections.abc import Callable, Sequence
from math import isfinite
from typing import NamedTuple

import torch
from torch import Tensor

Product = Callable[[Sequence[Tensor]], Sequence[Tensor]]


def linearise(outputs: Sequence[Tensor], inputs: Sequence[Tensor]) -> tuple[Product, Product]:
    """Products with the Jacobian J of `outputs` by `inputs`: v -> J v and u -> J' u, by reverse mode alone.

    The graph of `outputs` is kept as long as the products are. Inputs that the outputs do not depend on count as zeros.
    """
    dummies = [torch.zeros_like(output).requires_grad_() for output in outputs]
    # J' w is linear in w, so its derivative by w is J, wherever w is
    pulled = torch.autograd.grad(outputs, inputs, dummies, create_graph=True, allow_unused=True, materialize_grads=True)

    def forward(v: Sequence[Tensor]) -> Sequence[Tensor]:
        return torch.autograd.grad(pulled, dummies, v, retain_graph=True, allow_unused=True, materialize_grads=True)

    def backward(u: Sequence[Tensor]) -> Sequence[Tensor]:
        return torch.autograd.grad(outputs, inputs, u, retain_graph=True, allow_unused=True, materialize_grads=True)

    return forward, backward


def conjugate_gradient(product: Callable[[Tensor], Tensor], b: Tensor, iterations: int) -> tuple[Tensor, Tensor]:
    """Solve A x = b for a positive definite A (Hestenes and Stiefel 1952), starting from 0.

    Args:
        product: v -> A v.
        b: (n,).
        iterations: at most; it ends earlier where the residual vanishes or A turns out not to be positive definite.

    Returns:
        x and the residual b - A x.
    """
    x, residual = torch.zeros_like(b), b.clone()
    direction, square = residual, residual @ residual
    for _ in range(iterations):
        if not square > 1e-20 * (b @ b):
            break
        image = product(direction)
        curvature = direction @ image
        if not curvature > 0:
            break
        # a = r.r / d.A d;  x += a d;  r -= a A d
        x = x + square / curvature * direction
        residual = residual - square / curvature * image
        # d = r + (r.r / old r.r) d
        last, square = square, residual @ residual
        direction = residual + square / last * direction
    return x, residual


class Candidate(NamedTuple):
    """What a line search measures at a candidate: the surrogate to be raised, and the KL from the old policy."""

    surrogate: float
    kl: float


class LineSearchResult(NamedTuple):
    """What a line search found.

    Attributes:
        point: the accepted candidate; None: there is none.
        measured: there, or of the last candidate tried.
        tried: how many candidates were measured.
    """

    point: Tensor | None
    measured: Candidate
    tried: int


def line_search(
    start: Tensor,
    step: Tensor,
    measure: Callable[[Tensor], Candidate],
    *,
    surrogate: float,
    max_kl: float,
    backtrack: float,
    tries: int,
) -> LineSearchResult:
    """The first of start + step, start + backtrack * step, ... that raises the surrogate within the KL limit.

    Args:
        start, step: (n,).
        measure: surrogate and KL of a candidate; not finite: it is refused.
        surrogate: its value at the start.
        max_kl: largest KL.
        backtrack: factor from one candidate to the next.
        tries: candidates at most.
    """
    measured = Candidate(surrogate, 0.0)
    for k in range(tries):
        candidate = start + backtrack**k * step
        measured = measure(candidate)
        if isfinite(sum(measured)) and measured.surrogate > surrogate and measured.kl <= max_kl:
            return LineSearchResult(candidate, measured, k + 1)
    return LineSearchResult(None, measured, tries)
