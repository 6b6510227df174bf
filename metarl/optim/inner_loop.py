"""The one inner loop: adaptation by gradient descent on a task's own loss, for robots, images and text alike.

MAML (Finn et al. 2017, section 2.2) and its kin: first order (FOMAML, the same paper), learned rates (Meta-SGD, Li et al.
2017), a part of the parameters (ANIL, Raghu et al. 2020: the head; BOIL, Oh et al. 2021: all but the head).

Parameters are plain dicts of tensors, never a module's own. With one more axis in front, the task, the same code adapts
many tasks at once.
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
"""Parameters by name; where several tasks are adapted together, the first axis of each is the task."""

RATES = ("fixed", "layer", "weight")


@dataclass(frozen=True)
class InnerSettings:
    """Settings of the inner loop."""

    inner_lr: float = 0.05
    """Learning rate alpha of the inner steps. A wider network wants a smaller one, about as 1 / width."""
    inner_steps: int = 1
    """Inner steps in training; at test time there may be more."""
    rates: str = "fixed"
    """fixed, or learned from `inner_lr` on: one rate a parameter tensor (layer), or one a weight (Meta-SGD)."""
    first_order: bool = False
    """Leave out second derivatives (FOMAML)."""
    adapt_part: str = "all"
    """What adapts: all, head (ANIL), body (all but the head: BOIL), or the beginnings of parameters' names, with commas."""

    def __post_init__(self) -> None:
        check(self, inner_lr="[0, 1e30)", inner_steps="[0, 10000]")
        if self.rates not in RATES:
            raise UserError(f"rates must be {', '.join(RATES)}, not {self.rates!r}")


def adapt(params: Params, loss: Callable[[Params], Tensor], rates: Sequence[Params], *, first_order: bool = False) -> Params:
    """theta' = theta - alpha * grad L(theta), once for each entry of `rates`.

    The gradient is taken whatever the grad mode; where grad mode is on, the result can be differentiated by `params`, by
    `rates`, and by whatever else the loss depends on.

    Args:
        params: where to start; not changed.
        loss: of such parameters. A scalar, or (num_tasks,) where row i depends on row i of the parameters alone: then
            each task moves by the gradient of its own loss, as if it were by itself.
        rates: for each step the learning rates alpha of the parameters that adapt, such as `initial_rates` gives. They
            broadcast against the parameters; a parameter without one stays as it is.
        first_order: treat the gradient as a constant.

    Returns:
        All parameters. Those that the loss does not depend on are as they were.
    """
    exact, current = torch.is_grad_enabled() and not first_order, dict(params)
    for alpha in rates:
        with torch.enable_grad():
            # where second derivatives are wanted, the gradient has to hang on the very tensors of the step before
            moving = {
                k: current[k] if exact and current[k].requires_grad else current[k].detach().requires_grad_() for k in alpha
            }
            value = loss({**current, **moving}).sum()
            gradient = torch.autograd.grad(value, list(moving.values()), create_graph=exact, allow_unused=True)
        for (name, start), slope in zip(moving.items(), gradient):
            if slope is not None:
                # theta' = theta - alpha * grad L(theta)
                current[name] = (start if exact else current[name]) - alpha[name] * slope
    return current


def initial_rates(params: Mapping[str, Tensor], settings: InnerSettings) -> Params:
    """The learning rates that training starts with, of the parameters that adapt: numbers, or as large as the parameters.

    Raises:
        UserError: `adapt_part` names parameters that do not exist.
    """
    names = _chosen(list(params), settings.adapt_part)
    shape = {name: params[name].shape if settings.rates == "weight" else torch.Size() for name in names}
    return {name: params[name].new_full(shape[name], settings.inner_lr) for name in names}


def _chosen(names: list[str], part: str) -> list[str]:
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
    """The same parameters for every task: a task axis in front, without copying."""
    return {name: value.expand(num_tasks, *value.shape) for name, value in params.items()}


def functional(module: nn.Module) -> Callable[..., Any]:
    """A module's forward as a function of (parameters, *inputs).

    Buffers are copied for every call: what the module writes to them while it runs (running means) is dropped, so that
    neither the module nor the order of calls matters.
    """
    buffers = dict(module.named_buffers())

    def call(params: Params, *inputs: Any) -> Any:
        return functional_call(module, {**params, **{name: buffer.clone() for name, buffer in buffers.items()}}, inputs)

    return call


def finite(params: Mapping[str, Tensor]) -> Tensor:
    """Of which tasks all parameters are finite, (num_tasks,) bool."""
    rows = [value.detach().flatten(1).isfinite().all(1) for value in params.values()]
    return torch.stack(rows).all(0)


def flatten(tensors: Iterable[Tensor]) -> Tensor:
    """All entries in one vector."""
    return torch.cat([tensor.reshape(-1) for tensor in tensors])


def unflatten(vector: Tensor, like: Mapping[str, Tensor]) -> Params:
    """The vector's entries in the shapes of `like`."""
    parts = vector.split([value.numel() for value in like.values()])
    return {name: part.view(value.shape) for (name, value), part in zip(like.items(), parts)}
