"""Snapshots are cached stock resets: exact, rebuilt if damaged, and safe with several processes."""

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

from metarl.envs import Task, TaskDistribution, make_vec
from metarl.envs.engines import snapshots
from metarl.envs.engines.python import StockEnv
from metarl.envs.engines.snapshots import Snapshot, prepare, snapshot
from metarl.envs.rendering.scene import STATE, get_state
from metarl.envs.tasks import NATIVE
from metarl.errors import UserError
from metarl.system import files as cache
from metarl.system import jit

STALE = ["dial-turn-v3", "window-close-v3", "drawer-open-v3"]
"""Three of the seven tasks whose reset returns an observation that is older than the state."""
FRESH = ["reach-v3", "pick-place-v3", "hammer-v3", "coffee-pull-v3", "stick-push-v3"]


@lru_cache
def shared_envs(name: str) -> tuple[StockEnv, StockEnv]:
    """Two stock environments that tests share; their past does not matter."""
    return StockEnv(name), StockEnv(name)


@pytest.fixture(autouse=True)
def folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """An empty cache for each test."""
    monkeypatch.setenv("METARL_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def forbid_upstream_envs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make the construction of stock environments fail from now on."""
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
def test_a_snapshot_equals_an_upstream_reset(name: str) -> None:
    """The environment was used before, on another goal."""
    upstream, _ = shared_envs(name)
    task, other_task = draw(upstream, name, 0), draw(upstream, name, 1)
    assert task != other_task
    built = snapshot(task)
    assert equal(built, snapshot(task))  # from disk
    reset(upstream, other_task)
    for _ in range(20):
        upstream.step(np.array([1, 0.5, -1, 1], np.float32))
    obs = reset(upstream, task)
    env = upstream.env
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
def test_a_restored_snapshot_steps_as_upstream(name: str) -> None:
    """The environment was on another task before."""
    upstream, restored = shared_envs(name)
    task, other_task = draw(upstream, name, 0), draw(upstream, name, 1)
    snap = snapshot(task)
    reset(upstream, task)
    reset(restored, other_task)
    env = restored.env
    env.model.body_pos[:], env.model.site_pos[:] = snap.body_pos, snap.site_pos
    env._prev_obs, env._target_pos = snap.previous, snap.memory[:3]
    mujoco.mj_setState(env.model, env.data, snap.state, STATE)
    rng = np.random.default_rng(0)
    for _ in range(30):
        action = rng.uniform(-1.2, 1.2, 4).astype(np.float32)
        assert np.array_equal(restored.step(action)[0], upstream.step(action)[0])
    assert np.array_equal(get_state(env.model, env.data), get_state(upstream.env.model, upstream.env.data))


def test_the_second_use_builds_no_upstream_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    tasks = reach_tasks(3)
    prepare(tasks)
    forbid_upstream_envs(monkeypatch)
    prepare(tasks)
    assert len({snapshot(task).memory[0] for task in tasks}) == 3
    with pytest.raises(TypeError):
        snapshot(reach_tasks(4)[3])


def test_snapshots_of_a_class_share_one_upstream_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    names = []

    class Counted(StockEnv):
        def __init__(self, name: str, reward: str) -> None:
            names.append(name)
            super().__init__(name, reward)

    monkeypatch.setattr("metarl.envs.engines.python.StockEnv", Counted)
    snapshots._stock.cache_clear()
    prepare([*reach_tasks(3), *reach_tasks(3)])
    for task in reach_tasks(3):
        snapshot(task)
    assert names == ["reach-v3"]


def test_building_does_not_use_the_global_generator_of_numpy() -> None:
    np.random.seed(0)  # noqa: NPY002
    expected = np.random.random()  # noqa: NPY002
    np.random.seed(0)  # noqa: NPY002
    prepare(reach_tasks(1))
    assert np.random.random() == expected  # noqa: NPY002


@lru_cache
def snapshot_and_file() -> tuple[Snapshot, bytes]:
    """A snapshot of `reach_tasks(1)`, and its file."""
    (task,) = reach_tasks(1)
    return snapshot(task), snapshots._path(task, "v2").read_bytes()


@pytest.mark.parametrize(
    "damage",
    [lambda c: c[: len(c) // 2], lambda c: c[:100] + bytes([c[100] ^ 1]) + c[101:], lambda c: b"", lambda c: c[:32]],
    ids=["truncated", "altered", "empty", "only-checksum"],
)
def test_a_damaged_file_is_rebuilt(monkeypatch: pytest.MonkeyPatch, damage: Callable[[bytes], bytes]) -> None:
    """The file is rebuilt on request."""
    (task,), (expected, content) = reach_tasks(1), snapshot_and_file()
    path = snapshots._path(task, "v2")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(damage(content))
    assert path.read_bytes() != content
    prepare([task])
    assert equal(snapshot(task), expected)
    forbid_upstream_envs(monkeypatch)
    assert equal(snapshot(task), expected)


def test_many_snapshots_are_built_in_several_processes(monkeypatch: pytest.MonkeyPatch, caplog: Any) -> None:
    """The processes do not import the main module, which may lack a main guard."""
    monkeypatch.setattr(snapshots, "worker_count", lambda: 2)
    monkeypatch.setattr(snapshots, "_CHUNK", 4)
    tasks = [*reach_tasks(9), *(Task("push-v3", task.params) for task in reach_tasks(9))]
    (expected,) = [snapshot(task) for task in reach_tasks(1)]
    caplog.set_level("INFO", "metarl")
    forbid_upstream_envs(monkeypatch)
    prepare(tasks)
    assert "building 17 snapshots" in caplog.text
    assert equal(snapshot(tasks[0]), expected)
    assert len({snapshot(task).memory[0] for task in tasks}) == 9
    assert {snapshot(task).model_file for task in tasks} == {
        "sawyer_xyz/sawyer_reach_v3.xml",
        "sawyer_xyz/sawyer_push_v3.xml",
    }


def test_a_snapshot_that_cannot_be_built_is_reported_when_requested(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(snapshots, "worker_count", lambda: 2)
    monkeypatch.setattr(snapshots, "_CHUNK", 1)
    near = Task("push-v3", (0.0, 0.6, 0.02, 0.0, 0.62, 0.02))
    prepare([near, *reach_tasks(1)])
    with pytest.raises(UserError, match="refuses this task"):
        snapshot(near)


def _prepare_at_once(start: Any, results: Any) -> None:
    """The work of each of two processes."""
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
    digests = [results.get(timeout=120) for _ in processes]
    for process in processes:
        process.join(60)
    assert [process.exitcode for process in processes] == [0, 0]
    assert digests[0] == digests[1]
    assert len(set(digests[0])) == 6
    files = [path.name for path in (folder / "snapshots").rglob("*") if path.is_file()]
    assert len(files) == 6
    assert all(name.endswith(".snapshot") and not name.startswith(".") for name in files)
    forbid_upstream_envs(monkeypatch)
    assert [hashlib.sha256(snapshots._encode(snapshot(task))).hexdigest() for task in reach_tasks(6)] == digests[0]


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
        ),  # object and goal are too close: stock would redraw forever
        ((0.0, 0.6, 0.02), "6 finite numbers"),
        ((0.0, 0.6, 0.02, 0.0, 0.85, float("nan")), "6 finite numbers"),
        ("abcdef", "6 finite numbers"),
        (None, "6 finite numbers"),
    ],
    ids=["near", "short", "nan", "text", "none"],
)
def test_an_impossible_task_is_refused(engine: str, params: Any, message: str) -> None:
    with pytest.raises(UserError, match=message):
        make_vec(TaskDistribution((Task("push-v3", params),)), 1, engine=engine).reset()


def test_snapshots_are_used_without_a_writable_cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("METARL_CACHE", str(tmp_path / "file" / "below"))
    built = []
    build = snapshots._build
    monkeypatch.setattr(snapshots, "_build", lambda env, task: built.append(task) or build(env, task))
    tasks = [Task("reach-v3", (0.0, 0.6, 0.02, 0.0, 0.8 + i / 100, 0.2)) for i in range(3)]
    env = make_vec(TaskDistribution(tuple(tasks)), 3, engine="native")
    env.set_tasks(tasks)
    env.reset()
    env.reset()
    assert built == tasks
