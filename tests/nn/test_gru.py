"""The fused GRU is torch's: outputs and every derivative, for any size."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from metarl.nn.gru import gru

SIZE = st.integers(1, 20)


@settings(max_examples=25, deadline=None)
@given(SIZE, SIZE, SIZE, SIZE)
def test_outputs_and_derivatives_are_torchs(steps, batch, inputs, hidden):
    generator = torch.Generator().manual_seed(steps + 20 * batch)
    reference = torch.nn.GRU(inputs, hidden)
    weights = [
        (torch.randn(p.shape, generator=generator) / p.shape[-1] ** 0.5).requires_grad_() for p in reference.all_weights[0]
    ]
    x = torch.randn(steps, batch, inputs, generator=generator, requires_grad=True)
    first = torch.randn(batch, hidden, generator=generator).tanh().requires_grad_()
    factors = torch.randn(steps, batch, hidden, generator=generator)
    leaves = [x, first, *weights]
    with torch.no_grad():
        for parameter, weight in zip(reference.all_weights[0], weights):
            parameter.copy_(weight)
    exact = reference.double()
    expected, _ = exact(x.double(), first.double()[None])
    derivatives = torch.autograd.grad((expected * factors).sum(), [x, first, *exact.all_weights[0]])
    found = gru(x, first, weights)
    torch.testing.assert_close(found.double(), expected, rtol=0, atol=3e-6)
    for got, wanted in zip(torch.autograd.grad((found * factors).sum(), leaves), derivatives):
        scale = float(wanted.abs().max()) + 1e-3
        torch.testing.assert_close(got.double() / scale, wanted.double() / scale, rtol=0, atol=1e-5)


def test_no_input_is_changed():
    x, first = torch.randn(3, 2, 4), torch.zeros(2, 5)
    weights = [parameter.detach() for parameter in torch.nn.GRU(4, 5).all_weights[0]]
    before = [tensor.clone() for tensor in (x, first, *weights)]
    gru(x, first, weights)
    assert all(torch.equal(a, b) for a, b in zip(before, (x, first, *weights)))


def test_a_second_derivative_is_refused():
    """The derivative works in place: a second pass through it would be wrong."""
    x = torch.randn(3, 2, 4, requires_grad=True)
    weights = [parameter.detach().requires_grad_() for parameter in torch.nn.GRU(4, 5).all_weights[0]]
    out = gru(x, torch.zeros(2, 5), weights)
    (gradient,) = torch.autograd.grad(out.square().sum(), x, create_graph=True)
    with pytest.raises(RuntimeError):
        gradient.sum().backward()
