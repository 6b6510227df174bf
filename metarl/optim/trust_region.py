"""Compute trust-region steps (Schulman et al. 2015): Jacobian products, conjugate gradient, line search."""

from collections.abc import Callable, Sequence
from math import isfinite
from typing import NamedTuple

import torch
from torch import Tensor

Product = Callable[[Sequence[Tensor]], Sequence[Tensor]]


def linearise(outputs: Sequence[Tensor], inputs: Sequence[Tensor]) -> tuple[Product, Product]:
    """Return products with the Jacobian J of `outputs` with respect to `inputs`: v -> J v, u -> J' u, by reverse mode only.

    The graph of `outputs` lives as long as the products. Inputs that the outputs do not depend on have zero derivatives.
    """
    dummies = [torch.zeros_like(output).requires_grad_() for output in outputs]
    # J' w is linear in w, so its derivative with respect to w is J for every w
    transposed_product = torch.autograd.grad(
        outputs, inputs, dummies, create_graph=True, allow_unused=True, materialize_grads=True
    )

    def forward(v: Sequence[Tensor]) -> Sequence[Tensor]:
        return torch.autograd.grad(transposed_product, dummies, v, retain_graph=True, allow_unused=True, materialize_grads=True)

    def backward(u: Sequence[Tensor]) -> Sequence[Tensor]:
        return torch.autograd.grad(outputs, inputs, u, retain_graph=True, allow_unused=True, materialize_grads=True)

    return forward, backward


def conjugate_gradient(product: Callable[[Tensor], Tensor], b: Tensor, iterations: int) -> tuple[Tensor, Tensor]:
    """Solve A x = b for a positive definite A (Hestenes and Stiefel 1952), starting from 0.

    Args:
        product: v -> A v.
        b: (n,).
        iterations: maximum; stops earlier if the residual vanishes or A proves not to be positive definite.

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
        previous, square = square, residual @ residual
        direction = residual + square / previous * direction
    return x, residual


class Candidate(NamedTuple):
    """Measurements at a candidate: the surrogate to maximise, and the KL from the old policy."""

    surrogate: float
    kl: float


class LineSearchResult(NamedTuple):
    """Result of a line search.

    Attributes:
        point: the accepted candidate; None: none was accepted.
        measured: measurements at the accepted candidate, or at the last one tried.
        tried: number of candidates measured.
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
    """Return the first of start + step, start + backtrack * step, ... that raises the surrogate within the KL limit.

    Args:
        start, step: (n,).
        measure: computes surrogate and KL of a candidate; candidates with non-finite values are rejected.
        surrogate: its value at the start.
        max_kl: largest KL.
        backtrack: factor from one candidate to the next.
        tries: maximum number of candidates.
    """
    measured = Candidate(surrogate, 0.0)
    for k in range(tries):
        candidate = start + backtrack**k * step
        measured = measure(candidate)
        if isfinite(sum(measured)) and measured.surrogate > surrogate and measured.kl <= max_kl:
            return LineSearchResult(candidate, measured, k + 1)
    return LineSearchResult(None, measured, tries)
