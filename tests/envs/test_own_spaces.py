"""What environments of the user's own declare and return: every kind that gymnasium allows works as it says, or is refused."""

import json
from fractions import Fraction
from typing import Any

import gymnasium
import numpy as np
import pytest
import torch
from builders.own_files import ENV, forgotten, own_file, train_own  # noqa: F401
from builders.tiny import metrics, refused, toy
from gymnasium import spaces

import metarl
from metarl import cli
from metarl.agents.rl2 import RL2Settings
from metarl.envs import Task, TaskDistribution, make_vec
from metarl.envs.user_defined import own_suite
from metarl.envs.user_environment import OwnEnv
from metarl.errors import UserError
from metarl.runs.io_spec import described
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


class Answers(gymnasium.Env):
    """Returns what it is given."""

    observation_space, action_space = BOX, BOX

    def __init__(self, obs: Any = (0.0, 0.0), reward: Any = 0.0, ends: Any = (False, False), info: Any = None) -> None:
        self.answer = obs, reward, *ends, {} if info is None else info

    def set_task(self, params: Any) -> None: ...

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        return self.answer[0], {}

    def step(self, action: Any) -> Any:
        return self.answer


def answer(space: spaces.Box = BOX, **given: Any) -> Any:
    """What `OwnEnv` makes of a step's answer."""
    env = Answers(**given)
    env.observation_space = space
    return OwnEnv("it", env).step(np.zeros(2, np.float32))


