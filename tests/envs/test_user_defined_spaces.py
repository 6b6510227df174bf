"""Spaces and return values of user-defined environments: each kind that gymnasium allows works or is refused."""

import json
from fractions import Fraction
from typing import Any

import gymnasium
import numpy as np
import pytest
import torch
from builders.tiny import metrics, refused, toy
from builders.user_files import ENV, forget_user_files, train_small, user_file  # noqa: F401
from gymnasium import spaces

import metarl
from metarl import cli
from metarl.agents.rl2 import RL2Settings
from metarl.envs import Task, TaskDistribution, make_vec
from metarl.envs.user_defined import user_suite
from metarl.envs.user_environment import UserEnv
from metarl.errors import UserError
from metarl.runs.io_spec import of_spaces
from metarl.runs.io_spec import spaces as spaces_of
from metarl.system.user_code import run_file
from metarl.training.control import ill_scaled

BOX = spaces.Box(-1, 1, (2,), np.float32)

STRICT = (
    ENV
    + """
from gymnasium.spaces import Box, Discrete
class Strict(Env):
    # takes actions of its space alone and spoils them; its observation is one buffer, written to at each step
    def reset(self, *, seed=None, options=None):
        self.buffer = np.zeros(self.observation_space.shape, self.observation_space.dtype)
        return self.buffer, {}
    def step(self, action):
        assert self.action_space.contains(action), (action, type(action))
        reward = float(np.sum(action))
        if isinstance(action, np.ndarray):
            action[:] = self.action_space.high
        self.buffer += 1
        return self.buffer, reward, False, False, {"is_success": np.float32(reward > 0)}
def s(): return tasks(1, 2, make=lambda name: Strict())
"""
)


class ConstantEnv(gymnasium.Env):
    """Returns the values that it is constructed with."""

    observation_space, action_space = BOX, BOX

    def __init__(self, obs: Any = (0.0, 0.0), reward: Any = 0.0, ends: Any = (False, False), info: Any = None) -> None:
        self.result = obs, reward, *ends, {} if info is None else info

    def set_task(self, params: Any) -> None: ...

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        return self.result[0], {}

    def step(self, action: Any) -> Any:
        return self.result


def step_result(space: spaces.Box = BOX, **options: Any) -> Any:
    """The result of `UserEnv.step` for an environment that returns these values."""
    env = ConstantEnv(**options)
    env.observation_space = space
    return UserEnv("it", env).step(np.zeros(2, np.float32))


@pytest.mark.parametrize(
    ("agent", "declaration"),
    [
        ("rl2", "action_space = Box(-1, 1, (1,), np.float64)"),
        ("sb3-ppo", "action_space = Box(-1, 1, (1,), np.float64)"),
        ("rl2", "action_space = Box(-1, 1, (2,), np.float16)"),
        ("sb3-sac", "action_space = Box(-1, 1, (2,), np.float16)"),
        ("rl2", "action_space = Box(-np.inf, np.inf, (1,))"),
        ("maml-trpo", "action_space = Box(np.array([0, -1.]), np.array([0, np.inf]), dtype=np.float64)"),
        ("rl2", "action_space = Discrete(3, start=-1)"),
        ("sb3-ppo", "action_space = Discrete(3, start=7)"),
        ("maml-trpo", "action_space = Discrete(1)"),
        ("rl2", "observation_space = Box(0, 255, (2,), np.uint8)"),
        ("sb3-ppo", "observation_space = Box(-9, 9, (2,), np.float16)"),
        ("sb3-sac", "observation_space = Box(0, 99, (2,), np.int64)"),
    ],
)
def test_agents_play_spaces_of_every_kind(agent, declaration, tmp_path):
    """Actions lie in the environment's space, even if it modifies them or if a Discrete does not start at 0."""
    file = user_file(tmp_path / "files", STRICT + f"Strict.{declaration}\n")
    options = ["--batch-size", "5"] if agent == "sb3-ppo" else ["--learning-starts", "4"] if agent == "sb3-sac" else []
    assert train_small(tmp_path / "run", agent, f"{file}:s", 1, *options) == 0
    assert np.isfinite(metrics(tmp_path / "run")[0]["return"])
    assert metarl.load(tmp_path / "run", device="cpu")


