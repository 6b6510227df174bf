"""`MetaVectorEnv`: the tasks of environments, and resets."""

from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from builders.oracle import ENGINES, Make, native_tasks, random_actions, reach, same_global_state
from gymnasium.error import ResetNeeded

from metarl.envs import Task, TaskDistribution, suite
from metarl.envs.engines.python import StockEnv
from metarl.errors import UserError

STILL = np.zeros((2, 4), np.float32)


@pytest.mark.parametrize("engine", ENGINES)
def test_reset_mask_resets_only_these_environments(make: Make, engine: str) -> None:
    env, undisturbed = make(engine=engine, max_episode_steps=10), make(engine=engine, max_episode_steps=10)
    started = env.reset(seed=0)[0]
    undisturbed.reset(seed=0)
    actions = random_actions(13)
    for a in actions[:4]:
        last, expected = env.step(a)[0], undisturbed.step(a)
    obs, _ = env.reset(options={"reset_mask": np.array([False, True])})
    assert np.array_equal(obs[0], last[0])
    assert np.array_equal(obs[1], started[1])
    for t, a in enumerate(actions[4:], 5):
        step, expected = env.step(a), undisturbed.step(a)
        assert np.array_equal(step[0][0], expected[0][0])
        assert step[3].tolist() == [t == 10, False]  # environment 1 restarted after step 4
    assert env.step(STILL)[3].tolist() == [False, True]


@pytest.mark.parametrize("mask", [np.zeros(2, bool), np.ones(3, bool), np.array([0, 1]), True], ids=str)
def test_a_wrong_reset_mask_is_refused(make: Make, mask: Any) -> None:
    with pytest.raises(UserError, match="reset_mask"):
        make(engine="native").reset(options={"reset_mask": mask})


def test_set_tasks_takes_effect_at_the_next_reset(make: Make) -> None:
    env = make(3, engine="native")
    with pytest.raises(ResetNeeded, match=r"\[0, 1, 2\]"):
        env.step(np.zeros((3, 4)))
    env.reset(seed=0)
    first, new_tasks = list(env.tasks), list(reach().tasks[:3])
    env.set_tasks([new_tasks[1]], env_ids=[1])
    assert env.tasks == first
    with pytest.raises(ResetNeeded, match=r"\[1\]"):
        env.step(np.zeros((3, 4)))
    env.reset(options={"reset_mask": np.array([True, False, False])})
    with pytest.raises(ResetNeeded, match=r"\[1\]"):
        env.step(np.zeros((3, 4)))
    env.reset(options={"reset_mask": np.array([False, True, False])})
    assert env.tasks == [first[0], new_tasks[1], first[2]]
    env.step(np.zeros((3, 4)))
    env.set_tasks(new_tasks)
    env.reset()
    assert env.tasks == new_tasks
    for env_id, task in enumerate(new_tasks):
        assert np.array_equal(env.engine.scene(env_id).goal, task.params[3:])


@pytest.mark.parametrize(("count", "env_ids"), [(1, None), (3, None), (2, [0]), (0, [1])])
def test_a_wrong_number_of_tasks_is_refused(make: Make, count: int, env_ids: list[int] | None) -> None:
    env = make(engine="native")
    env.reset(seed=0)
    with pytest.raises(UserError, match=f"{count} tasks? for"):
        env.set_tasks(reach().tasks[:count], env_ids)
    env.step(STILL)


@pytest.mark.parametrize("engine", ENGINES)
def test_a_task_with_an_unknown_name_is_refused(make: Make, engine: str) -> None:
    env = make(engine=engine)

    def use(task: Task) -> None:
        env.set_tasks([task] * 2)
        env.reset()

    with pytest.raises(UserError, match="raech-v3"):
        use(Task("raech-v3", reach().tasks[0].params))


@pytest.mark.parametrize("engine", ENGINES)
def test_an_environment_may_be_set_to_a_task_of_another_suite(make: Make, engine: str) -> None:
    """The engine is not rebuilt."""
    env, chosen = make(3, engine=engine), suite("ml1:sweep-v3").test.tasks[:1]
    env.reset(seed=0)
    env.set_tasks(chosen, env_ids=[1])
    obs = env.reset(options={"reset_mask": np.array([False, True, False])})[0]
    assert np.array_equal(obs[1], make(1, TaskDistribution(chosen), engine=engine).reset()[0][0])


@pytest.mark.parametrize("engine", ENGINES)
def test_multi_task_suites_show_goal_and_task(make: Make, engine: str) -> None:
    """Equal to stock with its one-hot wrapper, across resets and ends of episodes."""
    from metaworld.wrappers import OneHotWrapper

    tasks = suite("mt10", goals=2, task_id=True).train
    env = make(3, tasks, engine=engine, max_episode_steps=3)
    chosen = [task for task in tasks.tasks if task.name in ("door-open-v3", "peg-insert-side-v3", "reach-v3")][::2]
    env.set_tasks(chosen)
    obs, _ = env.reset()
    assert env.single_observation_space.shape == (49,)
    wrapped = []
    for task in chosen:
        inner = StockEnv(task.name, goal_visible=True)
        inner.set_task(task.params)
        wrapped.append(OneHotWrapper(inner, list(tasks.names).index(task.name), 10))
    assert np.array_equal(obs, [env.reset()[0] for env in wrapped])
    for actions in random_actions(3, 3):
        obs, _, _, truncated, info = env.step(actions)
        expected = np.array([env.step(a)[0] for env, a in zip(wrapped, actions)])
        last = np.stack(info["final_obs"]) if truncated.all() else obs
        assert np.abs(last - expected).max() <= 1e-12
        assert env.observation_space.contains(last)
        for env_id in range(3):
            assert np.array_equal(last[env_id, 36:39], env.engine.scene(env_id).goal)
    assert truncated.all()
    assert np.array_equal(obs[:, 39:], last[:, 39:])
    with pytest.raises(UserError, match="sweep-v3 has no task id"):
        env.set_tasks(suite("ml1:sweep-v3").train.tasks[:1], env_ids=[0])
    assert env.input_scale.center[36:] == (0.0, 0.6, 0.2, *[0.0] * 10)


