"""Adapt parameters by gradient descent on a task's own loss; the inner loop for robots, images and text.

MAML (Finn et al. 2017, section 2.2) and its variants: first order (FOMAML, the same paper), learned rates (Meta-SGD, Li et
al. 2017), partial adaptation (ANIL, Raghu et al. 2020: the head only; BOIL, Oh et al. 2021: all but the head).

Parameters are plain dicts of tensors, never those stored in a module. With an additional leading task axis, the same code
adapts many tasks at once.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call

from metarl.errors import UserError
from metarl.system.ranges import check

Params = dict[str, Tensor]
"""Parameters by name; if several tasks are adapted together, the first axis of each tensor is the task."""

RATES = ("fixed", "layer", "weight")


@dataclass(frozen=True)
class InnerSettings:
    """Settings of the inner loop."""

    inner_lr: float = 0.05
    """Learning rate alpha of the inner steps. Wider networks need a smaller one, roughly proportional to 1 / width."""
    inner_steps: int = 1
    """Inner steps in training; evaluation may take more."""
    rates: str = "fixed"
    """fixed; or learned, starting at `inner_lr`: layer (one rate per parameter tensor) or weight (one per weight, Meta-SGD)."""
    first_order: bool = False
    """Leave out second derivatives (FOMAML)."""
    adapt_part: str = "all"
    """Parameters to adapt: all, head (ANIL), body (all but the head, BOIL), or comma-separated prefixes of parameter names."""

    def __post_init__(self) -> None:
        check(self, inner_lr="[0, 1e30)", inner_steps="[0, 10000]")
        if self.rates not in RATES:
            raise UserError(f"rates must be {', '.join(RATES)}, not {self.rates!r}")


def adapt(params: Params, loss: Callable[[Params], Tensor], rates: Sequence[Params], *, first_order: bool = False) -> Params:
    """Apply theta' = theta - alpha * grad L(theta) once for each entry of `rates`.

    The gradient is computed regardless of grad mode; if grad mode is on, the result is differentiable with respect to
    `params`, `rates`, and everything else the loss depends on.

    Args:
        params: starting point; not modified.
        loss: function of such parameters. It returns a scalar, or (num_tasks,) where row i depends only on row i of the
            parameters: each task then moves by the gradient of its own loss, as if adapted alone.
        rates: for each step, the learning rates alpha of the parameters to adapt, as `initial_rates` returns them. They
            broadcast against the parameters; parameters without a rate do not change.
        first_order: treat the gradient as a constant.

    Returns:
        All parameters. Those that the loss does not depend on are unchanged.
    """
    second_order, current = torch.is_grad_enabled() and not first_order, dict(params)
    for alpha in rates:
        with torch.enable_grad():
            # second derivatives need the gradient with respect to the very tensors that the previous step produced
            moving = {
                k: current[k] if second_order and current[k].requires_grad else current[k].detach().requires_grad_()
                for k in alpha
            }
            value = loss({**current, **moving}).sum()
            gradient = torch.autograd.grad(value, list(moving.values()), create_graph=second_order, allow_unused=True)
        for (name, old), derivative in zip(moving.items(), gradient):
            if derivative is not None:
                # theta' = theta - alpha * grad L(theta)
                current[name] = (old if second_order else current[name]) - alpha[name] * derivative
    return current


def initial_rates(params: Mapping[str, Tensor], settings: InnerSettings) -> Params:
    """Return the initial learning rates of the parameters to adapt: scalars, or tensors in the parameters' shapes.

    Raises:
        UserError: `adapt_part` names parameters that do not exist.
    """
    names = _adapted_names(list(params), settings.adapt_part)
    shape = {name: params[name].shape if settings.rates == "weight" else torch.Size() for name in names}
    return {name: params[name].new_full(shape[name], settings.inner_lr) for name in names}


def _adapted_names(names: list[str], part: str) -> list[str]:
    if part == "all":
        return names
    prefixes = ["head."] if part in ("head", "body") else [prefix.strip() for prefix in part.split(",")]
    missing = [prefix for prefix in prefixes if not any(name.startswith(prefix) for name in names)]
    if missing or "" in prefixes:
        raise UserError(
            f"adapt_part: no parameter begins with {', '.join(missing) or 'nothing'}. There are: {', '.join(names)}"
        )
    return [name for name in names if name.startswith(tuple(prefixes)) == (part != "body")]


def stacked(params: Mapping[str, Tensor], num_tasks: int) -> Params:
    """Add a leading task axis with the same parameters for every task, without copying."""
    return {name: value.expand(num_tasks, *value.shape) for name, value in params.items()}


def functional(module: nn.Module) -> Callable[..., Any]:
    """Return a module's forward as a function of (parameters, *inputs).

    Buffers are copied for every call and discarded afterwards, so running means written by a call affect neither the module
    nor later calls.
    """
    buffers = dict(module.named_buffers())

    def call(params: Params, *inputs: Any) -> Any:
        return functional_call(module, {**params, **{name: buffer.clone() for name, buffer in buffers.items()}}, inputs)

    return call


def finite(params: Mapping[str, Tensor]) -> Tensor:
    """Return which tasks have only finite parameters, (num_tasks,) bool."""
    rows = [value.detach().flatten(1).isfinite().all(1) for value in params.values()]
    return torch.stack(rows).all(0)


def flatten(tensors: Iterable[Tensor]) -> Tensor:
    """Concatenate all entries into one vector."""
    return torch.cat([tensor.reshape(-1) for tensor in tensors])


def unflatten(vector: Tensor, like: Mapping[str, Tensor]) -> Params:
    """Split the vector into tensors with the shapes of `like`."""
    parts = vector.split([value.numel() for value in like.values()])
    return {name: part.view(value.shape) for (name, value), part in zip(like.items(), parts)}
