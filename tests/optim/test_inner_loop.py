"""The inner loop: its step and derivatives compared with closed forms, and absence of side effects."""

import gc

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from metarl.errors import UserError
from metarl.optim.inner_loop import InnerSettings, adapt, finite, flatten, functional, initial_rates, stacked, unflatten

GENERATOR = torch.Generator().manual_seed(0)


def _double(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=GENERATOR, dtype=torch.float64)


class Regression(nn.Module):
    """A small network, in float64."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.encoder, self.head = nn.Linear(2, 3), nn.Linear(3, 1)
        self.double()

    def forward(self, x: Tensor) -> Tensor:
        return self.head(torch.tanh(self.encoder(x)))


MODULE = Regression()
CALL = functional(MODULE)
PARAMS = {name: value.detach() for name, value in MODULE.named_parameters()}
SUPPORT, QUERY = (_double(6, 2), _double(6, 1)), (_double(5, 2), _double(5, 1))
ALPHA = 0.3


def _mse(params, data) -> Tensor:
    return (CALL(params, data[0]) - data[1]).square().mean()


def _rates(kind="fixed", part="all", lr=ALPHA):
    return initial_rates(PARAMS, InnerSettings(inner_lr=lr, rates=kind, adapt_part=part))


def _flat_mse(data):
    return lambda vector: _mse(unflatten(vector, PARAMS), data)


def _meta_gradient(steps: int = 1, first_order: bool = False, part: str = "all") -> Tensor:
    leaves = {name: value.clone().requires_grad_() for name, value in PARAMS.items()}
    adapted = adapt(leaves, lambda p: _mse(p, SUPPORT), [_rates(part=part)] * steps, first_order=first_order)
    return flatten(torch.autograd.grad(_mse(adapted, QUERY), list(leaves.values())))


def _by_hand(theta: Tensor) -> Tensor:
    gradient = torch.autograd.functional.jacobian(_flat_mse(SUPPORT), theta)
    return theta - ALPHA * gradient


THETA = flatten(PARAMS.values())


def test_a_step_is_gradient_descent():
    adapted = adapt(PARAMS, lambda p: _mse(p, SUPPORT), [_rates()])
    torch.testing.assert_close(flatten(adapted.values()), _by_hand(THETA), rtol=1e-12, atol=1e-14)
    thrice = adapt(PARAMS, lambda p: _mse(p, SUPPORT), [_rates()] * 3)
    torch.testing.assert_close(flatten(thrice.values()), _by_hand(_by_hand(_by_hand(THETA))), rtol=1e-12, atol=1e-14)


def test_the_meta_gradient_equals_double_backpropagation():
    hessian = torch.autograd.functional.hessian(_flat_mse(SUPPORT), THETA)
    outer = torch.autograd.functional.jacobian(_flat_mse(QUERY), _by_hand(THETA))
    # d L(theta') / d theta = (I - alpha H) grad L(theta')
    expected = outer - ALPHA * hessian @ outer
    assert (hessian @ outer).norm() > 0.01 * outer.norm()
    torch.testing.assert_close(_meta_gradient(), expected, rtol=1e-10, atol=1e-13)


@pytest.mark.parametrize("steps", [1, 3])
def test_the_meta_gradient_equals_a_finite_difference(steps):
    def value(theta: Tensor) -> float:
        for _ in range(steps):
            theta = _by_hand(theta)
        return float(_flat_mse(QUERY)(theta))

    h, eye = 1e-6, torch.eye(len(THETA), dtype=torch.float64)
    expected = torch.tensor([(value(THETA + h * e) - value(THETA - h * e)) / (2 * h) for e in eye], dtype=torch.float64)
    torch.testing.assert_close(_meta_gradient(steps), expected, rtol=1e-6, atol=1e-8)


def test_first_order_is_the_gradient_at_the_adapted_weights():
    outer = torch.autograd.functional.jacobian(_flat_mse(QUERY), _by_hand(THETA))
    torch.testing.assert_close(_meta_gradient(first_order=True), outer, rtol=1e-12, atol=1e-14)
    assert not torch.allclose(_meta_gradient(), outer, rtol=1e-3)


def test_first_order_equals_full_where_the_hessian_is_zero():
    slope, results = _double(4), []
    for first_order in (True, False):
        start = {"w": torch.ones(4, dtype=torch.float64, requires_grad=True)}
        rate = {"w": torch.tensor(0.1, dtype=torch.float64)}
        adapted = adapt(start, lambda p: p["w"] @ slope, [rate] * 2, first_order=first_order)
        results.append(torch.autograd.grad(adapted["w"].pow(3).sum(), start["w"])[0])
    torch.testing.assert_close(results[0], results[1], rtol=0, atol=0)
    torch.testing.assert_close(results[0], 3 * (1 - 0.2 * slope).square())


@settings(max_examples=20, deadline=None)
@given(st.lists(st.integers(0, 9), min_size=1, max_size=5))
def test_tasks_adapt_independently(chosen):
    x, y = _double(10, 4, 2), _double(10, 4, 1)
    call = torch.vmap(CALL)

    def loss_on(rows):
        return lambda p: (call(p, x[rows]) - y[rows]).square().mean((1, 2))

    together = adapt(stacked(PARAMS, len(chosen)), loss_on(chosen), [_rates()] * 2)
    for i, task in enumerate(chosen):
        alone = adapt(stacked(PARAMS, 1), loss_on([task]), [_rates()] * 2)
        for name in PARAMS:
            torch.testing.assert_close(together[name][i], alone[name][0], rtol=1e-12, atol=1e-14)


def test_a_diverging_task_does_not_affect_the_others():
    scale = torch.tensor([1.0, float("inf"), 1.0], dtype=torch.float64)
    loss = lambda p: (p["w"] * scale[:, None]).square().sum(1)  # noqa: E731
    adapted = adapt({"w": torch.ones(3, 2, dtype=torch.float64)}, loss, [{"w": torch.tensor(0.1)}])
    assert finite(adapted).tolist() == [True, False, True]
    assert adapted["w"][0].tolist() == pytest.approx([0.8, 0.8])


def test_learned_rates_get_the_gradient_of_the_step():
    support = torch.autograd.functional.jacobian(_flat_mse(SUPPORT), THETA)
    outer = torch.autograd.functional.jacobian(_flat_mse(QUERY), _by_hand(THETA))
    for kind in ("layer", "weight"):
        rates = {name: rate.requires_grad_() for name, rate in _rates(kind).items()}
        adapted = adapt(PARAMS, lambda p: _mse(p, SUPPORT), [rates])
        gradients = torch.autograd.grad(_mse(adapted, QUERY), list(rates.values()))
        # d L(theta') / d alpha = -grad L_support * grad L(theta'), summed over the weights that share the rate
        expected = unflatten(-support * outer, PARAMS)
        for gradient, expected_gradient in zip(gradients, expected.values()):
            torch.testing.assert_close(
                gradient, expected_gradient if kind == "weight" else expected_gradient.sum(), rtol=1e-10, atol=1e-13
            )


def test_a_part_of_the_parameters_can_adapt():
    names = {part: list(_rates(part=part)) for part in ("all", "head", "body", "encoder.bias, head")}
    assert names["head"] == ["head.weight", "head.bias"]
    assert names["body"] == ["encoder.weight", "encoder.bias"]
    assert names["encoder.bias, head"] == ["encoder.bias", "head.weight", "head.bias"]
    assert names["all"] == list(PARAMS)
    adapted = adapt(PARAMS, lambda p: _mse(p, SUPPORT), [_rates(part="head")])
    assert adapted["encoder.weight"] is PARAMS["encoder.weight"]
    assert not torch.equal(adapted["head.weight"], PARAMS["head.weight"])
    assert _meta_gradient(part="head").abs().min() > 0  # the body is still learned, through the outer loss


@pytest.mark.parametrize("part", ["neck", "head,neck", "", "head,,"])
def test_unknown_parts_are_refused_with_the_known_ones(part):
    with pytest.raises(UserError, match=r"There are: encoder\.weight, encoder\.bias, head\.weight, head\.bias"):
        _rates(part=part)


def test_unused_parameters_stay_in_any_grad_mode():
    params = {"used": torch.ones(2), "unused": torch.ones(3)}
    rates = {name: torch.tensor(0.5) for name in params}
    with torch.no_grad():
        without_grad = adapt(params, lambda p: p["used"].square().sum(), [rates])
    with_grad = adapt(params, lambda p: p["used"].square().sum(), [rates])
    assert without_grad["used"].tolist() == with_grad["used"].tolist() == [0.0, 0.0]
    assert without_grad["unused"].tolist() == with_grad["unused"].tolist() == [1.0] * 3
    assert not without_grad["used"].requires_grad
    assert params["used"].tolist() == [1.0, 1.0]
    assert not params["used"].requires_grad


def test_buffers_and_dropout_work_and_the_module_is_never_changed():
    module = nn.Sequential(nn.Linear(2, 4), nn.BatchNorm1d(4), nn.Dropout(0.5), nn.Linear(4, 1)).train()
    before = {name: value.clone() for name, value in module.state_dict().items()}
    call, params = functional(module), dict(module.named_parameters())
    x = torch.randn(8, 2, generator=GENERATOR)
    torch.manual_seed(1)
    adapted = adapt(params, lambda p: call(p, x).square().mean(), [initial_rates(params, InnerSettings())] * 3)
    torch.autograd.grad(call(adapted, x).square().mean(), list(params.values()))
    assert all(torch.equal(value, before[name]) for name, value in module.state_dict().items())
    assert all(value.grad is None for value in module.parameters())
    assert not torch.equal(adapted["0.weight"], params["0.weight"])


def test_convolutions_adapt_independently():
    torch.manual_seed(0)
    module = nn.Sequential(nn.Conv2d(1, 4, 3, stride=2), nn.ReLU(), nn.Flatten(), nn.Linear(36, 3)).double()
    call, params = functional(module), {name: value.detach() for name, value in module.named_parameters()}
    x, y = _double(3, 6, 1, 8, 8), torch.arange(18).view(3, 6) % 3
    entropy = nn.functional.cross_entropy
    rates = [initial_rates(params, InnerSettings(inner_lr=0.4))] * 2

    def loss(p):
        return torch.vmap(lambda task_params, images, labels: entropy(call(task_params, images), labels))(p, x, y)

    together = adapt(stacked(params, 3), loss, rates)
    for i in range(3):
        alone = adapt(params, lambda p, i=i: entropy(call(p, x[i]), y[i]), rates)
        for name in params:
            torch.testing.assert_close(together[name][i], alone[name], rtol=1e-10, atol=1e-12)


def test_many_adaptations_leave_no_tensors():
    def tensors() -> int:
        gc.collect()
        return sum(isinstance(o, Tensor) for o in gc.get_objects())

    leaves = {name: value.clone().requires_grad_() for name, value in PARAMS.items()}
    counts = []
    for i in range(300):
        adapted = adapt(leaves, lambda p: _mse(p, SUPPORT), [_rates()] * 5)
        gradient = torch.autograd.grad(_mse(adapted, QUERY), list(leaves.values()))
        del adapted, gradient
        if i in (2, 299):
            counts.append(tensors())
    assert counts[0] == counts[1]


@pytest.mark.parametrize("settings", [{"inner_lr": -1.0}, {"inner_steps": -1}, {"rates": "learned"}])
def test_invalid_settings_are_refused(settings):
    with pytest.raises(UserError):
        InnerSettings(**settings)
