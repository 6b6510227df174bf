"""Advantages: the linear baseline of each task, generalised advantage estimation, standardisation."""

import torch
from torch import Tensor


def discounted_returns(reward: Tensor, gamma: float, end: Tensor | None = None) -> Tensor:
    """G_t = r_t + gamma G_{t+1}, with nothing after the last row, nor after rows where `end` is True; all (T, N)."""
    keep = torch.full_like(reward, gamma) if end is None else gamma * (~end).to(reward.dtype)
    returns = torch.empty_like(reward)
    following = torch.zeros_like(reward[0])
    for t in reversed(range(len(reward))):
        following = reward[t] + keep[t] * following
        returns[t] = following
    return returns


def gae(reward: Tensor, value: Tensor, gamma: float, lam: float, end: Tensor | None = None) -> Tensor:
    """Generalised advantage estimation (Schulman et al. 2016, equation 16) along the first axis.

    Args:
        reward: (T, N).
        value: (T + 1, N); the last row stands for what comes after.
        end: (T, N) bool: an episode ends here and nothing comes after it; None: never cut.
    """
    following = value[1:] if end is None else torch.where(end, torch.zeros_like(reward), value[1:])
    # delta_t = r_t + gamma V_{t+1} - V_t
    delta = reward + gamma * following - value[:-1]
    # A_t = delta_t + gamma lambda A_{t+1}
    return discounted_returns(delta, gamma * lam, end)


def standardise(x: Tensor, mask: Tensor) -> Tensor:
    """Mean 0 and standard deviation 1 over the entries where the mask is True; 0 elsewhere."""
    mean, std = x[mask].mean(), x[mask].std(unbiased=False)
    return torch.where(mask, (x - mean) / (std + 1e-8), torch.zeros_like(x))


def standardise_by_task(x: Tensor, mask: Tensor) -> Tensor:
    """As `standardise`, for each column of (T, N) by itself; a column without variance, or without entries, becomes 0."""
    count = mask.sum(0).clamp(min=1)
    centred = torch.where(mask, x - torch.where(mask, x, 0.0).sum(0) / count, 0.0)
    return centred / ((centred.square().sum(0) / count).sqrt() + 1e-8)


def fit_linear(features: Tensor, target: Tensor, weight: Tensor, ridge: float = 1e-5) -> Tensor:
    """Least squares with a ridge, each task for itself (the linear feature baseline of Duan et al. 2016).

    Args:
        features: (T, N, F) float64.
        target: (T, N) float64.
        weight: (T, N), 0 for rows to leave out.
        ridge: relative to the number of rows.

    Returns:
        Coefficients (N, F): prediction = (features * coefficients).sum(-1).
    """
    x = features.transpose(0, 1)  # (N, T, F)
    weighted = x * weight.T.unsqueeze(-1)
    # (X' W X + ridge n I) c = X' W y
    n = weight.sum(0).clamp(min=1.0)
    eye = torch.eye(x.shape[-1], dtype=x.dtype, device=x.device)
    gram = weighted.transpose(1, 2) @ x + ridge * n[:, None, None] * eye
    return torch.linalg.solve(gram, weighted.transpose(1, 2) @ target.T.unsqueeze(-1)).squeeze(-1)
