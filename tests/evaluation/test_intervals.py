"""Intervals against numbers worked out by hand or published, at the borders, and by simulation."""

import runpy
from pathlib import Path

import numpy as np
import pytest
from builders.tiny import train
from hypothesis import given
from hypothesis import strategies as st
from scipy import special

from metarl import cli
from metarl.evaluation.intervals import (
    Interval,
    accuracy,
    accuracy_change,
    difference,
    mean,
    of_episodes,
    proportion,
    recovered,
)

SCRIPT = Path(__file__).parents[2] / "scripts" / "coverage"


def test_mid_p_interval_of_known_counts():
    # no success in 50: (1 - p)^50 / 2 = 0.025, so p = 1 - 0.05^(1/50) = 0.05816
    assert proportion(np.zeros(50)) == pytest.approx((0, 0, 1 - 0.05 ** (1 / 50)), abs=1e-9)
    assert proportion(np.ones(50)) == pytest.approx((1, 0.05 ** (1 / 50), 1), abs=1e-9)
    # 1 of 2: P(2) + P(1) / 2 = p^2 + p (1 - p) = p = 0.025
    assert proportion(np.array([0.0, 1.0])) == pytest.approx((0.5, 0.025, 0.975), abs=1e-9)


def test_effective_number_of_goals_with_trials_and_tasks():
    # 4 goals that succeed in half of their trials: with the added goals m = 1/2, the squares sum to 2 * 1/4, so the
    # variance is 1/2 / 6 / 5 = 1/60 and n = 1/4 * 60 - 1 = 14: as 7 of 14
    seven = proportion(np.repeat([0.0, 1.0], 7))
    assert proportion(np.full(4, 0.5)) == pytest.approx(seven, abs=1e-9)
    # two tasks of 10, one solved and one not: n_h = 11, m_h = 1/22 and 21/22, squares 10 / 22^2 + (1 + 21^2) / 2 / 22^2 each
    variance = 2 * (10 + 221) / 22**2 / 11 / 10 / 4
    n = 0.25 / variance - 1
    solved = proportion(np.repeat([0.0, 1.0], 10), ["a"] * 10 + ["b"] * 10)
    assert n == pytest.approx(114.24, abs=0.01)
    assert solved.high - solved.low == pytest.approx(2 * 1.96 * 0.5 / np.sqrt(n), rel=0.02)  # far from 0 and 1 as Wald's


def test_every_task_weighs_the_same():
    values, tasks = np.array([1.0, 1.0, 1.0, 1.0, 0.0, 0.0]), ["a"] * 4 + ["b"] * 2
    for interval in (proportion, difference, mean):
        assert interval(values, tasks).mean == 0.5


def test_student_interval_of_known_sample():
    # n = 4, mean 2.5, s = 1.291, t(0.975, 3) = 3.1824: half width 2.0543
    assert mean(np.array([1.0, 2.0, 3.0, 4.0])) == pytest.approx((2.5, 0.4457, 4.5543), abs=1e-4)
    # tasks (1, 3) and (10, 14, 18): V = (2/2 + 16/3) / 4 = 1.5833, freedom = 6.3333^2 / (1^2 / 1 + 5.3333^2 / 2) = 2.6362
    # and t(0.975, 2.6362) = 3.4529 between the tabulated 4.3027 for 2 and 3.1824 for 3
    found = mean(np.array([1.0, 3.0, 10.0, 14.0, 18.0]), ["a"] * 2 + ["b"] * 3)
    assert found.mean == 8.0
    assert 3.1824 < (found.high - 8.0) / np.sqrt(1.58333) < 4.3027
    assert mean(np.array([1.0, 3.0, 2.0, 4.0]), ["a", "a", "b", "b"]) == pytest.approx(
        (2.5, 2.5 - 3.0427, 2.5 + 3.0427), abs=1e-3
    )  # equal variances of 2: V = 1/2, freedom 2, 4.3027 * 0.70711


