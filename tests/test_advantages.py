"""The mathematics of advantages, against numbers worked out by hand."""

import numpy as np
import torch

from metarl.advantages import discounted_returns, fit_linear, gae, standardise


def test_discounted_returns_by_hand():
    reward = torch.tensor([[1.0], [2.0], [4.0]], dtype=torch.float64)
    # G_2 = 4, G_1 = 2 + 0.5 * 4 = 4, G_0 = 1 + 0.5 * 4 = 3
    assert discounted_returns(reward, 0.5).flatten().tolist() == [3.0, 4.0, 4.0]


def test_gae_by_hand():
    reward = torch.tensor([[1.0], [2.0], [3.0]], dtype=torch.float64)
    value = torch.tensor([[0.5], [1.0], [1.5], [2.0]], dtype=torch.float64)
    # gamma 0.5: delta = [1 + 0.5 - 0.5, 2 + 0.75 - 1, 3 + 1 - 1.5] = [1, 1.75, 2.5]
    # lambda 0.4, gamma lambda 0.2: A_2 = 2.5, A_1 = 1.75 + 0.5 = 2.25, A_0 = 1 + 0.45 = 1.45
    np.testing.assert_allclose(gae(reward, value, 0.5, 0.4).flatten(), [1.45, 2.25, 2.5], rtol=1e-14)


def test_gae_with_lambda_one_is_return_minus_value():
    rng = torch.Generator().manual_seed(0)
    reward, value = torch.rand(50, 3, generator=rng).double(), torch.rand(51, 3, generator=rng).double()
    value[-1] = 0
    np.testing.assert_allclose(gae(reward, value, 0.9, 1.0), discounted_returns(reward, 0.9) - value[:-1], atol=1e-12)


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
