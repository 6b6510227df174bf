"""`MetaVectorEnv`: gymnasium's interface of a vector environment, and the additions that trials need."""

import logging
from typing import Any

import gymnasium
import numpy as np
import pytest
from builders.oracle import ENGINES, VARIED_TASKS, Make, expert, native_tasks, random_actions
from builders.scenes import need_backend
from builders.tiny import COUNTDOWNS
from gymnasium.error import ResetNeeded
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.wrappers.vector import NormalizeReward, RecordEpisodeStatistics

from metarl.envs.engines.python import StockEnv
from metarl.envs.rendering.painter import Painter
from metarl.errors import UserError

STILL = np.zeros((2, 4), np.float32)

# ---------------------------------------------------------------------------------------------------------------------
# the interface


@pytest.mark.parametrize("engine", ENGINES)
def test_the_interface_of_a_gymnasium_vector_env(make: Make, engine: str) -> None:
    env = make(3, engine=engine)
    assert isinstance(env, VectorEnv)
    assert env.metadata["autoreset_mode"] is AutoresetMode.SAME_STEP
    assert env.num_envs == 3
    assert env.single_observation_space.shape == (39,)
    assert env.single_action_space == gymnasium.spaces.Box(-1, 1, (4,), np.float32)
    assert (env.observation_space.shape, env.action_space.shape) == ((3, 39), (3, 4))
    obs, info = env.reset(seed=0)
    assert (obs.shape, obs.dtype, info) == ((3, 39), np.float64, {})
    obs, reward, terminated, truncated, info = env.step(env.action_space.sample())
    assert (obs.shape, obs.dtype) == ((3, 39), np.float64)
    assert (reward.shape, reward.dtype) == ((3,), np.float64)
    for array in (terminated, truncated, info["success"], info["_success"]):
        assert (array.shape, array.dtype) == ((3,), bool)
    assert info.keys() == {"success", "_success"}
    assert env.render() is None


def test_both_engines_have_the_same_spaces(make: Make) -> None:
    native, python = (make(engine=engine) for engine in ENGINES)
    assert native.single_observation_space == python.single_observation_space
    assert native.observation_space == python.observation_space
    assert native.action_space == python.action_space
    assert native.input_scale == python.input_scale is not None


def test_expert_episodes_stay_in_the_space_and_do_not_end_early(make: Make) -> None:
    """In 500 steps observations lie in the space, goals stay hidden, and successes do not terminate episodes."""
    env = make(len(VARIED_TASKS), native_tasks(1), engine="native")
    obs, info = env.reset(seed=0)
    succeeded = np.zeros(len(VARIED_TASKS), bool)
    for t in range(500):
        assert env.observation_space.contains(obs)
        assert (obs[:, 36:39] == 0).all()
        obs, _, terminated, truncated, info = env.step(expert(env, obs))
        succeeded |= info["success"]
        assert not terminated.any()
        assert truncated.all() == truncated.any() == (t == 499)
        if t < 499:
            assert info.keys() == {"success", "_success"}
    assert succeeded.all()
    assert all((final[36:39] == 0).all() and env.single_observation_space.contains(final) for final in info["final_obs"])
    assert info.keys() == {
        "success",
        "_success",
        "final_obs",
        "_final_obs",
        "final_info",
        "_final_info",
    }
    assert info["final_info"].keys() == {"success", "_success"}


@pytest.mark.parametrize("engine", ENGINES)
def test_returned_arrays_are_never_overwritten(make: Make, engine: str) -> None:
    """Also across ends of episodes, resets of single environments and changes of tasks."""
    env = make(engine=engine, max_episode_steps=3, resample="episode")
    arrays = [env.reset(seed=0)[0]]
    for actions in random_actions(8):
        obs, *rest, info = env.step(actions)
        arrays += [obs, *rest, info["success"]]
        if "final_obs" in info:
            arrays += [*info["final_obs"], info["_final_obs"], info["final_info"]["success"]]
    copies = [array.copy() for array in arrays]
    arrays.append(env.reset(options={"reset_mask": np.array([True, False])})[0])
    copies.append(arrays[-1].copy())
    for actions in random_actions(8, seed=1):
        env.step(actions)
    env.reset(seed=1)
    assert len(arrays) > 40
    assert all(np.array_equal(a, b) for a, b in zip(arrays, copies))


def test_changes_to_arrays_by_the_caller_do_not_reach_the_environment(make: Make) -> None:
    env, undisturbed = make(engine="native", max_episode_steps=4), make(engine="native", max_episode_steps=4)
    for e in (env, undisturbed):
        e.reset(seed=0)
    for actions in random_actions(6):
        expected = undisturbed.step(actions)
        passed = actions.copy()
        obs, reward, terminated, truncated, info = env.step(passed)
        assert np.array_equal(obs, expected[0])
        assert np.array_equal(truncated, expected[3])
        for array in (obs, reward, passed):
            array[:] = np.nan
        for array in (terminated, truncated, info["success"]):
            array[:] = True
    for _ in range(2):
        obs, expected = (e.reset(options={"reset_mask": np.array([True, False])})[0] for e in (env, undisturbed))
        assert np.array_equal(obs, expected)
        obs[:] = np.nan