def test_later_changes_by_the_environment_do_not_reach_the_rollout(tmp_path):
    strict = user_suite(run_file(f"{user_file(tmp_path / 'files', STRICT)}:s"))
    agent, source = toy(strict.train, 2, 5, 1, RL2Settings(layers=(8,), hidden=8))
    source.begin(0)
    rollout, _ = source.collect(agent, agent.initial_state(2), 0)
    assert rollout.query.obs[:, 0, 0].tolist() == [0, 1, 2, 3, 4]
    executed = rollout.action.clamp(-1, 1)
    assert torch.equal(rollout.query.previous_action[1:], executed[:-1])
    assert torch.allclose(rollout.reward, executed[..., 0])
    assert torch.equal(rollout.success, rollout.reward > 0)  # reported as is_success


@pytest.mark.parametrize("reward", [2, np.float32(2), np.array(2), np.array([2.0]), [2], torch.tensor(2), np.int8(2)])
def test_a_reward_is_a_number_in_any_form(reward):
    converted = step_result(reward=reward)[1]
    assert converted == 2.0
    assert type(converted) is float


@pytest.mark.parametrize(
    "reward", [None, "1", np.nan, np.inf, 1j, np.zeros(2), [], {}, Fraction(1, 2), 1e39, torch.ones((), requires_grad=True)]
)
def test_a_reward_must_be_a_finite_number(reward):
    with pytest.raises(UserError, match="it: a reward must be a finite number, not "):
        step_result(reward=reward)


@pytest.mark.parametrize("true", [True, np.True_, 1, 1.0, np.array(True), np.array([1]), np.uint8(1)])
def test_ends_and_success_are_booleans_in_any_form(true):
    for converted in (
        step_result(ends=(true, False))[2],
        step_result(ends=(False, true))[3],
        step_result(info={"success": true})[4]["success"],
    ):
        assert converted is True
    assert step_result(info={"is_success": true, "more": 3})[4] == {"is_success": true, "more": 3, "success": True}
    assert step_result(info={"is_success": true, "success": False})[4]["success"] is False


@pytest.mark.parametrize("value", [None, "False", 0.5, 2, np.nan, np.zeros(2, bool), []])
def test_ends_and_success_that_are_neither_true_nor_false_are_refused(value):
    for field, options in (
        ("terminated", {"ends": (value, False)}),
        ("truncated", {"ends": (False, value)}),
        ("info's success", {"info": {"success": value}}),
        ("info's is_success", {"info": {"is_success": value}}),
    ):
        with pytest.raises(UserError, match=f"it: {field} must be true or false, not "):
            step_result(**options)


@pytest.mark.parametrize(
    "obs", [[0.5, 2], (0.5, 2), np.array([0.5, 2]), np.array([0.5, 9, 2])[::2], torch.tensor([0.5, 2]), np.float16([0.5, 2])]
)
def test_observations_are_converted_to_the_dtype_of_the_space(obs):
    """Bounds of observations are not checked, as in gymnasium."""
    converted = step_result(obs=obs)[0]
    assert converted.dtype == np.float32
    assert converted.tolist() == [0.5, 2]
    assert converted is not obs


@pytest.mark.parametrize(
    ("dtype", "obs", "message"),
    [
        (np.uint8, [0.5, 1], r"holds \[0.5\], which are not of its space's uint8"),
        (np.uint8, [-1, 1], r"holds \[-1\], which are not of its space's uint8"),
        (np.int64, [np.nan, 1], r"holds \[nan\], which are not of its space's int64"),
        (np.float32, [np.inf, 1], r"is not finite: \[inf\]"),
        (np.float64, [1e39, 1], r"is not finite: \[1e\+39\]"),
        (np.float16, [1e6, 1], r"is not finite: \[1000000.0\]"),
        (np.float32, np.zeros((1, 2)), r"is of shape \(1, 2\), but its space is Box"),
        (np.float32, ["1", "2"], r"is \['1', '2'\], but its space is Box"),
        (np.float32, [[1], [1, 2]], r"is \[\[1\], \[1, 2\]\], but its space is Box"),
        (np.float32, np.zeros(2, np.complex64), r"is \[0j, 0j\], but its space is Box"),
        (np.float32, None, "is None, but its space is Box"),
        (np.float32, {"x": 1}, "is {'x': 1}, but its space is Box"),
    ],
)
def test_observations_that_are_not_of_their_space_are_refused(dtype, obs, message):
    with pytest.raises(UserError, match=f"it: an observation {message}"):
        step_result(spaces.Box(0, 1, (2,), dtype), obs=obs)


