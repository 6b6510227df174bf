"""The outer steps of MAML and related agents: update the shared weights from every task's support and query.

`MAML.update` calls them. Groups of tasks are computed in parallel and summed in a fixed order, so results do not depend on
the number of cores.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from metarl.agents.maml.phases import Group, MetaPolicy, Phase
from metarl.learner import Metrics, NonFiniteError
from metarl.optim.inner_loop import Params, finite, flatten, unflatten
from metarl.optim.trust_region import Candidate, conjugate_gradient, line_search, linearise

ROUNDING = 1e-6
"""Surrogate improvements up to this count as float32 rounding; the surrogate averages advantages of size about 1."""


def _leaves(meta: Params) -> Params:
    """The same values as leaves of a new autograd graph."""
    return {name: value.detach().requires_grad_() for name, value in meta.items()}


def _rows_of(group: Group, mask: Tensor) -> Group:
    return tuple(phase.map(lambda t: t[mask]) for phase in group)


def trpo_surrogate(agent: MetaPolicy, group: Group, chain: list[Params]) -> tuple[Tensor, Tensor]:
    """Surrogate and KL(old || new) of each task at its adapted weights, (G,) each."""
    query, distribution = group[-1], agent.policy(group[-1].x, chain[-1])
    # L_i = E[pi / pi_old A] over the task's own steps
    surrogate = (agent.ratio(distribution, query) * query.advantage * query.weight).sum(1)
    if agent.settings.sampling_credit and len(group) > 1:
        surrogate = surrogate + agent.credit(chain, group)
    return surrogate, (query.old.kl(distribution) * query.weight).sum(1)


def ppo_surrogate(agent: MetaPolicy, group: Group, chain: list[Params]) -> tuple[Tensor, Tensor]:
    """ProMP's objective and pre-adaptation KL(old || new) of each task, (G,) each (Rothfuss et al. 2019, section 5.2)."""
    s, query, distribution = agent.settings, group[-1], agent.policy(group[-1].x, chain[-1])
    ratio = agent.ratio(distribution, query)
    # E[min(r A, clip(r, 1 - eps, 1 + eps) A)]
    clipped = torch.minimum(ratio * query.advantage, ratio.clamp(1 - s.clip, 1 + s.clip) * query.advantage)
    surrogate = ((clipped + s.entropy * distribution.entropy()) * query.weight).sum(1)
    if s.sampling_credit and len(group) > 1:
        surrogate = surrogate + agent.credit(chain, group)
    kls = [(p.old.kl(agent.policy(p.x, params)) * p.weight).sum(1) for p, params in zip(group[:-1], chain)]
    kl = torch.stack(kls).mean(0) if kls else torch.zeros_like(surrogate)
    # - eta KL(pi_old, pi) of the policies that collected the support
    return surrogate - agent.inner_kl * kl, kl


def _gradient(agent: MetaPolicy, surrogate: Callable[..., tuple[Tensor, Tensor]], group: Group) -> tuple[Any, Tensor, Tensor]:
    """The finite tasks of the group, the sums of their surrogate and KL (2,), and the gradient of the summed surrogate.

    Drops tasks whose adapted weights, surrogate, KL or gradient is not finite.
    """
    while True:
        leaves = _leaves(agent.meta)
        chain = agent.chain(leaves, group)
        value, kl = surrogate(agent, group, chain)
        whole = finite(chain[-1]) & value.isfinite() & kl.isfinite()
        if whole.all():
            gradient = torch.autograd.grad(value.sum(), list(leaves.values()), allow_unused=True, materialize_grads=True)
            flat = flatten(gradient)
            if flat.isfinite().all() or len(whole) > 1:
                return group, torch.stack([value.sum(), kl.sum()]).detach(), flat
            whole = torch.zeros_like(whole)
        if not whole.any():
            return None, torch.zeros(2, device=value.device), torch.zeros_like(flatten(agent.meta.values()).detach())
        group = _rows_of(group, whole)