# ---------------------------------------------------------------------------------------------------------------------
# ends of episodes


def test_the_final_observation_of_an_episode_is_returned(make: Make) -> None:
    """Both engines agree on it; it is not the start of the next episode; later steps do not change it."""
    finals = []
    for engine in ENGINES:
        env = make(engine=engine, max_episode_steps=60)
        obs, _ = env.reset(seed=0)
        started = obs
        for t in range(60):
            obs, _, terminated, truncated, info = env.step(expert(env, obs))
            assert ("final_obs" in info) == (t == 59)
        assert truncated.all()
        assert not terminated.any()
        assert info["_final_obs"].all()
        assert info["_final_info"].all()
        assert np.array_equal(obs, started)  # the same task again
        final = np.stack(info["final_obs"])
        assert (final != obs).any(1).all()
        assert info["success"].all()
        assert info["final_info"]["success"].all()
        copy = final.copy()
        for actions in random_actions(10):
            env.step(actions)
        assert np.array_equal(np.stack(info["final_obs"]), copy)
        assert info["final_info"]["success"].all()
        finals.append(final)
    assert np.abs(finals[0] - finals[1]).max() <= 1e-12


def test_the_final_observation_equals_that_of_a_longer_episode(make: Make) -> None:
    short, long = make(engine="native", max_episode_steps=5), make(engine="native", max_episode_steps=6)
    for env in (short, long):
        env.reset(seed=0)
    for actions in random_actions(5):
        step, expected = short.step(actions), long.step(actions)
    assert np.array_equal(np.stack(step[4]["final_obs"]), expected[0])
    assert np.array_equal(step[1], expected[1])


@pytest.mark.parametrize("engine", ENGINES)
def test_an_episode_may_be_longer_than_500_steps(make: Make, engine: str) -> None:
    """Stock ends an episode after 500 steps and then refuses to step."""
    env = make(1, engine=engine, max_episode_steps=502)
    env.reset(seed=0)
    ends = [env.step(np.zeros((1, 4)))[3].item() for _ in range(502)]
    assert ends == [False] * 501 + [True]


def test_the_reward_normaliser_counts_every_step(make: Make) -> None:
    """It counts 24 steps of 2 environments, although 3 episodes ended meanwhile."""
    env = NormalizeReward(make(engine="native", max_episode_steps=4))
    env.reset(seed=0)
    initial_count = env.return_rms.count
    for actions in random_actions(12):
        env.step(actions)
    assert env.return_rms.count - initial_count == pytest.approx(24)


def test_episode_statistics_are_of_whole_episodes(make: Make) -> None:
    env = RecordEpisodeStatistics(make(engine="native", max_episode_steps=4))
    env.reset(seed=0)
    for _ in range(2):
        rewards = 0
        for actions in random_actions(4):
            _, reward, _, _, info = env.step(actions)
            rewards = rewards + reward
        assert info["episode"]["l"].tolist() == [4, 4]
        assert info["episode"]["r"] == pytest.approx(rewards)


def test_terminate_on_success(make: Make) -> None:
    """An episode ends exactly at its first success."""
    env = make(engine="native", terminate_on_success=True)
    obs, _ = env.reset(seed=0)
    started = obs
    ended = np.zeros(2, int)
    for _ in range(120):
        obs, _, terminated, truncated, info = env.step(expert(env, obs))
        assert np.array_equal(terminated, info["success"])
        assert not truncated.any()
        if terminated.any():
            assert np.array_equal(info["_final_obs"], terminated)
            assert np.array_equal(obs[terminated], started[terminated])
            assert all((final is not None) == end for final, end in zip(info["final_obs"], terminated))
        ended += terminated
    assert (ended >= 2).all()


# ---------------------------------------------------------------------------------------------------------------------
# actions and options


@pytest.mark.parametrize("shape", [(4,), (3, 4), (2, 3), (2, 4, 1), (8,)])
def test_actions_of_another_shape_are_refused(make: Make, shape: tuple[int, ...]) -> None:
    env = make(engine="native")
    env.reset()
    with pytest.raises(UserError, match=r"not \(2, 4\)"):
        env.step(np.zeros(shape))


@pytest.mark.parametrize("engine", ENGINES)
def test_actions_that_are_not_finite_are_refused(make: Make, engine: str) -> None:
    """The error names the environment, and no environment has stepped."""
    env, undisturbed = make(engine=engine, max_episode_steps=3), make(engine=engine, max_episode_steps=3)
    for e in (env, undisturbed):
        e.reset(seed=0)
    for actions, value in zip(random_actions(4), [np.nan, np.inf, -np.inf, np.nan]):
        not_finite = actions.copy()
        not_finite[1, 2] = value
        with pytest.raises(UserError, match=r"environments \[1\]"):
            env.step(not_finite)
        step, expected = env.step(actions), undisturbed.step(actions)
        assert np.array_equal(step[0], expected[0])
        assert np.array_equal(step[3], expected[3])


