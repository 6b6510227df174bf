"""Train goals and held-out goals equal Meta-World's, in its order."""

from collections import Counter
from typing import Any

import metaworld
import numpy as np
import pytest
from builders.oracle import draw, goals, same_global_state
from hypothesis import given, settings
from hypothesis import strategies as st

from metarl.envs import SUITES, TASKS, Task, TaskDistribution, suite
from metarl.envs.engines.python import StockEnv
from metarl.envs.goals import draw_goals
from metarl.errors import UserError


def ours(distribution: TaskDistribution | None) -> list[tuple[str, Any]]:
    return [(task.name, task.params) for task in distribution.tasks] if distribution else []


@pytest.mark.parametrize(("task", "seed"), [("reach-v3", 1), ("push-v3", 2), ("sweep-into-v3", 0)])
def test_ml1_has_the_goals_of_metaworld(task: str, seed: int) -> None:
    ml1, upstream = suite(f"ml1:{task}", seed), metaworld.ML1(task, seed=seed)
    assert ours(ml1.train) == goals(upstream.train_tasks)
    assert ours(ml1.test) == goals(upstream.test_tasks)
    assert len(set(ml1.train.tasks)) == len(set(ml1.test.tasks)) == 50
    assert not set(ml1.train.tasks) & set(ml1.test.tasks)
    assert ml1.train.names == ml1.test.names == (task,)
    assert (ml1.name, ml1.seed) == (f"ml1:{task}", seed)
    assert not ml1.train.goal_visible


def test_ml10_has_the_goals_of_metaworld(monkeypatch: pytest.MonkeyPatch) -> None:
    """With ten goals a task, drawn one task after the other from one generator; 50 are drawn alike."""
    monkeypatch.setattr(metaworld, "_N_GOALS", 10)
    ml10, upstream = suite("ml10", 1, goals=10), metaworld.ML10(seed=1)
    assert ours(ml10.train) == goals(upstream.train_tasks)
    assert ours(ml10.test) == goals(upstream.test_tasks)
    assert (len(set(ml10.train.tasks)), len(set(ml10.test.tasks))) == (100, 50)
    assert not set(ml10.train.names) & set(ml10.test.names)
    assert set(Counter(task.name for task in ml10.train.tasks).values()) == {10}


