"""Which goals are trained on and which are held out: Meta-World's own, in its order, never mixed up."""

import pickle
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import metaworld
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from oracle import same_global_state

from metarl.envs import TASKS, Suite, Task, TaskDistribution, suite, suites
from metarl.errors import UserError

Built = tuple[Suite, Any]


@pytest.fixture(scope="module")
def build(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str, int], Built]:
    """Makes a suite without a cache; returns it and the benchmark object of Meta-World that was made for it."""
    made: dict[tuple[str, int], Built] = {}

    def make(name: str, seed: int) -> Built:
        if (name, seed) not in made:
            objects = []

            def recorded(kind: str) -> Callable[..., Any]:
                stock = getattr(metaworld, kind)

                def call(*args: Any, **kwargs: Any) -> Any:
                    assert (*args, kwargs) == (*([name[4:]] if kind == "ML1" else []), {"seed": seed})
                    objects.append(stock(*args, **kwargs))
                    return objects[-1]

                return call

            with pytest.MonkeyPatch.context() as patch:
                patch.setenv("METARL_CACHE", str(tmp_path_factory.mktemp("goals")))
                for kind in ("ML1", "ML10"):
                    patch.setattr(metaworld, kind, recorded(kind))
                np.random.seed(0)  # noqa: NPY002
                before = np.random.get_state()  # noqa: NPY002
                suite.cache_clear()
                made[name, seed] = suite(name, seed), objects[0]
                assert same_global_state(before)
        return made[name, seed]

    yield make
    suite.cache_clear()


def goals(tasks: Any) -> list[tuple[str, tuple[float, ...]]]:
    """(name, goal) of Meta-World's tasks."""
    return [(t.env_name, tuple(pickle.loads(t.data)["rand_vec"].tolist())) for t in tasks]


def ours(distribution: TaskDistribution) -> list[tuple[str, Any]]:
    return [(task.name, task.params) for task in distribution.tasks]


@pytest.mark.parametrize("seed", [1, 2])
@pytest.mark.parametrize("task", ["reach-v3", "push-v3"])
def test_ml1_has_metaworlds_goals(build: Callable[..., Built], task: str, seed: int) -> None:
    made, stock = build(f"ml1:{task}", seed)
    assert ours(made.train) == goals(stock.train_tasks)
    assert ours(made.test) == goals(stock.test_tasks)
    assert len(set(made.train.tasks)) == len(set(made.test.tasks)) == 50
    assert not set(made.train.tasks) & set(made.test.tasks)
    assert made.train.names == made.test.names == (task,)
    assert (made.name, made.seed) == (f"ml1:{task}", seed)


def test_ml10_has_metaworlds_goals(build: Callable[..., Built]) -> None:
    made, stock = build("ml10", 1)
    assert ours(made.train) == goals(stock.train_tasks)
    assert ours(made.test) == goals(stock.test_tasks)
    assert (len(set(made.train.tasks)), len(set(made.test.tasks))) == (500, 250)
    assert made.train.names == tuple(stock.train_classes)
    assert made.test.names == tuple(stock.test_classes)
    assert not set(made.train.names) & set(made.test.names)
    assert set(Counter(task.name for task in made.train.tasks).values()) == {50}


def test_test_goals_of_one_seed_are_train_goals_of_the_next(build: Callable[..., Built]) -> None:
    """Meta-World draws ML1's test goals with seed + 1: hence evaluation compares goals, not seeds, before it starts."""
    first, second = build("ml1:reach-v3", 1)[0], build("ml1:reach-v3", 2)[0]
    assert first.test.tasks == second.train.tasks
    assert len(second.train) == 50
    assert not set(first.train.tasks) & set(second.train.tasks)