def test_actions_may_be_float64_lists_or_strided(make: Make) -> None:
    """Box actions are converted to float32, the dtype of stock's action space."""
    envs = [make(engine="native") for _ in range(4)]
    for env in envs:
        env.reset(seed=0)
    actions = random_actions(1)[0]
    wide = np.zeros((2, 8), np.float32)
    wide[:, ::2] = actions
    results = [e.step(a)[0] for e, a in zip(envs, [actions, actions.astype(float), actions.tolist(), wide[:, ::2]])]
    assert all(np.array_equal(result, results[0]) for result in results)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"engine": "natvie"}, "unknown engine 'natvie'. Did you mean native"),
        ({"resample": "always"}, "resample must be 'never' or 'episode'"),
        ({"reward": "v3"}, "reward must be 'v2' or 'v1'"),
        ({"info": "all"}, "info must be"),
        ({"render_mode": "human"}, "render_mode must be"),
        ({"camera": "corner9"}, "unknown camera 'corner9'. There are: .*corner3"),
        ({"width": 5}, "16 to 4096 pixels"),
        ({"max_episode_steps": 0}, "max_episode_steps"),
        ({"num_envs": 0}, "num_envs"),
    ],
)
def test_wrong_options_are_refused(make: Make, options: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        make(**options)


def test_the_chosen_engine_is_logged(make: Make, caplog: Any) -> None:
    caplog.set_level(logging.INFO, "metarl")
    assert make().engine.name == "native"
    assert make(tasks=COUNTDOWNS).engine.name == "python"
    assert "engine: python (these are not Meta-World's environments)" in caplog.text
    with pytest.raises(UserError, match="not Meta-World's environments; engine='python'"):
        make(tasks=COUNTDOWNS, engine="native")


def test_reward_v1_equals_upstream(make: Make) -> None:
    """The reward also differs from v2."""
    from metaworld.env_dict import ALL_V3_ENVIRONMENTS

    v1, v2 = (make(1, engine="python", reward=reward) for reward in ("v1", "v2"))
    obs = v1.reset(seed=0)[0]
    v2.reset(seed=0)
    upstream = StockEnv("reach-v3")
    upstream.env = ALL_V3_ENVIRONMENTS["reach-v3"](reward_function_version="v1")
    upstream.set_task(v1.tasks[0].params)
    upstream.reset()
    for _ in range(60):
        actions = expert(v1, obs)
        expected = upstream.step(actions[0])
        obs, reward, *_ = v1.step(actions)
        assert reward[0] == expected[1]
        assert reward[0] != v2.step(actions)[1][0]


@pytest.mark.parametrize("engine", ENGINES)
def test_full_info_equals_upstream(make: Make, engine: str) -> None:
    env = make(2, native_tasks(1), engine=engine, info="full", max_episode_steps=5)
    env.reset(seed=0)
    keys = {
        "success",
        "near_object",
        "grasp_success",
        "grasp_reward",
        "in_place_reward",
        "obj_to_target",
        "unscaled_reward",
    }
    for actions in random_actions(5):
        _, reward, _, _, info = env.step(actions)
        assert {key for key in info if not key.startswith("_")} - {"final_obs", "final_info"} == keys
        assert np.array_equal(info["unscaled_reward"], reward)
        assert (info["obj_to_target"] > 0).all()
    assert {key for key in info["final_info"] if not key.startswith("_")} == keys
    assert np.array_equal(info["final_info"]["unscaled_reward"], reward)


# ---------------------------------------------------------------------------------------------------------------------
# pictures


def test_pictures_of_environments(make: Make) -> None:
    """They show the current state, are equal on both engines, and follow `env_ids` and `camera`."""
    need_backend()
    pictures = []
    for engine in ENGINES:
        env = make(3, native_tasks(1), engine=engine, render_mode="rgb_array", camera="corner", width=160, height=120)
        with pytest.raises(ResetNeeded):
            env.render()
        env.reset(seed=0)
        first = env.render(env_ids=[2])
        for actions in random_actions(20, 3):
            env.step(actions)
        pictures.append(env.render())
        assert len(first) == 1
        assert first[0].shape == (120, 160, 3)
        assert not np.array_equal(first[0], pictures[-1][2])
        scene = env.engine.scene(1)
        with Painter(160, 120, "corner") as painter:
            assert np.array_equal(painter.draw(scene), pictures[-1][1])
    assert all(np.array_equal(a, b) for a, b in zip(*pictures))
    depth = make(1, engine="native", render_mode="depth_array", camera="topview", width=64, height=48)
    depth.reset(seed=0)
    (picture,) = depth.render()
    assert (picture.shape, picture.dtype) == ((48, 64), np.float32)
    assert 0.3 < picture.min() < picture.max()