@pytest.mark.parametrize("kind", ["ML10", "ML25", "ML45", "MT10", "MT25", "MT50"])
def test_suites_have_the_classes_of_metaworld_in_its_order(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Compares the arguments of the benchmark class's draws, which avoids a minute of resets."""
    calls: list[tuple[tuple[str, ...], dict[str, bool], int]] = []

    def record(classes: Any, args: Any, override: dict[str, bool], seed: int) -> list[Any]:
        calls.append((tuple(args), override, seed))
        return []

    monkeypatch.setattr(metaworld, "_make_tasks", record)
    getattr(metaworld, kind)(seed=7)
    loaded = suite(kind.lower(), 7)
    sides = [side for side in (loaded.train, loaded.test) if side]
    assert [side.names for side in sides] == [names for names, _, _ in calls]
    assert [{"partially_observable": not side.goal_visible} for side in sides] == [override for _, override, _ in calls]
    for side, (names, _, seed) in zip(sides, calls):
        assert ours(side) == [(name, tuple(vector)) for name, vector in draw_goals(names, 50, seed)]
        assert set(Counter(task.name for task in set(side.tasks)).values()) == {50}


@pytest.mark.parametrize("name", TASKS)
def test_draws_equal_those_of_an_upstream_environment(name: str) -> None:
    """Three resets draw from numpy's global generator: twice each, and again if two points are too close."""
    upstream, global_state = StockEnv(name), np.random.get_state()  # noqa: NPY002
    expected = draw_goals((name,), 3, 11)
    assert same_global_state(global_state)
    np.random.seed(11)  # noqa: NPY002
    upstream.env._set_task_called, upstream.env._freeze_rand_vec = True, False
    for _, vector in expected:
        upstream.env.reset()
        assert upstream.env._last_rand_vec.tolist() == vector
    np.random.set_state(global_state)  # noqa: NPY002


def test_another_number_of_goals_equals_the_draws_of_metaworld(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metaworld, "_N_GOALS", 3)
    upstream = metaworld.ML1("push-v3", seed=4)
    ml1 = suite("ml1:push-v3", 4, goals=3)
    assert (ours(ml1.train), ours(ml1.test)) == (goals(upstream.train_tasks), goals(upstream.test_tasks))


def test_test_goals_of_one_seed_are_train_goals_of_the_next() -> None:
    """Meta-World draws ML1's test goals with seed + 1, so evaluation compares goals, not seeds, before it starts."""
    first, second = suite("ml1:reach-v3", 1), suite("ml1:reach-v3", 2)
    assert ours(first.test) == ours(second.train)
    assert not set(first.train.tasks) & set(second.train.tasks)


def test_goals_do_not_use_the_global_generator_of_numpy() -> None:
    np.random.seed(0)  # noqa: NPY002
    first = draw_goals(("reach-v3",), 50, 1)
    np.random.seed(123)  # noqa: NPY002
    before = np.random.get_state()  # noqa: NPY002
    assert draw_goals(("reach-v3",), 50, 1) == first
    assert same_global_state(before)
    assert draw(StockEnv("reach-v3"), "reach-v3", 1) == Task(first[0][0], tuple(first[0][1]))


def test_multi_task_suites_show_the_goal_and_hold_nothing_out() -> None:
    mt1 = suite("mt1:reach-v3", 3)
    assert mt1.train.goal_visible
    assert mt1.test is None
    assert ours(mt1.train) == ours(suite("ml1:reach-v3", 3).train)
    assert suite("mt10").train.task_ids == ()
    assert suite("mt10", task_id=True).train.task_ids == suite("mt10").train.names


def test_custom_suites() -> None:
    custom = suite("custom:train=reach-v3, push-v3;test=pick-place-v3", 5)
    upstream = metaworld.CustomML(["reach-v3", "push-v3"], ["pick-place-v3"], seed=5)
    assert ours(custom.train) == goals(upstream.train_tasks)
    assert ours(custom.test) == goals(upstream.test_tasks)
    shared = suite("custom:train=reach-v3;test=reach-v3;overlap=yes", 5)
    assert not set(shared.train.tasks) & set(shared.test.tasks)  # a task on both sides, but other goals


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("ml11", {}, "unknown suite 'ml11'. Did you mean .*ml10"),
        ("ML10", {}, "Did you mean .*ml10"),
        ("mujoco", {}, "There are: ml1, "),
        ("", {}, "unknown suite"),
        ("ml1:raech-v3", {}, "unknown task 'raech-v3'. Did you mean reach-v3"),
        ("mt1:reach", {}, "reach-v3"),
        ("ml1", {}, "ml1 needs a task"),
        ("mt1:", {}, "mt1 needs a task"),
        ("ml10:reach-v3", {}, "ml10 takes no task"),
        ("ml10:", {}, "ml10"),
        ("ml10", {"seed": -1}, "seed.*-1"),
        ("ml10", {"seed": 2**32 - 1}, "seed"),
        ("ml10", {"goals": 0}, "goals"),
        ("ml10", {"task_id": True}, "task ids would mean nothing"),
        ("custom", {}, "custom suite is written custom:train="),
        ("custom:reach-v3", {}, "custom suite is written"),
        ("custom:train=reach-v3", {}, "needs test tasks"),
        ("custom:train=;test=reach-v3", {}, "needs train tasks"),
        ("custom:train=reach-v3,reach-v3;test=push-v3", {}, "twice"),
        ("custom:train=raech-v3;test=push-v3", {}, "Did you mean reach-v3"),
        ("custom:train=reach-v3,push-v3;test=push-v3", {}, "push-v3 would be both trained on and held out.*overlap=yes"),
        ("custom:train=reach-v3;test=reach-v3;overlap=maybe", {}, "overlap must be yes or no"),
        ("custom:train=reach-v3;train=push-v3;test=sweep-v3", {}, "custom suite is written"),
    ],
)
def test_wrong_input_is_answered_with_valid_input(name: str, options: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        suite(name, **options)


def test_every_kind_of_suite_is_listed() -> None:
    for key in SUITES:
        name = {"ml1:TASK": "ml1:reach-v3", "mt1:TASK": "mt1:reach-v3"}.get(key, key)
        assert suite(name.replace("A,B", "reach-v3,push-v3").replace("=C", "=sweep-v3"), goals=1).train.tasks


def test_task_names_equal_those_of_metaworld() -> None:
    from metaworld.env_dict import ALL_V3_ENVIRONMENTS

    assert set(TASKS) == set(ALL_V3_ENVIRONMENTS)
    assert len(TASKS) == 50


def test_a_distribution_needs_a_task() -> None:
    with pytest.raises(UserError, match="at least one task"):
        TaskDistribution(())


def make_distribution(sizes: list[int]) -> TaskDistribution:
    return TaskDistribution(tuple(Task(f"name{i}", (j,)) for i, size in enumerate(sizes) for j in range(size)))


distributions = st.lists(st.integers(1, 6), min_size=1, max_size=5).map(make_distribution)
draws = settings(derandomize=True, deadline=None, max_examples=200)


@draws
@given(distributions, st.integers(0, 60), st.integers(0, 2**32))
def test_names_are_drawn_equally_often(distribution: TaskDistribution, n: int, seed: int) -> None:
    drawn = distribution.sample(n, np.random.default_rng(seed))
    assert len(drawn) == n
    counts = Counter(task.name for task in drawn)
    assert max(counts[name] for name in distribution.names) - min(counts[name] for name in distribution.names) <= 1


@draws
@given(distributions, st.integers(0, 60), st.integers(0, 2**32))
def test_no_task_is_drawn_twice_before_all_tasks_of_its_name(distribution: TaskDistribution, n: int, seed: int) -> None:
    counts = Counter(distribution.sample(n, np.random.default_rng(seed)))
    assert set(counts) <= set(distribution.tasks)
    for name in distribution.names:
        of_name = [counts[task] for task in distribution.tasks if task.name == name]
        assert max(of_name) - min(of_name) <= 1


@draws
@given(distributions, st.integers(0, 60), st.integers(0, 2**32))
def test_a_draw_is_determined_by_its_generator(distribution: TaskDistribution, n: int, seed: int) -> None:
    first, second = np.random.default_rng(seed), np.random.default_rng(seed)
    assert distribution.sample(n, first) == distribution.sample(n, second)
    assert distribution.sample(n, first) == distribution.sample(n, second)


def test_a_draw_is_random() -> None:
    """Tasks, their order, and the name that gets one more task are random."""
    distribution = make_distribution([6, 6])
    drawn = [distribution.sample(3, np.random.default_rng(seed)) for seed in range(40)]
    assert {task for tasks in drawn for task in tasks} == set(distribution.tasks)
    assert {Counter(task.name for task in tasks).most_common(1)[0][0] for tasks in drawn} == {"name0", "name1"}
    assert {tuple(task.name for task in tasks) for tasks in drawn} >= {
        ("name0", "name1", "name0"),
        ("name0", "name0", "name1"),
        ("name1", "name0", "name0"),
    }


def test_more_draws_than_tasks() -> None:
    distribution = make_distribution([2, 3])
    counts = Counter(distribution.sample(12, np.random.default_rng(0)))
    assert sorted(counts.values()) == [2, 2, 2, 3, 3]
