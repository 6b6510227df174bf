"""The native engine equals stock Meta-World; results do not depend on threads or on an environment's past."""

import dataclasses
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from builders.oracle import VARIED_TASKS, expert, model_once, native_tasks
from builders.oracle import random_actions as actions_up_to
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from metarl.envs import TASKS, MetaVectorEnv, Task, TaskDistribution, make_vec, suite
from metarl.envs.engines import snapshots
from metarl.envs.engines.native import NativeEngine
from metarl.envs.engines.python import StockEnv
from metarl.errors import UserError

Step = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, dict[str, Any]]

SINGLE = {
    f"{name}-v3"
    for name in (
        "assembly basketball bin-picking coffee-pull coffee-push dial-turn drawer-close hammer hand-insert "
        "handle-pull handle-pull-side peg-unplug-side pick-out-of-hole pick-place pick-place-wall push push-wall "
        "shelf-place"
    ).split()
}
"""Tasks whose reward stock stores as float32 once the gripper closes on the object with a float32 effort."""

ABOVE_ONE = np.nextafter(np.float32(1), np.float32(2))
EFFORTS = np.array([1, 1.5, 1, 0.6, 1, 0, 1, 1e-6, ABOVE_ONE, 2, 1, -1, 1, 1e-40], np.float32)
"""Efforts of the gripper: near 0, near 1, and mostly 1, which holds the object."""