@pytest.mark.parametrize("info", [None, [], 3])
def test_info_is_a_dict(info):
    env = ConstantEnv()
    env.result = (*env.result[:4], info)
    with pytest.raises(UserError, match="5 values that end with "):
        UserEnv("it", env).step(np.zeros(2))
    env.reset = lambda seed=None: (np.zeros(2), info)
    with pytest.raises(UserError, match="2 values that end with "):
        UserEnv("it", env).reset(seed=0)


@pytest.mark.parametrize(
    "space",
    [
        spaces.Box(-1, 1, (2,), np.int64),
        spaces.Box(0, 1, (2,), bool),
        spaces.Box(-1, 1, ()),
        spaces.Box(-1, 1, (2, 2)),
        spaces.Box(-1, 1, (0,)),
        spaces.Box(1e300, 2e300, (1,), np.float64),
        spaces.MultiDiscrete([2, 3]),
        spaces.MultiBinary(2),
        spaces.Dict(a=BOX),
        spaces.Tuple([BOX]),
        spaces.Text(3),
        spaces.Graph(BOX, None),
        spaces.Sequence(BOX),
        spaces.OneOf([BOX, BOX]),
        None,
    ],
)
def test_action_spaces_that_no_agent_plays_are_refused(space):
    env = ConstantEnv()
    env.action_space = space
    with pytest.raises(UserError, match=r"^it has the action space .*(is needed|cannot represent it)$"):
        UserEnv("it", env)


@pytest.mark.parametrize(
    ("space", "flat"),
    [
        (spaces.Box(0, 255, (2, 2, 3), np.uint8), True),
        (spaces.Box(-1, 1, ()), True),
        (spaces.Dict(a=BOX), True),
        (spaces.Tuple([BOX, spaces.Discrete(2)]), True),
        (spaces.Discrete(3), True),
        (spaces.MultiBinary(2), True),
        (spaces.MultiDiscrete([2, 3]), True),
        (spaces.Text(3), True),
        (spaces.OneOf([BOX, BOX]), True),
        (spaces.Box(-1, 1, (0,)), False),
        (spaces.Graph(BOX, None), False),
        (spaces.Sequence(BOX), False),
        (None, False),
        (spaces.Dict(a=spaces.Sequence(BOX)), False),
    ],
)
def test_observation_spaces_must_be_flat(space, flat):
    """If the error names the wrapper, the wrapped environment is accepted."""
    env = ConstantEnv()
    env.observation_space = space
    with pytest.raises(UserError, match="it has the observation space ") as refusal:
        UserEnv("it", env)
    assert ("FlattenObservation" in str(refusal.value)) == flat
    if flat:
        UserEnv("it", gymnasium.wrappers.FlattenObservation(env))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("s = tasks(1, make=lambda name: Env)", "make returns the class Env, not an instance of it"),
        ("s = tasks(1, make=lambda name: 3)", "make returns int, which has no reset and no step"),
        ("one = Env()\ns = tasks(1, 2, make=lambda name: one)", "make returned the same environment twice"),
        ("s = Suite('', 0, tasks(1), [])", "the suite's test is list"),
        ("s = Suite('', 0, None, None)", "the suite's train is NoneType"),
        (
            "s = Suite('', 0, tasks(1), None, max_episode_steps=0)",
            "max_episode_steps must be a whole number of at least 1, not 0",
        ),
        (
            "s = Suite('', 0, tasks(1), None, max_episode_steps='9')",
            "max_episode_steps must be a whole number of at least 1, not '9'",
        ),
        (
            "class Other(Env): action_space = gymnasium.spaces.Discrete(2)\n"
            "s = Suite('', 0, tasks(1), tasks(2, make=lambda name: Other()))",
            "held-out tasks have other observation or action spaces",
        ),
        ("Env.reset = gymnasium.Env.reset\nEnv.step = gymnasium.Env.step\ns = tasks(1)", "reset must return"),
        ("Env.reset = lambda self, seed, options=None: gymnasium.spaces.Box(1, 0)\ns = tasks(1)", "own.py"),
        (
            "Env.reset = lambda self, seed, options=None: (np.zeros(2), {})\nEnv.step = gymnasium.Env.step\ns = tasks(1)",
            "its environment raised NotImplementedError",
        ),
    ],
)
def test_unplayable_suites_are_refused_before_anything_is_written(text, message, tmp_path, monkeypatch, capsys):
    file, empty = user_file(tmp_path / "files", f"{ENV}{text}\n"), tmp_path / "empty"
    empty.mkdir()
    monkeypatch.chdir(empty)
    assert cli.run(["train", "rl2", f"{file}:s", "--steps", "1", "--num-envs", "1"]) == 2
    assert message in " ".join(capsys.readouterr().err.split())
    assert not list(empty.iterdir())


