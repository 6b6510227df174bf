"""Advantages compared with numbers calculated by hand."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from metarl.optim.advantages import discounted_returns, fit_linear, fit_pooled, gae, standardise


def test_discounted_returns_by_hand():
    reward = torch.tensor([[1.0], [2.0], [4.0]], dtype=torch.float64)
    # G_2 = 4, G_1 = 2 + 0.5 * 4 = 4, G_0 = 1 + 0.5 * 4 = 3
    assert discounted_returns(reward, 0.5).flatten().tolist() == [3.0, 4.0, 4.0]


def test_gae_by_hand():
    reward = torch.tensor([[1.0], [2.0], [3.0]], dtype=torch.float64)
    value = torch.tensor([[0.5], [1.0], [1.5], [2.0]], dtype=torch.float64)
    # gamma 0.5: delta = [1 + 0.5 - 0.5, 2 + 0.75 - 1, 3 + 1 - 1.5] = [1, 1.75, 2.5]
    # lambda 0.4, gamma lambda 0.2: A_2 = 2.5, A_1 = 1.75 + 0.5 = 2.25, A_0 = 1 + 0.45 = 1.45
    np.testing.assert_allclose(
        gae(reward, value, 0.5, 0.4, torch.ones(3, 1, dtype=torch.bool)).flatten(), [1.45, 2.25, 2.5], rtol=1e-14
    )


def test_gae_with_lambda_one_is_return_minus_value():
    rng = torch.Generator().manual_seed(0)
    reward, value = torch.rand(50, 3, generator=rng).double(), torch.rand(51, 3, generator=rng).double()
    value[-1] = 0
    np.testing.assert_allclose(
        gae(reward, value, 0.9, 1.0, torch.ones(50, 3, dtype=torch.bool)),
        discounted_returns(reward, 0.9) - value[:-1],
        atol=1e-12,
    )


@settings(max_examples=50, deadline=None)
@given(lengths=st.lists(st.integers(0, 12), min_size=1, max_size=4), with_ends=st.booleans(), seed=st.integers(0, 9))
def test_gae_ignores_padding(lengths, with_ends, seed):
    """Advantages of a padded trial do not depend on the padding; the row after its end is the bootstrap value."""
    steps, rng = max(lengths) + 1, torch.Generator().manual_seed(seed)
    reward, value = (torch.randn(n, len(lengths), generator=rng).double() for n in (steps, steps + 1))
    end = torch.rand(steps, len(lengths), generator=rng) < 0.3 if with_ends else None
    valid = torch.arange(steps)[:, None] < torch.tensor(lengths)
    together = gae(reward, value, 0.9, 0.8, valid, end)
    for i, n in enumerate(lengths):
        following = 0.0
        for t in reversed(range(n)):
            ended = end is not None and bool(end[t, i])
            delta = reward[t, i] + (0 if ended else 0.9 * value[t + 1, i]) - value[t, i]
            following = delta + (0 if ended else 0.9 * 0.8 * following)
            assert together[t, i] == pytest.approx(float(following), rel=1e-12, abs=1e-12)
        assert not together[n:, i].any()


def test_standardise_divides_by_the_standard_deviation_and_leaves_masked_entries_out():
    x = torch.tensor([[1.0, 1e6], [3.0, 5.0]], dtype=torch.float64)
    mask = torch.tensor([[True, False], [True, True]])
    # mean 3, variance (4 + 0 + 4) / 3
    np.testing.assert_allclose(standardise(x, mask), [[-2 / (8 / 3) ** 0.5, 0], [0, 2 / (8 / 3) ** 0.5]], rtol=1e-7)


def test_fit_linear_recovers_coefficients_of_each_task_and_ignores_rows_without_weight():
    rng = np.random.default_rng(0)
    features = torch.from_numpy(rng.standard_normal((200, 2, 3)))
    truth = torch.tensor([[1.0, -2.0, 3.0], [0.0, 5.0, 0.5]], dtype=torch.float64)
    target = (features * truth).sum(-1)
    target[150:] = 1e6
    weight = torch.ones(200, 2, dtype=torch.float64)
    weight[150:] = 0
    np.testing.assert_allclose(fit_linear(features, target, weight, ridge=1e-12), truth, atol=1e-9)


def test_fit_pooled_by_hand():
    """With one constant feature, the fit of the other columns is their mean; 2 rows and a pull of 6 go a quarter of the way."""
    features = torch.ones(3, 3, 1, dtype=torch.float64)
    target = torch.tensor([[7.0, 1.0, 3.0], [9.0, 2.0, 4.0], [1e6, 3.0, 5.0]], dtype=torch.float64)
    weight = torch.tensor([[1.0, 1, 1], [1, 1, 1], [0, 1, 1]], dtype=torch.float64)
    fit = fit_pooled(features, target, weight, pull=6.0, ridge=1e-12)
    # others: (1 + 2 + 3 + 3 + 4 + 5) / 6, (7 + 9 + 3 + 4 + 5) / 5, (7 + 9 + 1 + 2 + 3) / 5
    np.testing.assert_allclose(fit.others.flatten(), [3.0, 5.6, 4.4], rtol=1e-10)
    # column: others + n (mean - others) / (n + 6)
    np.testing.assert_allclose(fit.column.flatten(), [3 + 2 * 5 / 8, 5.6 + 3 * -3.6 / 9, 4.4 + 3 * -0.4 / 9], rtol=1e-10)


def test_fit_pooled_with_many_and_with_few_rows():
    rng = np.random.default_rng(0)
    features = torch.from_numpy(rng.standard_normal((4000, 3, 2)))
    truth = torch.tensor([[1.0, -2.0], [1.0, -2.0], [5.0, 0.0]], dtype=torch.float64)
    target = (features * truth).sum(-1)
    weight = torch.ones(4000, 3, dtype=torch.float64)
    np.testing.assert_allclose(fit_pooled(features, target, weight, 1.0).column, truth, atol=2e-3)
    weight[2:, 2] = 0  # two rows, which a fit without pooling would match exactly
    pooled = fit_pooled(features, target, weight, 100.0)
    np.testing.assert_allclose(pooled.column[2], truth[0], atol=0.2)
    np.testing.assert_allclose(pooled.others[2], truth[0], atol=1e-3)
    single_column = fit_pooled(features[:, :1], target[:, :1], weight[:, :1], 1e-9)
    assert not single_column.others.any()
    np.testing.assert_allclose(single_column.column[0], truth[0], atol=1e-6)


@settings(max_examples=20, deadline=None)
@given(st.floats(1e-2, 1e2), st.floats(1e-1, 1e4), st.integers(2, 60))
def test_the_pull_does_not_depend_on_the_features_scales(scale, pull, rows):
    rng = np.random.default_rng(rows)
    features, target = torch.from_numpy(rng.standard_normal((60, 3, 2))), torch.from_numpy(rng.standard_normal((60, 3)))
    weight = torch.ones(60, 3, dtype=torch.float64)
    weight[rows:, 0] = 0
    scaled = features * torch.tensor([1.0, scale], dtype=torch.float64)
    for one, other in zip(fit_pooled(features, target, weight, pull, 1e-12), fit_pooled(scaled, target, weight, pull, 1e-12)):
        predictions = ((x * column).sum(-1) for x, column in ((features, one), (scaled, other)))
        np.testing.assert_allclose(*predictions, atol=1e-6)
