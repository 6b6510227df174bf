"""Intervals against published numbers and by simulation."""

import numpy as np
import pytest

from metarl.statistics import mean, proportion


def test_wilson_interval_of_known_counts():
    # 8 of 10: (0.490, 0.943), 0 of 20: (0, 0.161), as tabulated for Wilson's score interval
    assert proportion(np.array([1] * 8 + [0] * 2)) == pytest.approx((0.8, 0.4902, 0.9433), abs=1e-4)
    assert proportion(np.zeros(20)) == pytest.approx((0.0, 0.0, 0.1611), abs=1e-4)
    assert proportion(np.ones(50))[1] < 0.94


def test_student_interval_of_known_sample():
    # n = 4, mean 2.5, s = 1.291, t(0.975, 3) = 3.1824: half width 2.0543
    assert mean(np.array([1.0, 2.0, 3.0, 4.0])) == pytest.approx((2.5, 0.4457, 4.5543), abs=1e-4)
    assert mean(np.array([3.0])).low == -np.inf


@pytest.mark.parametrize("rate", [0.03, 0.5, 0.97])
def test_interval_of_success_rates_covers_the_truth(rate):
    rng = np.random.default_rng(0)
    covered = 0
    for _ in range(1000):
        interval = proportion((rng.random(50) < rate).astype(float))
        covered += interval.low <= rate <= interval.high
    assert covered >= 920