@pytest.mark.parametrize(
    ("agent", "what"),
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
def test_agents_play_spaces_of_every_kind(agent, what, tmp_path):
    """Actions are of the environment's own space, whatever it does to them; SB3's of a Discrete that starts anywhere too."""
    file = own_file(tmp_path / "files", STRICT + f"Strict.{what}\n")
    few = ["--batch-size", "5"] if agent == "sb3-ppo" else ["--learning-starts", "4"] if agent == "sb3-sac" else []
    assert train_own(tmp_path / "run", agent, f"{file}:s", 1, *few) == 0
    assert np.isfinite(metrics(tmp_path / "run")[0]["return"])
    assert metarl.load(tmp_path / "run", device="cpu")


def test_what_the_environment_keeps_and_changes_is_in_no_record(tmp_path):
    own = own_suite(run_file(f"{own_file(tmp_path / 'files', STRICT)}:s"))
    agent, source = toy(own.train, 2, 5, 1, RL2Settings(layers=(8,), hidden=8))
    source.begin(0)
    rollout, _ = source.collect(agent, agent.initial_state(2), 0)
    assert rollout.query.obs[:, 0, 0].tolist() == [0, 1, 2, 3, 4]
    executed = rollout.action.clamp(-1, 1)
    assert torch.equal(rollout.query.previous_action[1:], executed[:-1])
    assert torch.allclose(rollout.reward, executed[..., 0])
    assert torch.equal(rollout.success, rollout.reward > 0)  # told as is_success


@pytest.mark.parametrize("reward", [2, np.float32(2), np.array(2), np.array([2.0]), [2], torch.tensor(2), np.int8(2)])
def test_a_reward_is_a_number_in_any_form(reward):
    given = answer(reward=reward)[1]
    assert given == 2.0
    assert type(given) is float


@pytest.mark.parametrize(
    "reward", [None, "1", np.nan, np.inf, 1j, np.zeros(2), [], {}, Fraction(1, 2), 1e39, torch.ones((), requires_grad=True)]
)
def test_a_reward_that_is_no_finite_number_is_refused(reward):
    with pytest.raises(UserError, match="it: a reward must be a finite number, not "):
        answer(reward=reward)


@pytest.mark.parametrize("yes", [True, np.True_, 1, 1.0, np.array(True), np.array([1]), np.uint8(1)])
def test_ends_and_success_are_truths_in_any_form(yes):
    for given in (answer(ends=(yes, False))[2], answer(ends=(False, yes))[3], answer(info={"success": yes})[4]["success"]):
        assert given is True
    assert answer(info={"is_success": yes, "more": 3})[4] == {"is_success": yes, "more": 3, "success": True}
    assert answer(info={"is_success": yes, "success": False})[4]["success"] is False


@pytest.mark.parametrize("neither", [None, "False", 0.5, 2, np.nan, np.zeros(2, bool), []])
def test_ends_and_success_that_are_neither_true_nor_false_are_refused(neither):
    for what, given in (
        ("terminated", {"ends": (neither, False)}),
        ("truncated", {"ends": (False, neither)}),
        ("info's success", {"info": {"success": neither}}),
        ("info's is_success", {"info": {"is_success": neither}}),
    ):
        with pytest.raises(UserError, match=f"it: {what} must be true or false, not "):
            answer(**given)


@pytest.mark.parametrize(
    "obs", [[0.5, 2], (0.5, 2), np.array([0.5, 2]), np.array([0.5, 9, 2])[::2], torch.tensor([0.5, 2]), np.float16([0.5, 2])]
)
def test_observations_are_arrays_of_the_spaces_dtype(obs):
    """Bounds of observations are not checked, as in gymnasium: scaling follows what is seen."""
    given = answer(obs=obs)[0]
    assert given.dtype == np.float32
    assert given.tolist() == [0.5, 2]
    assert given is not obs


@pytest.mark.parametrize(
    ("dtype", "obs", "says"),
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
def test_observations_that_are_not_of_their_space_are_refused(dtype, obs, says):
    with pytest.raises(UserError, match=f"it: an observation {says}"):
        answer(spaces.Box(0, 1, (2,), dtype), obs=obs)


@pytest.mark.parametrize("info", [None, [], 3])
def test_info_is_a_dict(info):
    env = Answers()
    env.answer = (*env.answer[:4], info)
    with pytest.raises(UserError, match="5 values that end with "):
        OwnEnv("it", env).step(np.zeros(2))
    env.reset = lambda seed=None: (np.zeros(2), info)
    with pytest.raises(UserError, match="2 values that end with "):
        OwnEnv("it", env).reset(seed=0)


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
    env = Answers()
    env.action_space = space
    with pytest.raises(UserError, match=r"^it has the action space .*(is needed|cannot represent it)$"):
        OwnEnv("it", env)


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
def test_observation_spaces_are_flat_or_told_how_to_be(space, flat):
    """Where the wrapper is named, it makes an environment that can be played."""
    env = Answers()
    env.observation_space = space
    with pytest.raises(UserError, match="it has the observation space ") as refusal:
        OwnEnv("it", env)
    assert ("FlattenObservation" in str(refusal.value)) == flat
    if flat:
        OwnEnv("it", gymnasium.wrappers.FlattenObservation(env))


@pytest.mark.parametrize(
    ("text", "says"),
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
def test_suites_that_cannot_be_played_are_refused_before_anything_is_made(text, says, tmp_path, monkeypatch, capsys):
    file, empty = own_file(tmp_path / "files", f"{ENV}{text}\n"), tmp_path / "empty"
    empty.mkdir()
    monkeypatch.chdir(empty)
    assert cli.run(["train", "rl2", f"{file}:s", "--steps", "1", "--num-envs", "1"]) == 2
    assert says in " ".join(capsys.readouterr().err.split())
    assert not list(empty.iterdir())


def test_a_step_that_only_some_environments_tell_success_of_tells_none():
    class Sometimes(Answers):
        def set_task(self, params: Any) -> None:
            self.answer = (*self.answer[:4], {"success": True} if params else {})

    tasks = TaskDistribution((Task("a", 0), Task("a", 1)), make=lambda name: Sometimes())
    env = make_vec(tasks, 2)
    env.set_tasks(tasks.tasks)
    env.reset()
    assert env.step(np.zeros((2, 2)))[4]["success"].tolist() == [False, True]
    assert not env.engine.tells_success


@pytest.mark.parametrize(
    ("agent", "space", "says"),
    [
        ("random", "Box(-np.inf, 1, (1,))", "random actions need two bounds for each entry"),
        ("random", "Box(-3e38, 3e38, (1,))", "random actions need two bounds for each entry"),
        ("sb3-sac", "Box(0, np.inf, (1,))", "SAC scales actions to their bounds"),
        ("sb3-sac", "Box(1, 1, (1,))", "SAC scales actions to their bounds"),
        ("sb3-sac", "Discrete(2)", "SAC needs Box actions"),
        ("scripted", "Box(-1, 1, (1,))", "the scripted expert only knows Meta-World's tasks"),
    ],
)
def test_agents_refuse_what_they_cannot_play(agent, space, says, tmp_path, monkeypatch, capsys):
    file, empty = own_file(tmp_path / "files", STRICT + f"Strict.action_space = {space}\n"), tmp_path / "empty"
    empty.mkdir()
    refused(["train", agent, f"{file}:s"], says, empty, monkeypatch, capsys)


def test_actions_out_of_reach_and_success_that_is_not_told_are_said_before_training(tmp_path, capsys):
    """Case 25: the range is said where the agent draws around 0, with the wrapper that mends it."""
    text = STRICT + "Strict.action_space = Box(np.array([-1, -200.]), np.array([1, 200.]))\ndel Env.step\n"
    file = own_file(tmp_path / "files", text)
    loud = ["--num-envs", "2", "--episodes-per-trial", "2", "--max-episode-steps", "5", "--steps", "20", "--device", "cpu"]
    said = "actions lie in [-200, 200] (entry 1) and are drawn around 0 with a standard deviation of {}"
    for agent, std, more in (
        ("rl2", "1", ()),
        ("multitask-trpo", "3", ("--std", "3")),
        ("sb3-ppo", "1", ("--batch-size", "5")),
        ("random", None, ()),
    ):
        assert cli.run(["train", agent, f"{file}:s", "--run-dir", str(tmp_path / agent), *loud, *more]) == 0
        out = capsys.readouterr().out
        assert ("RescaleAction(env, -1, 1)" in out) == (std is not None)
        assert std is None or said.format(std) in out.partition(" of 20 steps ")[0]
        assert "All figures are returns" not in out
        assert "success" in metrics(tmp_path / agent)[0]
    silent = own_file(tmp_path / "files", ENV + "def s(): return tasks(1)\n", "silent.py")
    assert cli.run(["train", "random", f"{silent}:s", "--run-dir", str(tmp_path / "silent"), *loud]) == 0
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
    kept = json.loads(json.dumps(described(BOX, space, None), allow_nan=False))
    known = spaces_of(kept)[1]
    if isinstance(space, spaces.Discrete):
        assert known == space
    else:
        with np.errstate(over="ignore"):
            assert known == spaces.Box(space.low.astype(np.float32), space.high.astype(np.float32))