def _mean_gradient(
    agent: MetaPolicy, surrogate: Callable[..., tuple[Tensor, Tensor]], groups: list[Group]
) -> tuple[list[Group], int, Tensor, Tensor]:
    """The groups without failed tasks, the number of tasks left, mean surrogate and KL (2,), and the mean gradient.

    Raises:
        NonFiniteError: more than half of the tasks failed, or the mean gradient is not finite.
    """
    found = agent.each(partial(_gradient, agent, surrogate), groups)
    kept = [group for group, _, _ in found if group is not None]
    total, left = sum(len(group[0].x) for group in groups), sum(len(group[0].x) for group in kept)
    gradient = torch.stack([g for _, _, g in found]).sum(0) / max(1, left)
    if 2 * left < total or not gradient.isfinite().all():
        raise NonFiniteError(
            f"the adapted policies of {total - left} of {total} tasks are not finite: inner_lr may be too large",
            {f"advantage_{i}": phase.advantage for i, phase in enumerate(groups[0])},
        )
    return kept, left, torch.stack([sums for _, sums, _ in found]).sum(0) / left, gradient


def trpo(agent: MetaPolicy, groups: list[Group], rng: np.random.Generator) -> Metrics:
    """A natural-gradient step through the inner steps (Finn et al. 2017; Schulman et al. 2015, appendix C)."""
    s, total = agent.settings, sum(len(group[0].x) for group in groups)
    kept, left, (surrogate, _), gradient = _mean_gradient(agent, trpo_surrogate, groups)
    products = agent.each(partial(_fisher, agent, rng.random()), kept)

    def fisher(v: Tensor) -> Tensor:
        return torch.stack(agent.each(lambda product: product(v), products)).sum(0) / left

    def measure(point: Tensor) -> Candidate:
        sums = torch.stack(agent.each(partial(_measure, agent, point), kept)).sum(0) / left
        return Candidate(*sums.tolist())

    x, residual = conjugate_gradient(fisher, gradient, s.cg_iterations)
    # KL(theta + b x) = b^2 x.F x / 2 = max_kl; x.F x = x.(g - residual) needs no other product
    curvature = float(x @ (gradient - residual))
    start = flatten(agent.meta.values()).detach()
    metrics = {
        "failed_tasks": float(total - left),
        "accepted": 0.0,
        "line_search": 0.0,
        "kl": 0.0,
        "surrogate_gain": 0.0,
        "cg_residual": float(residual.norm() / gradient.norm().clamp(min=1e-30)),
        "grad_norm": float(gradient.norm()),
    }
    if not curvature > 0 or not np.isfinite(curvature):  # zero gradient, or a broken Fisher product: no direction to follow
        return metrics
    found = line_search(
        start,
        (2 * s.max_kl / curvature) ** 0.5 * x,
        measure,
        surrogate=float(surrogate) + ROUNDING,
        max_kl=s.max_kl,
        backtrack=s.backtrack,
        tries=s.backtracks,
    )
    if found.point is not None:
        _set(agent, found.point)
        metrics |= {"accepted": 1.0, "kl": found.measured.kl, "surrogate_gain": found.measured.surrogate - float(surrogate)}
    return metrics | {"line_search": float(found.tried)}


def _fisher(agent: MetaPolicy, shift: float, group: Group) -> Callable[[Tensor], Tensor]:
    """v -> the group's sum of J' F J v (Gauss-Newton): J goes through the inner steps, F is of the query's distributions.

    The product equals that with the Hessian of the KL at the weights that collected the data. It uses a fraction
    `fvp_fraction` of the steps, evenly spaced from a random first one.
    """
    some = tuple(_spread(phase, agent.settings.fvp_fraction, shift) for phase in group)
    leaves, query = _leaves(agent.meta), some[-1]
    distribution = agent.policy(query.x, agent.chain(leaves, some)[-1])
    forward, backward = linearise(distribution.tensors, list(leaves.values()))
    fixed = distribution.map(torch.Tensor.detach)

    def product(v: Tensor) -> Tensor:
        changed = fixed.fisher(*forward(list(unflatten(v, leaves).values())))
        return flatten(backward([change * query.weight.unsqueeze(-1) for change in changed]))

    return product