@pytest.fixture(autouse=True)
def cached_models(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("metarl.envs.engines.native.load_model", model_once)


@pytest.fixture
def float32_efforts(monkeypatch: pytest.MonkeyPatch) -> set[float]:
    """Efforts of the gripper for which stock stored a reward as float32."""
    efforts: set[float] = set()

    def step(self: StockEnv, action: np.ndarray) -> Any:
        result = self.env.step(action)
        if isinstance(result[1], np.float32):
            efforts.add(float(action[3]))
        return result

    monkeypatch.setattr(StockEnv, "step", step)
    return efforts


def assert_equal(native: Step, python: Step) -> None:
    obs, reward, terminated, truncated, info = native
    assert np.abs(obs - python[0]).max() <= 1e-12
    assert np.abs(reward - python[1]).max() <= 1e-9
    assert np.array_equal(terminated, python[2])
    assert np.array_equal(truncated, python[3])
    assert info.keys() == python[4].keys()
    for key, value in info.items():
        if "final" not in key:
            assert np.abs(value.astype(float) - python[4][key].astype(float)).max() <= 1e-9, key
    if truncated.any():
        final, reference = (np.stack(i["final_obs"][truncated]) for i in (info, python[4]))
        assert np.abs(final - reference).max() <= 1e-12
        assert np.array_equal(info["final_info"]["success"], python[4]["final_info"]["success"])


def play(env: MetaVectorEnv, actions: np.ndarray) -> list[np.ndarray]:
    """Observations, rewards and successes of (time, environment, 4) actions."""
    steps = [env.step(a) for a in actions]
    return [np.stack(results) for results in zip(*((s[0], s[1], s[4]["success"]) for s in steps))]


def bit_equal(first: list[np.ndarray], second: list[np.ndarray], env_ids: Any = slice(None)) -> bool:
    """Whether the arrays are equal bit for bit."""
    return all(np.array_equal(a[:, env_ids], b[:, env_ids]) for a, b in zip(first, second))


random_actions = partial(actions_up_to, limit=1.5)


def varied_tasks(num_envs: int) -> list[Task]:
    """Tasks of all classes in turn."""
    tasks = native_tasks().tasks
    return [tasks[(i * 3 + i // len(VARIED_TASKS)) % len(tasks)] for i in range(num_envs)]


def native(num_envs: int, num_threads: int | None = 1, tasks: list[Task] | None = None) -> MetaVectorEnv:
    """An environment on tasks of all classes, reset."""
    env = make_vec(native_tasks(), num_envs, engine="native", num_threads=num_threads, max_episode_steps=1000)
    env.set_tasks(tasks or varied_tasks(num_envs))
    env.reset()
    return env


@pytest.mark.parametrize("name", TASKS)
def test_equal_to_upstream_across_episodes(name: str, float32_efforts: set[float]) -> None:
    """Three players: random, the expert, and the expert with noise and with efforts at which float32 rounds."""
    easy, *others = suite(f"ml1:{name}").train.tasks[:3]  # the experts solve the first goals
    tasks = TaskDistribution((others[0], easy, others[1]))
    envs = [make_vec(tasks, 3, engine=engine, max_episode_steps=180, info="full") for engine in ("native", "python")]
    for env in envs:
        env.set_tasks(tasks.tasks)
    obs, reference = (env.reset()[0] for env in envs)
    assert np.array_equal(obs, reference)
    rng, succeeded = np.random.default_rng(1), np.zeros(3, bool)
    for t in range(195):
        actions = expert(envs[0], obs)
        actions[0] = rng.uniform(-2, 2, 4)
        actions[2, :3] += rng.normal(0, 0.1, 3)
        if actions[2, 3] > 0:
            actions[2, 3] = EFFORTS[t % len(EFFORTS)]
        steps = [env.step(actions) for env in envs]
        assert_equal(*steps)
        obs = steps[0][0]
        succeeded |= steps[0][4]["success"]
        assert steps[0][3].all() == (t == 179)
    assert succeeded[1]
    if name in SINGLE:
        assert float32_efforts
        assert min(float32_efforts) > 0.0
        assert max(float32_efforts) <= 1.0


@pytest.mark.parametrize("name", ["reach", "sweep-into", "pick-place", "bin-picking", "assembly", "hammer"])
def test_reward_v1_equals_upstream(name: str) -> None:
    """One task of each family of v1, played by its expert; `scripts/exactness --reward v1` plays all."""
    tasks = TaskDistribution(suite(f"ml1:{name}-v3").train.tasks[:2])
    envs = [
        make_vec(tasks, 2, engine=engine, max_episode_steps=110, info="full", reward="v1") for engine in ("native", "python")
    ]
    for env in envs:
        env.set_tasks(tasks.tasks)
    (obs, _), best = (env.reset()[0] for env in envs), 0.0
    for t in range(120):
        actions = expert(envs[0], obs)
        actions[1, 3] = EFFORTS[t % len(EFFORTS)]
        steps = [env.step(actions) for env in envs]
        assert_equal(*steps)
        obs, best = steps[0][0], max(best, steps[0][1].max())
    assert best > 10.0  # no reward of v2 exceeds 10


def test_equal_to_upstream_for_an_episode_of_500_steps() -> None:
    """Experts on several tasks at once, to the last step."""
    envs = [make_vec(native_tasks(1), len(VARIED_TASKS), engine=engine) for engine in ("native", "python")]
    obs, _ = (env.reset(seed=0)[0] for env in envs)
    succeeded = np.zeros(len(VARIED_TASKS), bool)
    for t in range(500):
        actions = expert(envs[0], obs)
        steps = [env.step(actions) for env in envs]
        assert_equal(*steps)
        obs = steps[0][0]
        succeeded |= steps[0][4]["success"]
        assert steps[0][3].all() == (t == 499)
    assert succeeded.all()


@lru_cache(maxsize=1)
def _pair() -> list[MetaVectorEnv]:
    tasks = suite("ml1:reach-v3").train
    return [make_vec(tasks, 1, engine=engine, num_threads=1, info="full") for engine in ("native", "python")]


efforts = st.one_of(st.sampled_from([0.0, -0.0, 1.0, -1.0, 1e-45, 0.5]), st.floats(-2, 2, width=32))


@settings(derandomize=True, deadline=None, max_examples=25)
@given(
    st.sampled_from(TASKS),
    st.integers(0, 49),
    st.sampled_from([0, 60, 120]),
    arrays(np.float32, (25, 3), elements=st.floats(-2, 2, width=32)),
    st.lists(efforts, min_size=25, max_size=25),
)
def test_equal_to_upstream_for_any_actions(name: str, goal: int, lead: int, moves: np.ndarray, grips: list[float]) -> None:
    """Any goal and actions, after a lead of expert steps that brings the hand to the object."""
    envs = _pair()
    for env in envs:
        env.set_tasks([suite(f"ml1:{name}").train.tasks[goal]])
    obs, reference = (env.reset()[0] for env in envs)
    assert np.array_equal(obs, reference)
    for t in range(lead + 25):
        actions = expert(envs[0], obs) if t < lead else np.array([[*moves[t - lead], grips[t - lead]]], np.float32)
        steps = [env.step(actions) for env in envs]
        assert_equal(*steps)
        obs = steps[0][0]


def test_scenes_equal_upstream() -> None:
    """Compares every quantity that determines later steps and pictures."""
    scenes = []
    for engine in ("native", "python"):
        env = make_vec(native_tasks(1), len(VARIED_TASKS), engine=engine)
        env.reset(seed=1)
        play(env, random_actions(20, len(VARIED_TASKS)))
        scenes.append([env.engine.scene(env_id) for env_id in range(len(VARIED_TASKS))])
    for native_scene, upstream_scene in zip(*scenes):
        assert native_scene.model_file == upstream_scene.model_file
        for field in ("state", "body_pos", "site_pos", "goal"):
            assert np.array_equal(getattr(native_scene, field), getattr(upstream_scene, field)), field


def test_a_mixed_batch_equals_single_environments() -> None:
    actions, tasks = random_actions(40, 6), varied_tasks(6)
    assert len({task.name for task in tasks}) == len(VARIED_TASKS)
    together = play(native(6, 2), actions)
    for env_id in range(6):
        env = make_vec(TaskDistribution((tasks[env_id],)), 1, engine="native", max_episode_steps=1000)
        env.reset()
        alone = play(env, actions[:, env_id : env_id + 1])
        assert bit_equal(alone, [result[:, env_id : env_id + 1] for result in together])


def test_results_do_not_depend_on_the_number_of_threads() -> None:
    actions = random_actions(40, 32)
    results = [play(native(32, threads), actions) for threads in (1, 2, 8)]
    assert bit_equal(results[0], results[1])
    assert bit_equal(results[0], results[2])
    assert len(np.unique(results[0][0][-1, :, 0])) == 32


@pytest.mark.parametrize("threads", [0, -1])
def test_a_number_of_threads_is_at_least_one(threads: int) -> None:
    with pytest.raises(UserError, match=f"num_threads must be at least 1, not {threads}"):
        native(2, threads)


def test_results_do_not_depend_on_earlier_episodes() -> None:
    """After 300 random steps, also on another task class, a reset gives the results of a new environment and of stock."""
    count = len(VARIED_TASKS)
    actions, past = random_actions(60, count), random_actions(300, count, seed=1)
    fresh_env = native(count)
    tasks = list(fresh_env.tasks)
    fresh_obs, expected = fresh_env.reset()[0], play(fresh_env, actions)

    used = native(count)
    play(used, past)
    assert np.array_equal(used.reset()[0], fresh_obs)
    assert bit_equal(play(used, actions), expected)
    used.set_tasks(tasks[1:] + tasks[:1])
    used.reset()
    play(used, past[:50])
    used.set_tasks(tasks)
    assert np.array_equal(used.reset()[0], fresh_obs)
    assert bit_equal(play(used, actions), expected)

    upstream = make_vec(native_tasks(), count, engine="python", max_episode_steps=1000)
    upstream.set_tasks(tasks)
    upstream.reset()
    play(upstream, past)
    assert np.array_equal(upstream.reset()[0], fresh_obs)
    obs, reward, success = play(upstream, actions)
    assert np.abs(obs - expected[0]).max() <= 1e-12
    assert np.abs(reward - expected[1]).max() <= 1e-9
    assert np.array_equal(success, expected[2])


def test_resetting_one_environment_does_not_change_the_others() -> None:
    """Environments of one class share a model; each environment's scene is copied into it before a step."""
    tasks, actions = [task for task in native_tasks().tasks if task.name == "push-v3"], random_actions(30, 3)
    undisturbed = play(native(3, tasks=tasks), actions)
    env = native(3, tasks=tasks)
    before = play(env, actions[:10])
    env.set_tasks([native_tasks().tasks[0]], env_ids=[1])
    env.reset(options={"reset_mask": np.array([False, True, False])})
    after = play(env, actions[10:])
    assert bit_equal([np.concatenate(parts) for parts in zip(before, after)], undisturbed, [0, 2])
    assert not bit_equal(after, [result[10:] for result in undisturbed], [1])


@pytest.mark.parametrize("part", ["body", "site"])
def test_environments_of_one_class_have_separate_scenes(part: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also in several threads. The test moves a part, because the goals of push alone do not change the model."""
    tasks = [task for task in native_tasks().tasks if task.name == "push-v3"][:2]
    actions = np.repeat(random_actions(5, 1), 6, axis=1)
    plain = play(native(1, tasks=tasks[1:]), actions[:, :1])

    def moved(self: NativeEngine, task: Task) -> snapshots.Snapshot:
        snap = snapshots.snapshot(task)
        model, arrays = model_once(snap.model_file), {"body": snap.body_pos.copy(), "site": snap.site_pos.copy()}
        if task == tasks[1]:
            arrays[part][getattr(model, part)({"body": "hand", "site": "rightEndEffector"}[part]).id] += 0.01
        return dataclasses.replace(snap, body_pos=arrays["body"], site_pos=arrays["site"])

    monkeypatch.setattr(NativeEngine, "_snapshot", moved)
    alone = [play(native(1, tasks=[task]), actions[:, :1]) for task in tasks]
    assert not bit_equal(alone[1], plain)
    for threads in (1, 3):
        together = play(native(6, threads, [tasks[env_id % 2] for env_id in range(6)]), actions)
        for env_id in range(6):
            assert bit_equal(alone[env_id % 2], [result[:, env_id : env_id + 1] for result in together])


def test_memory_does_not_grow_with_the_number_of_classes() -> None:
    """An environment that changes its class passes its MjData to others of that class; spare ones are limited."""
    tasks = native_tasks(1).tasks
    env = make_vec(native_tasks(1), 4, engine="native")
    for i in range(3 * len(tasks)):
        env.set_tasks([tasks[i % len(tasks)]] * 4)
        env.reset()
        assert sum(map(len, env.engine.spare.values())) <= 4
    assert {id(data) for data in env.engine.held}.isdisjoint(id(d) for spare in env.engine.spare.values() for d in spare)
    env.step(np.zeros((4, 4)))


def test_environments_of_one_class_share_a_model() -> None:
    """Classes with the same model file share a model."""
    tasks = [suite(f"ml1:{name}-v3").train.tasks[0] for name in ("drawer-open", "drawer-close", "reach")]
    env = make_vec(TaskDistribution(tuple(tasks)), 30, engine="native")
    env.reset()
    assert len(env.engine.models) == 2


def test_a_new_goal_of_a_known_class_is_accepted() -> None:
    env = make_vec(TaskDistribution(suite("ml1:reach-v3").train.tasks[:1]), 1, engine="native")
    env.set_tasks([suite("ml1:reach-v3").test.tasks[0]])
    env.reset()
    assert np.array_equal(env.engine.scene(0).goal, suite("ml1:reach-v3").test.tasks[0].params[3:])


def test_an_unstable_simulation_is_reported_and_reset(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Only that environment is reset, on both engines; the others are not affected."""
    monkeypatch.chdir(tmp_path)  # MuJoCo writes a log file into the working directory
    actions, results = random_actions(8, 3), []
    calm = play(native(3, tasks=varied_tasks(3)), actions)
    for engine in ("native", "python"):
        env = make_vec(native_tasks(), 3, engine=engine, max_episode_steps=1000, info="full")
        env.set_tasks(varied_tasks(3))
        started = env.reset()[0]
        for t, a in enumerate(actions):
            if t == 4:
                data = env.engine.held[1] if engine == "native" else env.engine._env(1).env.data
                data.qvel[:] = 1e12
            obs, _, terminated, truncated, info = env.step(a)
            assert ("unstable" in info) == ("final_obs" in info) == (t == 4)
            if t == 4:
                assert info["unstable"].tolist() == truncated.tolist() == [False, True, False]
                assert np.array_equal(obs[1], started[1])
                assert info["final_info"]["unstable"].tolist() == [False, True, False]
            assert not terminated.any()
            assert np.isfinite(obs).all()
            for env_id in (0, 2):
                assert np.abs(obs[env_id] - calm[0][t, env_id]).max() <= 1e-12  # stock's norms depend on the processor's BLAS
        results.append((obs, info["grasp_reward"]))
    assert np.abs(results[0][0] - results[1][0]).max() <= 1e-12


def test_an_object_may_leave_the_table() -> None:
    """The object falls to the floor as in stock; its position is not clipped."""
    envs = [make_vec(suite("ml1:push-v3").train, 1, engine=engine) for engine in ("native", "python")]
    for env, data in zip(envs, (lambda e: e.engine.held[0], lambda e: e.engine._env(0).env.data)):
        env.reset(seed=0)
        data(env).qvel[9:12] = [3.0, 1.0, 2.0]
    for a in random_actions(150, 1):
        steps = [env.step(a) for env in envs]
        assert_equal(*steps)
    assert steps[0][0][0, 6] < -0.8
