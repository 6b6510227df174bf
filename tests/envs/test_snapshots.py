"""Snapshots are stock resets, kept on disk: exact, whole or rebuilt, and never in the way of another process."""

import hashlib
import multiprocessing
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import Any

import mujoco
import numpy as np
import pytest
from builders.oracle import draw, expert

from metarl.envs import Task, TaskDistribution, jit, make_vec
from metarl.envs.engines import snapshots
from metarl.envs.engines.python import StockEnv
from metarl.envs.engines.snapshots import Snapshot, prepare, snapshot
from metarl.envs.rendering.scene import STATE, get_state
from metarl.envs.tasks import NATIVE
from metarl.errors import UserError
from metarl.system import files as cache

STALE = ["dial-turn-v3", "window-close-v3", "drawer-open-v3"]
"""Three of the seven tasks whose reset returns an observation that is older than the state."""
FRESH = ["reach-v3", "pick-place-v3", "hammer-v3", "coffee-pull-v3", "stick-push-v3"]


@lru_cache
def two(name: str) -> tuple[StockEnv, StockEnv]:
    """Stock environments that tests share: any past is fine for them."""
    return StockEnv(name), StockEnv(name)


@pytest.fixture(autouse=True)
def folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """An empty cache of its own for each test."""
    monkeypatch.setenv("METARL_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def poison(monkeypatch: pytest.MonkeyPatch) -> None:
    """From now on no stock environment can be made."""
    monkeypatch.setattr("metarl.envs.engines.python.StockEnv", None)
    snapshots._stock.cache_clear()


def equal(a: Snapshot, b: Snapshot) -> bool:
    return all(np.array_equal(value, getattr(b, name)) for name, value in vars(a).items())


def reset(env: StockEnv, task: Task) -> np.ndarray:
    env.set_task(task.params)
    return env.reset()[0]


def reach_tasks(count: int) -> list[Task]:
    """The goal lies in the last three numbers."""
    return [Task("reach-v3", (0.0, 0.65, 0.02, 0.01 * i, 0.85, 0.2)) for i in range(count)]


@pytest.mark.parametrize("name", [*STALE, *FRESH])
def test_a_snapshot_is_a_stock_reset(name: str) -> None:
    """Of an environment that was used before, on another goal."""
    stock, _ = two(name)
    task, other = draw(stock, name, 0), draw(stock, name, 1)
    assert task != other
    built = snapshot(task)
    assert equal(built, snapshot(task))  # from disk
    reset(stock, other)
    for _ in range(20):
        stock.step(np.array([1, 0.5, -1, 1], np.float32))
    obs = reset(stock, task)
    env = stock.env
    assert np.array_equal(built.obs, obs)
    assert np.array_equal(built.previous, env._prev_obs)
    assert np.array_equal(built.state, get_state(env.model, env.data))
    assert np.array_equal(built.body_pos, env.model.body_pos)
    assert np.array_equal(built.site_pos, env.model.site_pos)
    special = [getattr(env, attribute) for attribute in NATIVE[name].remembers]
    assert np.array_equal(
        built.memory, np.hstack([env._target_pos, env.obj_init_pos, env.init_tcp, env.hand_init_pos, *special])
    )
    assert np.array_equal([built.mocap_low, built.mocap_high], [env.mocap_low, env.mocap_high])
    assert np.array_equal([built.goal_low, built.goal_high], [env.goal_space.low, env.goal_space.high])
    assert Path(env.model_name).as_posix().endswith(built.model_file)
    mujoco.mj_forward(env.model, env.data)
    assert np.array_equal(env._get_curr_obs_combined_no_goal(), obs[:18]) != (name in STALE)


@pytest.mark.parametrize("name", [*STALE, *FRESH])
def test_a_restored_snapshot_replays_stock(name: str) -> None:
    """In an instance that was on another task until then."""
    stock, restored = two(name)
    task, other = draw(stock, name, 0), draw(stock, name, 1)
    snap = snapshot(task)
    reset(stock, task)
    reset(restored, other)
    env = restored.env
    env.model.body_pos[:], env.model.site_pos[:] = snap.body_pos, snap.site_pos
    env._prev_obs, env._target_pos = snap.previous, snap.memory[:3]
    mujoco.mj_setState(env.model, env.data, snap.state, STATE)
    rng = np.random.default_rng(0)
    for _ in range(30):
        action = rng.uniform(-1.2, 1.2, 4).astype(np.float32)
        assert np.array_equal(restored.step(action)[0], stock.step(action)[0])
    assert np.array_equal(get_state(env.model, env.data), get_state(stock.env.model, stock.env.data))


def test_the_second_use_builds_no_stock_object(monkeypatch: pytest.MonkeyPatch) -> None:
    tasks = reach_tasks(3)
    prepare(tasks)
    poison(monkeypatch)
    prepare(tasks)
    assert len({snapshot(task).memory[0] for task in tasks}) == 3
    with pytest.raises(TypeError):
        snapshot(reach_tasks(4)[3])


def test_snapshots_are_built_with_one_stock_object_a_class(monkeypatch: pytest.MonkeyPatch) -> None:
    made = []

    class Counted(StockEnv):
        def __init__(self, name: str, reward: str) -> None:
            made.append(name)
            super().__init__(name, reward)

    monkeypatch.setattr("metarl.envs.engines.python.StockEnv", Counted)
    snapshots._stock.cache_clear()
    prepare([*reach_tasks(3), *reach_tasks(3)])
    for task in reach_tasks(3):
        snapshot(task)
    assert made == ["reach-v3"]


def test_building_leaves_numpys_global_generator_alone() -> None:
    np.random.seed(0)  # noqa: NPY002
    expected = np.random.random()  # noqa: NPY002
    np.random.seed(0)  # noqa: NPY002
    prepare(reach_tasks(1))
    assert np.random.random() == expected  # noqa: NPY002


@lru_cache
def whole() -> tuple[Snapshot, bytes]:
    """A snapshot of `reach_tasks(1)`, and its file."""
    (task,) = reach_tasks(1)
    return snapshot(task), snapshots._path(task, "v2").read_bytes()


@pytest.mark.parametrize(
    "damage",
    [lambda c: c[: len(c) // 2], lambda c: c[:100] + bytes([c[100] ^ 1]) + c[101:], lambda c: b"", lambda c: c[:32]],
    ids=["truncated", "altered", "empty", "only-checksum"],
)
def test_a_damaged_file_is_rebuilt(monkeypatch: pytest.MonkeyPatch, damage: Callable[[bytes], bytes]) -> None:
    """When it is asked for."""
    (task,), (expected, content) = reach_tasks(1), whole()
    path = snapshots._path(task, "v2")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(damage(content))
    assert path.read_bytes() != content
    prepare([task])
    assert equal(snapshot(task), expected)
    poison(monkeypatch)
    assert equal(snapshot(task), expected)


def test_many_snapshots_are_built_in_several_processes(monkeypatch: pytest.MonkeyPatch, caplog: Any) -> None:
    """From a script without a main guard, say, as from here: nothing of this process is imported there."""
    monkeypatch.setattr(snapshots, "worker_count", lambda: 2)
    monkeypatch.setattr(snapshots, "_CHUNK", 4)
    tasks = [*reach_tasks(9), *(Task("push-v3", task.params) for task in reach_tasks(9))]
    (expected,) = [snapshot(task) for task in reach_tasks(1)]
    caplog.set_level("INFO", "metarl")
    poison(monkeypatch)
    prepare(tasks)
    assert "building 17 snapshots" in caplog.text
    assert equal(snapshot(tasks[0]), expected)
    assert len({snapshot(task).memory[0] for task in tasks}) == 9
    assert {snapshot(task).model_file for task in tasks} == {
        "sawyer_xyz/sawyer_reach_v3.xml",
        "sawyer_xyz/sawyer_push_v3.xml",
    }


def test_what_a_process_could_not_build_says_why_when_it_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(snapshots, "worker_count", lambda: 2)
    monkeypatch.setattr(snapshots, "_CHUNK", 1)
    near = Task("push-v3", (0.0, 0.6, 0.02, 0.0, 0.62, 0.02))
    prepare([near, *reach_tasks(1)])
    with pytest.raises(UserError, match="refuses this task"):
        snapshot(near)


def _prepare_at_once(start: Any, results: Any) -> None:
    """What each of two processes does."""
    tasks = reach_tasks(6)
    start.wait(60)
    prepare(tasks)
    results.put([hashlib.sha256(snapshots._encode(snapshot(task))).hexdigest() for task in tasks])


def test_two_processes_may_build_at_once(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    context = multiprocessing.get_context("spawn")
    start, results = context.Barrier(2), context.Queue()
    processes = [context.Process(target=_prepare_at_once, args=(start, results)) for _ in range(2)]
    for process in processes:
        process.start()
    found = [results.get(timeout=120) for _ in processes]
    for process in processes:
        process.join(60)
    assert [process.exitcode for process in processes] == [0, 0]
    assert found[0] == found[1]
    assert len(set(found[0])) == 6
    files = [path.name for path in (folder / "snapshots").rglob("*") if path.is_file()]
    assert len(files) == 6
    assert all(name.endswith(".snapshot") and not name.startswith(".") for name in files)
    poison(monkeypatch)
    assert [hashlib.sha256(snapshots._encode(snapshot(task))).hexdigest() for task in reach_tasks(6)] == found[0]


def test_a_failed_write_leaves_the_old_file_and_nothing_else(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a full disk."""
    path = folder / "file"
    cache.store(path, b"old")

    def full(*args: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("metarl.system.files.os.replace", full)
    cache.store(path, b"new")
    assert cache.load(path) == b"old"
    assert list(folder.iterdir()) == [path]


def test_a_cache_that_cannot_be_written_is_no_error(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Its path lies below a file, since root may write into any folder."""
    (task,) = reach_tasks(1)
    expected = snapshot(task)
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("METARL_CACHE", str(tmp_path / "file" / "below"))
    assert equal(snapshot(task), expected)
    env = make_vec(TaskDistribution((task,)), 1, engine="native")
    obs, _ = env.reset()
    assert np.array_equal(obs[0], expected.obs)
    assert np.isfinite(env.step(expert(env, obs))[0]).all()
    assert jit.cache_folder.__wrapped__() is None
    assert "compiled code is not cached" in caplog.text


@pytest.mark.parametrize("engine", ["native", "python"])
@pytest.mark.parametrize(
    ("params", "message"),
    [
        (
            (0.0, 0.6, 0.02, 0.0, 0.62, 0.02),
            "refuses this task of push-v3",
        ),  # object and goal too near: stock would draw for ever
        ((0.0, 0.6, 0.02), "6 finite numbers"),
        ((0.0, 0.6, 0.02, 0.0, 0.85, float("nan")), "6 finite numbers"),
        ("abcdef", "6 finite numbers"),
        (None, "6 finite numbers"),
    ],
    ids=["near", "short", "nan", "text", "none"],
)
def test_a_task_that_cannot_be_is_refused(engine: str, params: Any, message: str) -> None:
    with pytest.raises(UserError, match=message):
        make_vec(TaskDistribution((Task("push-v3", params),)), 1, engine=engine).reset()


def test_snapshots_built_where_nothing_can_be_kept_are_used(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("METARL_CACHE", str(tmp_path / "file" / "below"))
    made = []
    build = snapshots._build
    monkeypatch.setattr(snapshots, "_build", lambda env, task: made.append(task) or build(env, task))
    tasks = [Task("reach-v3", (0.0, 0.6, 0.02, 0.0, 0.8 + i / 100, 0.2)) for i in range(3)]
    env = make_vec(TaskDistribution(tuple(tasks)), 3, engine="native")
    env.set_tasks(tasks)
    env.reset()
    env.reset()
    assert made == tasks