def test_adjusted_interval_of_known_paired_differences():
    # Bonett and Price: 6 goals better, 2 worse of 20; d = 4/22, (7 + 3) / 22 - d^2 = 0.42149, over 21 (n - 1, where they
    # have n = 22): 0.020071, half width 1.95996 * 0.14167 = 0.27767
    values = np.repeat([1.0, -1.0, 0.0], [6, 2, 12])
    assert difference(values) == pytest.approx((0.2, 4 / 22 - 0.27767, 4 / 22 + 0.27767), abs=1e-4)


def test_an_interval_does_not_vanish_where_all_goals_agree():
    for value, tasks in ((0.0, None), (1.0, None), (1.0, ["a", "b"] * 25)):
        for interval in (proportion, difference):
            found = interval(np.full(50, value), tasks)
            assert found.high - found.low > 0.05
            assert found.low <= value <= found.high


def test_one_goal_has_no_interval_of_its_return():
    assert mean(np.array([3.0])) == (3.0, None, None)
    assert mean(np.array([3.0])).text(".1f") == "3.0 [–]"
    assert mean(np.array([3.0])).sign is None
    assert proportion(np.array([1.0])) == pytest.approx((1, 0.05, 1))
    assert difference(np.array([1.0])).low < 0  # one goal shows nothing


def test_tasks_of_a_single_goal_are_the_sample():
    values = np.array([1.0, 2.0, 2.0, 5.0])
    assert mean(values, ["a", "b", "b", "c"]) == mean(np.array([1.0, 2.0, 5.0]))
    assert proportion(np.array([1.0, 0.0, 1.0, 0.0]), ["a", "b", "b", "c"]) == proportion(np.array([1.0, 0.5, 0.0]))


@given(st.lists(st.tuples(st.integers(0, 4), st.sampled_from("abc")), min_size=1, max_size=30))
def test_intervals_hold_their_mean_and_stay_in_range(goals):
    values, tasks = np.array([value / 4 for value, _ in goals]), [task for _, task in goals]
    found = proportion(values, tasks)
    assert 0 <= found.low <= found.mean + 1e-9 <= found.high + 2e-9 <= 1 + 3e-9
    found = difference(values * 2 - 1, tasks)
    assert -1 <= found.low <= found.mean <= found.high <= 1
    assert proportion(values, ["x"] * len(values)) == proportion(values)  # one task named or not


@given(st.lists(st.sampled_from([0.0, 0.25, 0.5, 1.0]), min_size=1, max_size=12))
def test_failures_mirror_successes(values):
    rates = np.array(values)
    one, other = proportion(rates), proportion(1 - rates)
    assert one == pytest.approx((1 - other.mean, 1 - other.high, 1 - other.low), abs=1e-9)


def test_signs():
    assert [Interval(0, *ends).sign for ends in ((0.1, 1), (-1, -0.1), (-1, 1), (0, 1))] == [1, -1, 0, 0]


def test_intervals_cover_what_was_planted():
    """A few cases of each truth of `scripts/coverage`: bounds four standard errors beyond 92 and 98 %; all together close."""
    rows = runpy.run_path(str(SCRIPT))["simulate"](cases=40)
    assert min(row.covered for row in rows) >= 0.92 - 4 * 0.043
    middle = np.mean([row.covered for row in rows if row.middle])
    near_ends = np.mean([row.covered for row in rows if not row.middle])
    assert 0.94 < middle < 0.98
    assert near_ends > 0.95


def test_evaluating_a_run_of_one_goal(tmp_path, capsys):
    path = tmp_path / "run"
    assert train(path, 1, "--goals", "1") == 0
    assert cli.run(["evaluate", str(path), "--device", "cpu"]) == 0
    assert '"return": [[' in (path / "evaluation.json").read_text()
    assert ", null, null]" in (path / "evaluation.json").read_text()
    shown = capsys.readouterr().out
    assert "inconclusive with one goal" in shown
    assert "nan" not in shown
    assert "inf" not in shown