def test_success_must_be_reported_by_all_environments():
    class Sometimes(ConstantEnv):
        def set_task(self, params: Any) -> None:
            self.result = (*self.result[:4], {"success": True} if params else {})

    tasks = TaskDistribution((Task("a", 0), Task("a", 1)), make=lambda name: Sometimes())
    env = make_vec(tasks, 2)
    env.set_tasks(tasks.tasks)
    env.reset()
    assert env.step(np.zeros((2, 2)))[4]["success"].tolist() == [False, True]
    assert not env.engine.tells_success


@pytest.mark.parametrize(
    ("agent", "space", "message"),
    [
        ("random", "Box(-np.inf, 1, (1,))", "random actions need two bounds for each entry"),
        ("random", "Box(-3e38, 3e38, (1,))", "random actions need two bounds for each entry"),
        ("sb3-sac", "Box(0, np.inf, (1,))", "SAC scales actions to their bounds"),
        ("sb3-sac", "Box(1, 1, (1,))", "SAC scales actions to their bounds"),
        ("sb3-sac", "Discrete(2)", "SAC needs Box actions"),
        ("scripted", "Box(-1, 1, (1,))", "the scripted expert only knows Meta-World's tasks"),
    ],
)
def test_agents_refuse_what_they_cannot_play(agent, space, message, tmp_path, monkeypatch, capsys):
    file, empty = user_file(tmp_path / "files", STRICT + f"Strict.action_space = {space}\n"), tmp_path / "empty"
    empty.mkdir()
    refused(["train", agent, f"{file}:s"], message, empty, monkeypatch, capsys)


def test_ill_scaled_actions_and_missing_success_are_reported_before_training(tmp_path, capsys):
    """The range is reported if the agent draws around 0, with the wrapper that rescales actions."""
    text = STRICT + "Strict.action_space = Box(np.array([-1, -200.]), np.array([1, 200.]))\ndel Env.step\n"
    file = user_file(tmp_path / "files", text)
    options = ["--num-envs", "2", "--episodes-per-trial", "2", "--max-episode-steps", "5", "--steps", "20", "--device", "cpu"]
    warning = "actions lie in [-200, 200] (entry 1) and are drawn around 0 with a standard deviation of {}"
    for agent, std, extra_options in (
        ("rl2", "1", ()),
        ("multitask-trpo", "3", ("--std", "3")),
        ("sb3-ppo", "1", ("--batch-size", "5")),
        ("random", None, ()),
    ):
        assert cli.run(["train", agent, f"{file}:s", "--run-dir", str(tmp_path / agent), *options, *extra_options]) == 0
        output = capsys.readouterr().out
        assert ("RescaleAction(env, -1, 1)" in output) == (std is not None)
        assert std is None or warning.format(std) in output.partition(" of 20 steps ")[0]
        assert "All figures are returns" not in output
        assert "success" in metrics(tmp_path / agent)[0]
    no_success_file = user_file(tmp_path / "files", ENV + "def s(): return tasks(1)\n", "silent.py")
    assert cli.run(["train", "random", f"{no_success_file}:s", "--run-dir", str(tmp_path / "silent"), *options]) == 0
    assert "All figures are returns" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("low", "high", "entry"),
    [
        (-1, 1, None),
        (-0.4, 0.4, None),
        (0, 1, None),
        (-5, 5, None),
        (-np.inf, np.inf, None),
        (-1, np.inf, None),
        (3, 3, None),
        (-200, 200, 0),
        (-1e-3, 1e-3, 0),
        (0, 255, 0),
        (100, 101, 0),
        (2, np.inf, 0),
        (-np.inf, -2, 0),
    ],
)
def test_a_range_is_ill_scaled_where_little_of_it_is_drawn(low, high, entry):
    assert ill_scaled(spaces.Box(low, high, (2,), np.float64), 1.0) == entry


@pytest.mark.parametrize(
    "space",
    [BOX, spaces.Box(-np.inf, 2, (1,)), spaces.Box(-1e300, 1e300, (1,), np.float64), spaces.Discrete(3, start=-4)],
)
def test_an_interface_keeps_the_action_space(space):
    stored = json.loads(json.dumps(of_spaces(BOX, space, None), allow_nan=False))
    restored = spaces_of(stored)[1]
    if isinstance(space, spaces.Discrete):
        assert restored == space
    else:
        with np.errstate(over="ignore"):
            assert restored == spaces.Box(space.low.astype(np.float32), space.high.astype(np.float32))
