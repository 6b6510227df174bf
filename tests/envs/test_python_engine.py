"""The vector environment with user-defined environments, and with all 50 tasks as stock objects."""

import pickle
from collections import Counter
from collections.abc import Callable
from dataclasses import fields
from typing import Any

import gymnasium
import numpy as np
import pytest
from builders.oracle import Make, draw, same_global_state

from metarl.envs import TASKS, Task, TaskDistribution, make_vec, suite
from metarl.envs.engines.python import StockEnv
from metarl.errors import UserError


class Walk(gymnasium.Env):
    """Terminates after the number of steps in its task; rewards the last action; starts at random."""

    observation_space = gymnasium.spaces.Box(-np.inf, np.inf, (2,), np.float32)
    action_space: gymnasium.Space[Any] = gymnasium.spaces.Box(-2, 2, (1,), np.float64)

    def __init__(self, name: str = "walk") -> None:
        self.length, self.closed = 0, False

    def set_task(self, length: int) -> None:
        self.pending = length

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[np.ndarray, dict[str, Any]]:
        super().reset(seed=seed)
        self.length, self.t = self.pending, 0
        self.start = self.np_random.random()
        return self._obs(), {}

    def _obs(self) -> np.ndarray:
        return np.array([self.t, self.start], np.float32)

    def step(self, action: Any) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        assert self.action_space.contains(action)
        self.t += 1
        info = {"success": self.t == 2, "twice": 2 * self.t}
        return self._obs(), float(np.sum(action)), self.t >= self.length, False, info

    def close(self) -> None:
        self.closed = True


class Choice(Walk):
    """The same with three actions."""

    action_space = gymnasium.spaces.Discrete(3)


class Diary(Walk):
    """Adds entries to info at the end of an episode, also a text."""

    def step(self, action: Any) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        obs, reward, terminated, truncated, info = super().step(action)
        if terminated:
            info |= {"length": self.t, "note": "done"}
        return obs, reward, terminated, truncated, info


def walks(make: Callable[[str], Any] | None = None) -> TaskDistribution:
    return TaskDistribution((Task("walk", 3), Task("walk", 5)), make=make or Walk)


def test_user_environments_may_end_early(make: Make) -> None:
    env = make(tasks=walks(), max_episode_steps=4)
    assert env.engine.name == "python"
    assert env.input_scale is None
    assert (env.observation_space.shape, env.observation_space.dtype) == ((2, 2), np.float32)
    env.set_tasks([Task("walk", 3), Task("walk", 5)])
    obs, _ = env.reset(seed=0)
    assert obs.dtype == np.float32
    ends = []
    for t in range(12):
        obs, reward, terminated, truncated, info = env.step(np.full((2, 1), 0.5))
        assert reward.tolist() == [0.5, 0.5]
        assert info["success"].tolist() == [t % 3 == 1, t % 4 == 1]
        ended = terminated | truncated
        ends.append((terminated.tolist(), truncated.tolist()))
        assert obs[:, 0].tolist() == [(t + 1) % 3, (t + 1) % 4]
        if ended.any():
            assert np.array_equal(info["_final_obs"], ended)
            assert [f if f is None else f[0] for f in info["final_obs"]] == [3 if ended[0] else None, 4 if ended[1] else None]
            assert np.array_equal(info["final_info"]["_success"], ended)
            assert not info["final_info"]["success"][ended].any()
        else:
            assert "final_obs" not in info
    assert ends[:4] == [([False] * 2, [False] * 2)] * 2 + [([True, False], [False] * 2), ([False] * 2, [False, True])]


def test_an_episode_may_terminate_at_the_horizon(make: Make) -> None:
    env = make(1, walks(), max_episode_steps=3)
    env.set_tasks([Task("walk", 3)])
    env.reset()
    for _ in range(3):
        _, _, terminated, truncated, _ = env.step(np.zeros((1, 1)))
    assert (terminated.tolist(), truncated.tolist()) == ([True], [True])


def test_user_environments_are_seeded(make: Make) -> None:
    """Seeds differ between environments and after an autoreset; the same seed repeats them."""
    env = make(2, walks(), max_episode_steps=2)
    runs = []
    for seed in (5, 5, 6):
        runs.append([env.reset(seed=seed)[0]] + [env.step(np.zeros((2, 1)))[0] for _ in range(4)])
    assert np.array_equal(runs[0], runs[1])
    starts = np.stack(runs[0])[[0, 2, 4], :, 1]
    assert len(np.unique(starts)) == 6
    assert not np.array_equal(runs[0], runs[2])


def test_discrete_actions(make: Make) -> None:
    env = make(2, walks(Choice))
    assert env.single_action_space == gymnasium.spaces.Discrete(3)
    env.reset(seed=0)
    for actions in (np.array([0, 2]), [2, 1], env.action_space.sample()):
        assert env.step(actions)[1].tolist() == list(actions)