def test_the_difference_of_independent_rates():
    """Newcombe 1998, table II, method 10: 56/70 against 48/80 is 0.2000, from 0.0524 to 0.3339, by Wilson's intervals."""

    def wilson(k: int, n: int) -> tuple[float, float, float]:
        p, z = k / n, 1.959964
        half = z * (p * (1 - p) / n + z * z / (4 * n * n)) ** 0.5
        return p, (p + z * z / (2 * n) - half) / (1 + z * z / n), (p + z * z / (2 * n) + half) / (1 + z * z / n)

    a, b = wilson(56, 70), wilson(48, 80)
    assert recovered(a, b) == pytest.approx((0.2, 0.0524, 0.3339), abs=5e-5)
    assert recovered((0.5, None, None), b) == (pytest.approx(-0.1), None, None)


def test_the_interval_of_accuracy_of_known_episodes():
    """All right: every episode counts as one answer, so that p^n / 2 = 2.5 %, as for `proportion` of goals."""
    for n in (2, 10, 600):
        assert accuracy(np.ones(n), 75) == pytest.approx((1, 0.05 ** (1 / n), 1), abs=1e-9)
        assert accuracy(np.zeros(n), 75) == pytest.approx((0, 0, 1 - 0.05 ** (1 / n)), abs=1e-9)
    # 10 episodes, half of them all right: V = 0.25 * 10 / 9 / 10, worth 9 answers, times (1.95996 / 2.26216)^2 = 6.756
    half = accuracy(np.repeat([0.0, 1.0], 5), 25)
    assert half == pytest.approx((0.5, *_mid_p_ends(3.378, 6.756)), abs=1e-3)
    # 10 alike at 0.5: never worth more than the 40 answers that they have, times the same
    assert accuracy(np.full(10, 0.5), 4) == pytest.approx((0.5, *_mid_p_ends(15.01, 30.03)), abs=1e-3)
    assert accuracy(np.ones(1), 4) == (1, None, None)


def _mid_p_ends(x: float, n: float) -> tuple[float, float]:
    grid = np.linspace(1e-6, 1 - 1e-6, 200_001)
    more = (special.betainc(x, n - x + 1, grid) + special.betainc(x + 1, n - x, grid)) / 2
    return grid[np.searchsorted(more, 0.025)], grid[np.searchsorted(more, 0.975)]


def test_the_interval_of_accuracy_comes_to_students():
    """600 episodes of 75 queries, as papers have them: within 3 % of its width, and on its place."""
    rng = np.random.default_rng(0)
    for rate in (0.3, 0.6, 0.9, 0.97):
        values = rng.binomial(75, rng.beta(rate * 20, (1 - rate) * 20, 600)) / 75
        one, other = accuracy(values, 75), mean(values)
        assert one.high - one.low == pytest.approx(other.high - other.low, rel=0.03)
        assert one.low == pytest.approx(other.low, abs=0.1 * (other.high - other.low))
        later = np.clip(values + rng.normal(0.02, 0.05, 600), 0, 1).round(2)
        one, other = accuracy_change(later, values, 75), mean(later - values)
        assert one.high - one.low == pytest.approx(other.high - other.low, rel=0.05)
        assert one.mean == pytest.approx(other.mean)


ACCURACIES = st.integers(1, 30).flatmap(
    lambda m: st.tuples(st.just(m), st.lists(st.tuples(st.integers(0, m), st.integers(0, m)), min_size=2, max_size=20))
)


@given(ACCURACIES)
def test_intervals_of_accuracy_have_a_width_and_stay_in_their_range(drawn):
    answers, counts = drawn
    before, after = (np.array(one) / answers for one in zip(*counts))
    m, low, high = accuracy(after, answers)
    assert 0 <= low <= m <= high <= 1
    assert high - low > 1e-3
    m, low, high = accuracy_change(after, before, answers)
    assert -1 <= low <= m <= high <= 1
    assert high - low > 1e-3
    assert of_episodes("mse", after, answers).low >= 0


def test_a_difference_to_nothing_is_the_mean_itself():
    assert recovered((0.8, 0.7, 0.9), (0.0, 0.0, 0.1)).mean == 0.8
    assert recovered((0.0, 0.0, 0.1), (0.8, 0.7, 0.9)).mean == -0.8
    assert recovered((0.8, None, None), (0.0, 0.0, 0.1)) == (0.8, None, None)
