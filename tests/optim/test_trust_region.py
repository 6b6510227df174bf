"""Trust-region steps compared with closed forms."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from metarl.optim.trust_region import Candidate, conjugate_gradient, line_search, linearise


def _spd(n: int, seed: int) -> torch.Tensor:
    a = torch.randn(n, n, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return a @ a.T + n * torch.eye(n, dtype=torch.float64)


def test_linearise_returns_products_with_the_jacobian_and_its_transpose():
    x = torch.tensor([0.5, -1.0, 2.0], dtype=torch.float64, requires_grad=True)
    y = torch.tensor(3.0, dtype=torch.float64, requires_grad=True)
    unused = torch.zeros(2, dtype=torch.float64, requires_grad=True)

    def function(x, y, unused):
        return x.square().sum() * x, torch.sin(y) * x[:2]

    forward, backward = linearise(function(x, y, unused), [x, y, unused])
    jacobian = torch.autograd.functional.jacobian(function, (x, y, unused))
    v = [torch.tensor([1.0, 2.0, -1.0]).double(), torch.tensor(0.7).double(), torch.ones(2).double()]
    u = [torch.tensor([0.3, 1.0, 2.0]).double(), torch.tensor([-1.0, 4.0]).double()]
    for row, product in zip(jacobian, forward(v)):
        torch.testing.assert_close(product, row[0] @ v[0] + row[1] * v[1])
    product = backward(u)
    torch.testing.assert_close(product[0], jacobian[0][0].T @ u[0] + jacobian[1][0].T @ u[1])
    torch.testing.assert_close(product[1], jacobian[0][1] @ u[0] + jacobian[1][1] @ u[1])
    assert product[2].tolist() == [0, 0]
    assert [torch.equal(*pair) for pair in zip(product, backward(u))] == [True] * 3  # repeated calls
    assert [torch.equal(*pair) for pair in zip(forward(v), forward(v))] == [True] * 2


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 8), st.integers(0, 1000))
def test_conjugate_gradient_solves_n_equations_in_n_iterations(n, seed):
    a, b = _spd(n, seed), torch.randn(n, generator=torch.Generator().manual_seed(seed + 1), dtype=torch.float64)
    x, residual = conjugate_gradient(lambda v: a @ v, b, n)
    torch.testing.assert_close(x, torch.linalg.solve(a, b), rtol=1e-8, atol=1e-10)
    assert residual.norm() < 1e-8 * b.norm()


def test_conjugate_gradient_returns_the_residual():
    a, b = _spd(9, 0), torch.ones(9, dtype=torch.float64)
    x, residual = conjugate_gradient(lambda v: a @ v, b, 3)
    torch.testing.assert_close(residual, b - a @ x, rtol=1e-10, atol=1e-12)
    # x.A x = x.(b - residual): the length of the step is computed from this
    assert float(x @ (b - residual)) == pytest.approx(float(x @ a @ x))


def test_conjugate_gradient_of_zero_and_of_indefinite_matrices():
    x, residual = conjugate_gradient(lambda v: v, torch.zeros(3), 5)
    assert not x.any()
    assert not residual.any()
    for curvature in (-1.0, 0.0):
        x, _ = conjugate_gradient(lambda v, curvature=curvature: curvature * v, torch.ones(3), 5)
        assert not x.any()
    x, _ = conjugate_gradient(lambda v: v * float("nan"), torch.ones(3), 5)
    assert not x.any()


def _search(measure, **changes):
    options = {"surrogate": 0.0, "max_kl": 1.0, "backtrack": 0.5, "tries": 4} | changes
    return line_search(torch.zeros(2), torch.tensor([8.0, 0.0]), measure, **options)


def test_line_search_accepts_the_first_valid_candidate():
    # the surrogate x - x^2 / 4 rises below 4, the KL x^2 / 8 allows up to 2.83: 8 and 4 are refused, 2 is taken
    result = _search(lambda p: Candidate(float(p[0] - p[0] ** 2 / 4), float(p[0] ** 2 / 8)))
    assert result.point.tolist() == [2.0, 0.0]
    assert (result.measured, result.tried) == ((1.0, 0.5), 3)


@pytest.mark.parametrize(
    "measure",
    [
        lambda p: Candidate(-1.0, 0.0),
        lambda p: Candidate(1.0, 2.0),
        lambda p: Candidate(float("nan"), 0.0),
        lambda p: Candidate(1.0, float("nan")),
        lambda p: Candidate(float("inf"), 0.0),
        lambda p: Candidate(0.0, 0.0),
    ],
)
def test_line_search_rejects_invalid_candidates(measure):
    result = _search(measure)
    assert result.point is None
    assert result.tried == 4