def _spread(phase: Phase, share: float, shift: float) -> Phase:
    """A fraction of the steps, evenly spaced over the valid ones: episodes may have ended early."""
    there = phase.weight.any(0).nonzero().squeeze(1)
    if not len(there):
        return phase.rows(there.new_zeros(1))  # one step of weight 0
    n = len(there)
    taken = max(1, round(share * n))
    rows = ((torch.arange(taken, device=there.device) + shift) * (n / taken)).long().clamp(max=n - 1)
    return phase.rows(there[rows])


def _measure(agent: MetaPolicy, point: Tensor, group: Group) -> Tensor:
    """Sums over the group of surrogate and KL at other shared weights, (2,), with the tasks adapted again."""
    with torch.no_grad():
        surrogate, kl = trpo_surrogate(agent, group, agent.chain(unflatten(point, agent.meta), group))
        return torch.stack([surrogate.sum(), kl.sum()])


def ppo(agent: MetaPolicy, groups: list[Group], rng: np.random.Generator) -> Metrics:
    """Several Adam steps on ProMP's objective; without inner steps this is PPO over all tasks."""
    s, sums, failed, updates = agent.settings, torch.zeros(3), 0, 0
    for _ in range(s.epochs):
        orders = [torch.from_numpy(rng.permutation(phase.x.shape[1])).to(agent.device) for phase in groups[0]]
        for part in zip(*(order.tensor_split(min(s.minibatches, len(order))) for order in orders)):
            whole = s.minibatches == 1
            some = groups if whole else [tuple(p.rows(rows) for p, rows in zip(group, part)) for group in groups]
            _, left, figures, gradient = _mean_gradient(agent, ppo_surrogate, some)
            failed = max(failed, sum(len(group[0].x) for group in groups) - left)
            for parameter, part_of_it in zip(agent.meta.values(), unflatten(-gradient, agent.meta).values()):
                parameter.grad = part_of_it.clone()
            norm = gradient.norm()
            if s.max_grad_norm is not None:
                nn.utils.clip_grad_norm_(agent.meta.values(), s.max_grad_norm)
            agent.optimizer.step()
            sums, updates = sums + torch.stack([*figures, norm]).cpu(), updates + 1
    surrogate, kl, norm = (sums / updates).tolist()
    if s.inner_steps and s.inner_kl_target is not None:
        # eta doubles if the KL is above 1.5 times its target, and halves if it is below target / 1.5
        last = float(figures[1])
        agent.inner_kl *= 2.0 if last > 1.5 * s.inner_kl_target else 0.5 if last < s.inner_kl_target / 1.5 else 1.0
    return {
        "failed_tasks": float(failed),
        "surrogate": surrogate,
        "inner_kl": kl,
        "inner_kl_weight": agent.inner_kl,
        "grad_norm": norm,
    }


def reptile(agent: MetaPolicy, groups: list[Group], rng: np.random.Generator) -> Metrics:
    """theta += epsilon * mean(theta_i - theta); theta_i includes a step on the query (Nichol et al. 2018, algorithm 2)."""

    def moved(group: Group) -> Tensor:
        with torch.no_grad():
            after = agent.chain(agent.meta, group, len(group))[-1]
        return torch.cat([value.flatten(1) for value in after.values()], 1)[finite(after)]

    rows = torch.cat(agent.each(moved, groups))
    total = sum(len(group[0].x) for group in groups)
    if 2 * len(rows) < total:
        raise NonFiniteError(f"the adapted policies of {total - len(rows)} of {total} tasks are not finite", {})
    policy, _ = agent.split(agent.meta)
    change = agent.settings.learning_rate * (rows.mean(0) - flatten(policy.values()).detach())
    with torch.no_grad():
        for parameter, part in zip(policy.values(), unflatten(change, policy).values()):
            parameter.add_(part)
    return {"failed_tasks": float(total - len(rows)), "moved": float(change.norm())}


def _set(agent: MetaPolicy, point: Tensor) -> None:
    with torch.no_grad():
        for parameter, value in zip(agent.meta.values(), unflatten(point, agent.meta).values()):
            parameter.copy_(value)


OUTER: dict[str, Callable[..., Metrics]] = {"trpo": trpo, "ppo": ppo, "reptile": reptile}
