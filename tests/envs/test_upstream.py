"""What docs/meta-world.md says of Meta-World, on Meta-World itself: a test fails once Meta-World mends what it is about.

tests/evaluation/test_metaworld_protocol.py has the counting of its evaluation; the tests of the engines compare all rewards and
resets, peculiarities included.
"""

from types import SimpleNamespace
from typing import Any

import gymnasium
import metaworld
import mujoco
import numpy as np
import pytest
from builders.oracle import goals
from metaworld.types import Task
from metaworld.wrappers import NormalizeRewardsExponential

CHANGED = 'Meta-World changed: correct "{}" in docs/meta-world.md, and this test'
LEAK = CHANGED.format("ML1-train serves the held-out goals") + "; figures made before and after it do not compare"
SMALLER = CHANGED.format("Smaller surprises")
STILL = np.zeros(4, np.float32)


@pytest.fixture
def few_goals(monkeypatch: pytest.MonkeyPatch) -> None:
    """Three goals per task, and the former number afterwards."""
    monkeypatch.setattr(metaworld, "_N_GOALS", 3)


@pytest.fixture
def no_resets(monkeypatch: pytest.MonkeyPatch) -> None:
    """Benchmarks whose tasks, 50 for each name, have no goals: drawing them takes up to a minute."""
    monkeypatch.setattr(metaworld, "_make_tasks", lambda classes, *args, **kwargs: [Task(n, b"") for n in classes] * 50)


@pytest.fixture
def stock() -> Any:
    """An environment of MT1, in which the goal is visible, on its first task."""
    env = metaworld.ALL_V3_ENVIRONMENTS["window-close-v3"]()
    vector = {"rand_vec": np.array([0.0, 0.79, 0.2]), "env_cls": type(env), "partially_observable": False}
    env.set_task(metaworld._encode_task("window-close-v3", vector))
    return env


def test_ml1_train_serves_the_held_out_goals_and_ends_episodes_at_success(few_goals: None) -> None:
    env = gymnasium.make_vec("Meta-World/ML1-train", env_name="reach-v3", seed=1, meta_batch_size=1)
    (served,) = env.get_attr("tasks")
    benchmark = metaworld.ML1("reach-v3", seed=1)
    assert goals(served) == goals(benchmark.test_tasks), LEAK
    assert not set(goals(served)) & set(goals(benchmark.train_tasks)), LEAK
    assert env.get_attr("terminate_on_success") == (True,), LEAK
    env.close()


@pytest.mark.parametrize("split", ["train", "test"])
@pytest.mark.parametrize("bench", ["ML1", "ML10", "ML25", "ML45"])
def test_only_the_ids_of_ml1_mistake_the_split(bench: str, split: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for side in ("train", "test"):
        monkeypatch.setattr(metaworld, f"make_ml_envs_{side}", lambda *args, side=side, split, **options: (side, split))
    named = {"env_name": "reach-v3"} if bench == "ML1" else {}
    made = gymnasium.spec(f"Meta-World/{bench}-{split}").vector_entry_point(seed=1, **named)
    found = "test" if bench == "ML1" else split
    assert made == (found, found), LEAK


@pytest.mark.parametrize("id_", ["ML1-train", "ML1-test", "ML10-test", "ML25-train", "ML25-test", "ML45-train", "ML45-test"])
def test_ids_fail_with_their_defaults(id_: str, no_resets: None) -> None:
    named = {"env_name": "reach-v3"} if id_.startswith("ML1-") else {}
    with pytest.raises(AssertionError, match=r"Invalid division|must be divisible"):  # if not, correct docs/meta-world.md
        gymnasium.make_vec(f"Meta-World/{id_}", **named)


def test_the_number_of_goals_of_an_id_holds_for_the_whole_process(few_goals: None) -> None:
    gymnasium.make("Meta-World/MT1", env_name="reach-v3", seed=1, num_goals=2).close()
    assert len(metaworld.ML1("reach-v3", seed=1).train_tasks) == 2, SMALLER


def test_reset_ignores_its_seed(few_goals: None) -> None:
    env = gymnasium.make("Meta-World/MT1", env_name="reach-v3", seed=1)
    assert len({tuple(env.reset(seed=5)[0]) for _ in range(10)}) > 1, SMALLER
    env.close()


def test_agents_never_see_the_end_of_an_episode(few_goals: None) -> None:
    options = {"recurrent_info_in_obs": True, "max_episode_steps": 2, "normalize_reward_in_recurrent_info": False}
    env = gymnasium.make_vec("Meta-World/ML1-test", env_name="reach-v3", seed=1, meta_batch_size=1, **options)
    env.call("sample_tasks")
    env.reset()
    rewards, shown = [], []
    for _ in range(6):
        obs, reward, *_ = env.step(STILL[None])
        rewards.append(reward[0])
        shown.append(obs[0, -2:].tolist())
    assert np.allclose(shown, [[rewards[0], 0], [0, 0]] * 3), SMALLER
    assert min(rewards) > 0
    env.close()


def test_the_observation_space_excludes_visible_goals(stock: Any) -> None:
    obs, _ = stock.reset()
    assert stock.sawyer_observation_space.contains(obs)
    assert not stock.observation_space.contains(obs), SMALLER


def test_initial_pads_are_the_current_ones(stock: Any) -> None:
    stock.reset()
    before = stock.init_left_pad.copy()
    for _ in range(10):
        stock.step(STILL + 1)
    assert np.abs(stock.init_left_pad - before).max() > 0.01, SMALLER
    assert (stock.init_left_pad == stock.get_body_com("leftpad")).all(), SMALLER


def test_the_observation_after_a_reset_is_older_than_the_state(stock: Any) -> None:
    obs, _ = stock.reset()
    mujoco.mj_forward(stock.model, stock.data)
    assert np.abs(stock._get_curr_obs_combined_no_goal() - obs[:18]).max() == pytest.approx(0.2), SMALLER


def test_the_exponential_normaliser_counts_rewards_twice() -> None:
    env = SimpleNamespace(step=lambda action: (None, 1.0, False, False, {}))
    wrapper = NormalizeRewardsExponential.__new__(NormalizeRewardsExponential)
    wrapper.env, wrapper._reward_alpha, wrapper._reward_mean, wrapper._reward_var = env, 0.5, 0.0, 1.0
    wrapper.step(STILL)
    assert wrapper._reward_mean == 0.75, SMALLER  # 0.5 would be one count
