"""Optimisation: the inner loop, advantage estimation, trust-region steps and gradients in parallel parts."""

from metarl.optim.advantages import discounted_returns, fit_linear, fit_pooled, gae, standardise
from metarl.optim.inner_loop import adapt
from metarl.optim.trust_region import conjugate_gradient, line_search

__all__ = ["adapt", "conjugate_gradient", "discounted_returns", "fit_linear", "fit_pooled", "gae", "line_search", "standardise"]