def test_goals_do_not_depend_on_numpys_global_generator(build: Callable[..., Built]) -> None:
    """`build` seeded it with 0."""
    made, _ = build("ml1:reach-v3", 1)
    np.random.seed(123)  # noqa: NPY002
    before = np.random.get_state()  # noqa: NPY002
    again = suites._goals_of_stock("ml1", "reach-v3", 1)
    assert same_global_state(before)
    assert [Task(name, tuple(params)) for name, params in again["train"] + again["test"]] == [
        *made.train.tasks, *made.test.tasks,
    ]  # fmt: skip


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[tuple[str, str, int]]:
    """An empty cache, and instead of Meta-World a source of goals that counts its calls."""
    calls = []

    def drawn(kind: str, task: str, seed: int) -> dict[str, list[tuple[str, list[float]]]]:
        calls.append((kind, task, seed))
        return {"train": [("reach-v3", [0.1, seed / 7])], "test": [("reach-v3", [1 / 3])]}

    monkeypatch.setenv("METARL_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(suites, "_goals_of_stock", drawn)
    suite.cache_clear()
    yield calls
    suite.cache_clear()


def test_the_second_call_reads_the_cache(fake: list[Any], monkeypatch: pytest.MonkeyPatch) -> None:
    first = suite("ml1:reach-v3", 5)
    assert fake == [("ml1", "reach-v3", 5)]
    suite.cache_clear()
    monkeypatch.setattr(suites, "_goals_of_stock", None)
    assert suite("ml1:reach-v3", 5) == first
    assert first.train.tasks == (Task("reach-v3", (0.1, 5 / 7)),)


def test_suites_and_seeds_do_not_share_a_file(fake: list[Any]) -> None:
    wanted = [("ml1:reach-v3", 1), ("ml1:reach-v3", 11), ("ml1:push-v3", 1), ("ml10", 1), ("ml45", 1)]
    made = [suite(name, seed) for name, seed in wanted]
    assert len(fake) == len(made)


@pytest.mark.parametrize(
    "damage",
    [lambda c: c[: len(c) // 2], lambda c: b"", lambda c: c[:-3] + b"9" + c[-2:], lambda c: c[:32], lambda c: c[32:]],
    ids=["truncated", "empty", "altered", "only-checksum", "no-checksum"],
)
def test_a_damaged_file_is_rebuilt(fake: list[Any], tmp_path: Path, damage: Callable[[bytes], bytes]) -> None:
    first = suite("ml1:reach-v3", 5)
    (path,) = (tmp_path / "cache").rglob("*.json")
    whole = path.read_bytes()
    assert damage(whole) != whole
    path.write_bytes(damage(whole))
    suite.cache_clear()
    assert suite("ml1:reach-v3", 5) == first
    assert len(fake) == 2
    assert path.read_bytes() == whole


def test_an_unwritable_cache_is_no_error(fake: list[Any], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Below a file, since root may write into any folder."""
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("METARL_CACHE", str(tmp_path / "file" / "below"))
    assert len(suite("ml1:reach-v3", 5).train) == 1


@pytest.mark.parametrize(
    ("name", "seed", "message"),
    [
        ("ml11", 1, "unknown suite 'ml11'. Did you mean .*ml10"),
        ("ML10", 1, "Did you mean .*ml10"),
        ("mujoco", 1, "There are: ml1, "),
        ("", 1, "unknown suite"),
        ("ml1:raech-v3", 1, "unknown task 'raech-v3'. Did you mean reach-v3"),
        ("ml1:reach", 1, "reach-v3"),
        ("ml1", 1, "ml1 needs a task"),
        ("ml1:", 1, "ml1 needs a task"),
        ("ml10:reach-v3", 1, "ml10 takes no task"),
        ("ml10:", 1, "ml10"),
        ("ml10", -1, "seed.*-1"),
        ("ml10", 2**32 - 1, "seed"),
    ],
)
def test_wrong_input_is_answered_with_what_is_right(fake: list[Any], name: str, seed: int, message: str) -> None:
    with pytest.raises(UserError, match=message):
        suite(name, seed)
    assert not fake


def test_all_names_of_tasks_are_metaworlds() -> None:
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
def test_no_task_comes_twice_before_all_of_its_name(distribution: TaskDistribution, n: int, seed: int) -> None:
    counts = Counter(distribution.sample(n, np.random.default_rng(seed)))
    assert set(counts) <= set(distribution.tasks)
    for name in distribution.names:
        of_name = [counts[task] for task in distribution.tasks if task.name == name]
        assert max(of_name) - min(of_name) <= 1


@draws
@given(distributions, st.integers(0, 60), st.integers(0, 2**32))
def test_a_draw_is_decided_by_its_generator(distribution: TaskDistribution, n: int, seed: int) -> None:
    first, second = np.random.default_rng(seed), np.random.default_rng(seed)
    assert distribution.sample(n, first) == distribution.sample(n, second)
    assert distribution.sample(n, first) == distribution.sample(n, second)


def test_a_draw_is_random() -> None:
    """In its tasks, in their order, and in the name that gets one more than the others."""
    distribution = make_distribution([6, 6])
    drawn = [distribution.sample(3, np.random.default_rng(seed)) for seed in range(40)]
    assert {task for tasks in drawn for task in tasks} == set(distribution.tasks)
    assert {Counter(task.name for task in tasks).most_common(1)[0][0] for tasks in drawn} == {"name0", "name1"}
    assert {tuple(task.name for task in tasks) for tasks in drawn} >= {
        ("name0", "name1", "name0"), ("name0", "name0", "name1"), ("name1", "name0", "name0"),
    }  # fmt: skip


def test_more_draws_than_tasks() -> None:
    distribution = make_distribution([2, 3])
    counts = Counter(distribution.sample(12, np.random.default_rng(0)))
    assert sorted(counts.values()) == [2, 2, 2, 3, 3]
