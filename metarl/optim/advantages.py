"""Estimate advantages: linear baselines, generalised advantage estimation, standardisation."""

from typing import NamedTuple

import torch
from torch import Tensor


def discounted_returns(reward: Tensor, gamma: float, end: Tensor | None = None) -> Tensor:
    """Compute G_t = r_t + gamma G_{t+1}, with G = 0 after the last row and after rows where `end` is True; all (T, N)."""
    keep = torch.full_like(reward, gamma) if end is None else gamma * (~end).to(reward.dtype)
    returns = torch.empty_like(reward)
    next_return = torch.zeros_like(reward[0])
    for t in reversed(range(len(reward))):
        next_return = reward[t] + keep[t] * next_return
        returns[t] = next_return
    return returns


def gae(reward: Tensor, value: Tensor, gamma: float, lam: float, valid: Tensor, end: Tensor | None = None) -> Tensor:
    """Generalised advantage estimation (Schulman et al. 2016, equation 16) along the first axis.

    Args:
        reward: (T, N).
        value: (T + 1, N); the row after a column's last valid one is its bootstrap value.
        gamma, lam: discount and lambda.
        valid: (T, N) bool: invalid rows have delta 0 and contribute nothing to valid ones.
        end: (T, N) bool: an episode ends at this step, without bootstrap; None: nowhere.
    """
    next_value = value[1:] if end is None else torch.where(end, torch.zeros_like(reward), value[1:])
    # delta_t = r_t + gamma V_{t+1} - V_t
    delta = torch.where(valid, reward + gamma * next_value - value[:-1], 0.0)
    # A_t = delta_t + gamma lambda A_{t+1}
    return discounted_returns(delta, gamma * lam, end)


def standardise(x: Tensor, mask: Tensor) -> Tensor:
    """Scale to mean 0 and standard deviation 1 over the entries where the mask is True; set the others to 0."""
    mean, std = x[mask].mean(), x[mask].std(unbiased=False)
    return torch.where(mask, (x - mean) / (std + 1e-8), torch.zeros_like(x))


def standardise_by_task(x: Tensor, mask: Tensor) -> Tensor:
    """Apply `standardise` to each column of (T, N) separately; a column without variance or without entries becomes 0."""
    count = mask.sum(0).clamp(min=1)
    centred = torch.where(mask, x - torch.where(mask, x, 0.0).sum(0) / count, 0.0)
    return centred / ((centred.square().sum(0) / count).sqrt() + 1e-8)


def fit_linear(features: Tensor, target: Tensor, weight: Tensor, ridge: float = 1e-5) -> Tensor:
    """Fit each column separately by ridge regression (the linear feature baseline of Duan et al. 2016).

    Args:
        features: (T, N, F) float64.
        target: (T, N) float64.
        weight: (T, N), 0 excludes a row.
        ridge: relative to the number of rows.

    Returns:
        Coefficients (N, F): prediction = (features * coefficients).sum(-1).
    """
    gram, moment = _normal_equations(features, target, weight)
    # (X' W X + ridge n I) c = X' W y
    return _solve(gram, moment, ridge * weight.sum(0).clamp(min=1.0))


class PooledFit(NamedTuple):
    """Coefficients of `fit_pooled`, (N, F) each: prediction = (features * coefficients).sum(-1).

    Attributes:
        column: coefficients of each column.
        others: coefficients fitted to the other columns only; 0 if there are none.
    """

    column: Tensor
    others: Tensor


def fit_pooled(features: Tensor, target: Tensor, weight: Tensor, pull: float, ridge: float = 1e-5) -> PooledFit:
    """Fit by least squares with partial pooling: each column's coefficients are pulled towards those of all other columns.

    Fitted alone, a column with few rows would be matched exactly, leaving no advantage. This is the posterior mean of a
    hierarchical linear model (Gelman & Hill 2007, chapter 12) whose prior has the covariance of the other columns' features
    (a g-prior, Zellner 1986), so that the features' scales hardly matter (the ridges depend on them).

    Args:
        features, target, weight: see `fit_linear`.
        pull: strength of the pull, in rows of the other columns; a single column is fitted alone.
        ridge: of the others' fit, relative to the number of rows; the column's own is a thousandth of it, for features that
            are constant everywhere.
    """
    gram, moment = _normal_equations(features, target, weight)
    rows = weight.sum(0)
    of_others, rows_of_others = gram.sum(0) - gram, (rows.sum() - rows).clamp(min=1.0)
    others = _solve(of_others, moment.sum(0) - moment, ridge * rows_of_others)
    # G = sum of X_j' W X_j over the others / their rows: (X' W X + pull G) (c - c_others) = X' W (y - X c_others)
    residual_moment = moment - (gram @ others.unsqueeze(-1)).squeeze(-1)
    pulled = gram + pull * of_others / rows_of_others[:, None, None]
    return PooledFit(others + _solve(pulled, residual_moment, 1e-3 * ridge * (rows + pull)), others)


def _normal_equations(features: Tensor, target: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
    """Return X' W X (N, F, F) and X' W y (N, F) of each column."""
    x = features.transpose(0, 1)  # (N, T, F)
    transposed = (x * weight.T.unsqueeze(-1)).transpose(1, 2)
    return transposed @ x, (transposed @ target.T.unsqueeze(-1)).squeeze(-1)


def _solve(gram: Tensor, moment: Tensor, ridge: Tensor) -> Tensor:
    """Solve (gram + ridge I) c = moment for each column: (N, F, F), (N, F), (N,) to (N, F)."""
    eye = torch.eye(gram.shape[-1], dtype=gram.dtype, device=gram.device)
    return torch.linalg.solve(gram + ridge[:, None, None] * eye, moment.unsqueeze(-1)).squeeze(-1)