def test_tasks_stay_with_resample_never(make: Make) -> None:
    env = make(20, engine="native", max_episode_steps=2)
    env.reset()
    first = list(env.tasks)
    assert len(set(first)) == 20
    for _ in range(5):
        env.step(np.zeros((20, 4)))
    assert env.tasks == first
    env.reset()
    assert env.tasks == first


@pytest.mark.parametrize("engine", ENGINES)
def test_tasks_change_with_resample_episode(make: Make, engine: str) -> None:
    """Tasks change at autoreset and at reset; the first observation is that of the new task."""
    env = make(3, native_tasks(), engine=engine, max_episode_steps=2, resample="episode")
    env.reset(seed=0)
    tasks_by_episode = [list(env.tasks)]
    for t in range(6):
        obs, *_ = env.step(np.zeros((3, 4)))
        if t % 2:
            tasks_by_episode.append(list(env.tasks))
        assert env.tasks == tasks_by_episode[-1]
    env.reset()
    tasks_by_episode.append(list(env.tasks))
    assert all(before != after for before, after in pairwise(tasks_by_episode))
    reference = make(3, native_tasks(), engine="native")
    reference.set_tasks(tasks_by_episode[-2])
    assert np.array_equal(obs, reference.reset()[0])


def test_only_environments_whose_episode_ended_get_another_task(make: Make) -> None:
    env = make(6, engine="native", max_episode_steps=4, resample="episode")
    env.reset(seed=0)
    env.step(np.zeros((6, 4)))
    env.reset(options={"reset_mask": np.arange(6) < 3})
    before = list(env.tasks)
    for _ in range(3):
        truncated = env.step(np.zeros((6, 4)))[3]
    assert truncated.tolist() == [False] * 3 + [True] * 3
    assert env.tasks[:3] == before[:3]
    assert env.tasks[3:] != before[3:]


@pytest.mark.parametrize("engine", ENGINES)
def test_the_seed_determines_the_tasks(make: Make, engine: str) -> None:
    env, other = make(3, engine=engine, seed=1), make(3, engine=engine, seed=2)
    draws = {}
    for seed in (5, 6):
        draws[seed] = env.reset(seed=seed)[0], list(env.tasks)
    assert draws[5][1] != draws[6][1]
    obs, _ = env.reset(seed=5)
    assert (list(env.tasks), obs.tolist()) == (draws[5][1], draws[5][0].tolist())
    other.reset(seed=5)
    assert other.tasks == draws[5][1]


def test_the_seed_of_make_vec_determines_the_first_tasks(make: Make) -> None:
    envs = [make(4, engine="native", seed=seed) for seed in (1, 1, 2)]
    for env in envs:
        env.reset()
    assert envs[0].tasks == envs[1].tasks != envs[2].tasks


def test_the_seed_determines_later_episodes(make: Make) -> None:
    env = make(4, engine="native", max_episode_steps=1, resample="episode")
    runs = []
    for _ in range(2):
        env.reset(seed=5)
        runs.append([env.step(np.zeros((4, 4)))[0] for _ in range(5)])
    assert np.array_equal(*runs)


def test_set_tasks_wins_over_a_seed(make: Make) -> None:
    env, tasks = make(engine="native"), list(reach().tasks[:2])
    env.set_tasks(tasks)
    env.reset(seed=5)
    assert env.tasks == tasks
    env.reset(seed=6)
    assert env.tasks == tasks


def test_a_seed_draws_again_for_environments_whose_task_was_not_set(make: Make) -> None:
    """`set_tasks(env_ids=[0])` does not affect the other environments."""
    env, other = make(8, engine="native"), make(8, engine="native")
    chosen = reach().tasks[:1]
    for e in (env, other):
        e.set_tasks(chosen, env_ids=[0])
    env.reset(seed=5)
    first = list(env.tasks)
    env.reset(seed=6)
    assert env.tasks[0] == first[0] == chosen[0]
    other.reset(seed=6)
    assert env.tasks == other.tasks != first


def test_environments_whose_task_was_not_set_continue_to_draw(make: Make) -> None:
    env = make(8, engine="native", max_episode_steps=1, resample="episode")
    env.set_tasks(reach().tasks[:1], env_ids=[0])
    env.reset(seed=5)
    first = list(env.tasks)
    env.step(np.zeros((8, 4)))
    assert env.tasks[1:] != first[1:]


@pytest.mark.parametrize("engine", ENGINES)
def test_the_global_generator_of_numpy_is_not_used(make: Make, engine: str) -> None:
    results = []
    for seed in (0, 123):
        np.random.seed(seed)  # noqa: NPY002
        before = np.random.get_state()  # noqa: NPY002
        env = make(engine=engine, max_episode_steps=4, resample="episode", seed=3)
        obs = [env.reset()[0]] + [env.step(a)[0] for a in random_actions(6)] + [env.reset(seed=5)[0]]
        assert same_global_state(before)
        results.append((np.stack(obs), list(env.tasks)))
    assert np.array_equal(results[0][0], results[1][0])
    assert results[0][1] == results[1][1]


def test_a_list_of_seeds_is_refused(make: Make) -> None:
    with pytest.raises(UserError, match="one seed"):
        make(engine="native").reset(seed=[1, 2])