@pytest.mark.parametrize("actions", [[0.0, np.nan], [0.0, np.inf], [0.0, 1.5]], ids=str)
def test_discrete_actions_must_be_integers(make: Make, actions: list[float]) -> None:
    """They are not cast to another action."""
    env = make(2, walks(Choice))
    env.reset(seed=0)
    with pytest.raises(UserError, match=r"environments \[1\]"):
        env.step(np.array(actions))


def test_full_info_of_user_environments(make: Make) -> None:
    env = make(2, walks(), info="full", max_episode_steps=2)
    env.reset(seed=0)
    assert env.step(np.zeros((2, 1)))[4]["twice"].tolist() == [2, 2]
    assert env.step(np.zeros((2, 1)))[4]["final_info"]["twice"].tolist() == [4, 4]


def test_full_info_may_differ_between_steps_and_environments(make: Make) -> None:
    """By gymnasium's convention, `_key` marks the environments that have the entry."""
    env = make(2, walks(Diary), info="full")
    env.set_tasks([Task("walk", 3), Task("walk", 5)])
    env.reset(seed=0)
    for t in range(5):
        info = env.step(np.zeros((2, 1)))[4]
        if t in (2, 4):
            last = info["final_info"]
            assert last["_length"].tolist() == [t == 2, t == 4]
            assert last["length"][int(t == 4)] == t + 1


def test_success_is_false_if_an_environment_does_not_report_it(make: Make) -> None:
    class Silent(Walk):
        def step(self, action: Any) -> Any:
            return (*super().step(action)[:4], {})

    env = make(2, walks(Silent))
    env.reset(seed=0)
    assert env.step(np.zeros((2, 1)))[4]["success"].tolist() == [False, False]


def test_environments_with_different_spaces_cannot_share_a_batch(make: Make) -> None:
    tasks = TaskDistribution((Task("walk", 3), Task("choice", 3)), make=lambda name: {"walk": Walk, "choice": Choice}[name]())
    with pytest.raises(UserError, match="choice has other observation or action spaces than walk"):
        make(2, tasks)


def test_close_closes_user_environments() -> None:
    environments = []

    def make_walk(name: str) -> Walk:
        environments.append(Walk())
        return environments[-1]

    env = make_vec(walks(make_walk), 3)
    env.reset()
    env.close()
    assert len(environments) == 3
    assert all(walk.closed for walk in environments)


def test_environments_are_reused_when_their_task_class_changes(make: Make) -> None:
    names = []

    def make_walk(name: str) -> Walk:
        names.append(name)
        return Walk()

    tasks = [Task(name, 3) for name in ("a", "b", "c")]
    env = make(2, TaskDistribution(tuple(tasks), make=make_walk))
    for i in range(20):
        env.set_tasks([tasks[i % 3], tasks[(i + 1) % 3]])
        env.reset()
        assert env.step(np.zeros((2, 1)))[0][:, 0].tolist() == [1, 1]
    assert max(Counter(names).values()) <= 2


# ---------------------------------------------------------------------------------------------------------------------
# all 50 tasks


@pytest.mark.parametrize("name", TASKS)
def test_every_task_steps(make: Make, name: str) -> None:
    """In the python engine, a reset repeats the episode; observations and rewards are within their bounds."""
    np.random.seed(0)  # noqa: NPY002
    global_state = np.random.get_state()  # noqa: NPY002
    upstream = StockEnv(name)
    env = make(1, TaskDistribution((draw(upstream, name),), make=lambda _: upstream), max_episode_steps=2)
    episodes = []
    for _ in range(2):
        obs = env.reset(seed=0)[0]
        assert env.observation_space.contains(obs)
        assert (obs[:, 36:39] == 0).all()
        obs, first, *_ = env.step(np.ones((1, 4)))
        assert env.observation_space.contains(obs)
        _, second, terminated, truncated, info = env.step(-np.ones((1, 4)))
        final = info["final_obs"][0]
        assert env.single_observation_space.contains(final)
        assert not (final == obs[0]).all()
        assert 0 <= first[0] <= 10
        assert (terminated[0], truncated[0], info["success"].dtype) == (False, True, bool)
        episodes.append([*obs[0], *final, first[0], second[0]])
    assert episodes[0] == episodes[1]
    assert same_global_state(global_state)


def test_task_distributions_can_be_pickled() -> None:
    distribution = TaskDistribution(walks().tasks, make=Walk)
    assert distribution.names == ("walk",)
    unpickled = pickle.loads(pickle.dumps(distribution))
    assert unpickled == distribution
    assert unpickled.names == distribution.names
    assert pickle.loads(pickle.dumps(suite("ml1:reach-v3"))) == suite("ml1:reach-v3")
    assert [field.name for field in fields(unpickled)] == ["tasks", "make", "goal_visible", "task_ids", "axes", "success"]
