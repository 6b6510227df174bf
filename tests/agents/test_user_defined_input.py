"""User-defined environments and agents: invalid ones, and unusual but valid ones."""

from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
import torch
from builders.tiny import metrics, refused, toy
from builders.user_files import ENV, EXAMPLES, USER_AGENT, forget_user_files, train_small, user_file  # noqa: F401

from metarl import cli
from metarl.agents.maml.outer_steps import _spread
from metarl.agents.maml.phases import Phase
from metarl.agents.rl2 import RL2Settings
from metarl.agents.user_defined import user_agent
from metarl.envs import Suite, Task, TaskDistribution, make_vec
from metarl.envs.engines.python import PythonEngine
from metarl.envs.user_defined import user_suite
from metarl.errors import UserError
from metarl.nn.distributions import Categorical
from metarl.sharing.opening import open_run
from metarl.system.user_code import run_file

# ---------------------------------------------------------------------------------------------------------------------
# bad input: suites


LOOP = """
import numpy as np
import torch
from metarl.nn.distributions import Gaussian

def predict(self, state, query):
    n = len(query.obs)
    return Gaussian(torch.zeros(n, 4), torch.zeros(n, 4)), state
A.predict = predict

A.update = lambda self, batches, iteration: """
"""An agent that acts at random; a test appends the return value of `update`."""


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("import nothing_like_it\ns = 1\n", "own.py does not import. Traceback (most recent call last):"),
        ("s = (1\n", "SyntaxError"),
        ("raise SystemExit(3)\n", "SystemExit: 3"),
        ("def suit(): pass\n", "there is no 's' in"),
        ("s = 3\n", "own.py:s is int, not a metarl.envs.Suite"),
        ("def s(): return None\n", "own.py:s is NoneType"),
        ("def s(size): pass\n", "it takes size"),
        ("class s: pass\n", "it is a class"),
        (ENV + "def s(): return tasks(1, 1)\n", "1 of 2 tasks occur more than once"),
        (ENV + "def s(): return Suite('', 0, tasks(1, 2), tasks(2))\n", "1 tasks are both trained on and held out"),
        (ENV + "def s(): return tasks(object())\n", "numbers, strings or tuples of them, not object"),
        (ENV + "def s(): return tasks(1, axes=('x', 'y'))\n", "axes are x, y, but a task has the parameters 1"),
        (ENV + "def s(): return tasks(1, axes=('x',))\n", "axes are the names of two or three coordinates"),
        (ENV + "def s(): return tasks(1, make=Env)\n", "make is called with a task's name"),
        (ENV + "del Env.set_task\ns = tasks(1)\n", "Env has no set_task(params)"),
        (ENV + "Env.set_task = lambda self: 0\ns = tasks(1)\n", "set_task must be callable with a task's parameters alone"),
        (ENV + "Env.step = lambda self: 0\ns = tasks(1)\n", "step must be callable with an action alone"),
        (ENV + "Env.reset = lambda self: 0\ns = tasks(1)\n", "reset must be callable with a seed"),
        (ENV + "Env.reset = lambda self, seed=None: np.zeros(2)\ns = tasks(1)\n", "reset must return (observation, info)"),
        (ENV + "Env.step = lambda self, a: (np.zeros(2), 1.0, False, {})\ns = tasks(1)\n", "not 4 values"),
        (ENV + "Env.step = lambda self, a: (np.zeros(3), 1.0, False, False, {})\ns = tasks(1)\n", "is of shape (3,)"),
        (ENV + "Env.step = lambda self, a: (np.full(2, np.nan), 1.0, False, False, {})\ns = tasks(1)\n", "finite: [nan, nan]"),
        (ENV + "Env.step = lambda self, a: (np.zeros(2), np.nan, False, False, {})\ns = tasks(1)\n", "finite number, not nan"),
        (ENV + "Env.observation_space = gymnasium.spaces.Dict(a=Env.action_space)\ns = tasks(1)\n", "FlattenObservation"),
        (ENV + "Env.observation_space = gymnasium.spaces.Box(0, 255, (8, 8, 3))\ns = tasks(1)\n", "FlattenObservation"),
        (ENV + "Env.action_space = gymnasium.spaces.MultiBinary(3)\ns = tasks(1)\n", "a Discrete is needed"),
        (ENV + "Env.set_task = lambda self, n: 1 / n\ndef s(): return tasks(0)\n", "ZeroDivisionError"),
    ],
)
def test_wrong_suites_are_answered_with_status_2(text, message, tmp_path, monkeypatch, capsys):
    file, empty = user_file(tmp_path / "files", text), tmp_path / "empty"
    empty.mkdir()
    refused_with_traceback(["train", "rl2", f"{file}:s"], message, empty, monkeypatch, capsys)


def refused_with_traceback(args: list[str], message: str, folder: Path, monkeypatch: Any, capsys: Any) -> None:
    """Like `refused`, but a traceback of the user's file may be shown."""
    monkeypatch.chdir(folder)
    assert cli.run(args) == 2
    error = capsys.readouterr().err
    assert message in " ".join(error.split())
    for line in error.splitlines():
        if line.startswith("  File "):
            assert "own.py" in line
    assert not list(folder.iterdir())


def test_the_traceback_shows_only_the_users_file(tmp_path, monkeypatch, capsys):
    file = user_file(
        tmp_path / "files",
        ENV + "def inner(n):\n    return 1 / n\nEnv.set_task = lambda self, n: inner(n)\ndef s(): return tasks(0)\n",
    )
    assert cli.run(["train", "rl2", f"{file}:s"]) == 2
    error = capsys.readouterr().err
    assert error.count("  File ") == 2
    assert "return 1 / n" in error
    assert error.startswith("metarl: an error in your own code:")
    with pytest.raises(ZeroDivisionError):
        cli.run(["train", "rl2", f"{file}:s", "--debug"])


def test_a_file_without_a_name_lists_its_names(tmp_path, monkeypatch, capsys):
    message = ":NAME. It has: PointRobot, distribution, point_robot, circle"
    refused(["train", "rl2", str(EXAMPLES / "point_robot.py")], message, tmp_path, monkeypatch, capsys)
    refused(["train", "rl2", "no.py:s"], "cannot read no.py: No such file or directory", tmp_path, monkeypatch, capsys)


def test_a_file_can_import_modules_from_its_folder(tmp_path):
    user_file(tmp_path / "files", "GOALS = (1, 2, 3)\n", "my_goals_of_this_test.py")
    file = user_file(tmp_path / "files", ENV + "from my_goals_of_this_test import GOALS\ns = tasks(*GOALS)\n")
    assert [task.params for task in user_suite(run_file(f"{file}:s")).train.tasks] == [1, 2, 3]


def test_spaces_that_change_with_the_task_are_refused():
    class Growing(gymnasium.Env):
        def __init__(self):
            self.action_space = gymnasium.spaces.Discrete(2)
            self.set_task(1)

        def set_task(self, n):
            self.observation_space = gymnasium.spaces.Box(-1, 1, (n,), np.float32)

        def reset(self, *, seed=None, options=None):
            return np.zeros(self.observation_space.shape, np.float32), {}

    engine = PythonEngine(lambda name: Growing(), ["growing"], 1)
    engine.reset([0], [Task("growing", 1)], [0])
    with pytest.raises(UserError, match="growing 2 has other spaces than the tasks before"):
        engine.reset([0], [Task("growing", 2)], [0])


def test_an_environment_that_fails_later_stops_training_with_a_reason(tmp_path, capsys):
    text = ENV + (
        "count = 0\ndef step(self, action):\n    global count\n    count += 1\n"
        "    return np.full(2, np.nan if count > 100 else 0), 1.0, False, False, {}\nEnv.step = step\ns = tasks(1, 2)\n"
    )
    assert train_small(tmp_path / "run", "rl2", f"{user_file(tmp_path / 'files', text)}:s", 5) == 2
    assert "env: an observation is not finite" in capsys.readouterr().err
    assert open_run(tmp_path / "run")[0].load()[0].iteration == 2


def test_set_task_is_found_inside_wrappers():
    tasks = TaskDistribution((Task("walk", 3.0),), make=lambda name: gymnasium.wrappers.FlattenObservation(_Inner()))
    env = make_vec(tasks, 1)
    assert env.reset()[0].tolist() == [[3.0, 3.0]]


class _Inner(gymnasium.Env):
    observation_space = gymnasium.spaces.Dict({k: gymnasium.spaces.Box(0, 9, (1,), np.float32) for k in "ab"})
    action_space = gymnasium.spaces.Discrete(2)

    def set_task(self, value):
        self.value = value

    def reset(self, *, seed=None, options=None):
        return {key: np.full(1, self.value, np.float32) for key in "ab"}, {}


def test_discrete_actions_may_start_at_any_number():
    """The environment receives its own numbers; the agent's previous action is one-hot."""
    executed = []

    class Shifted(gymnasium.Env):
        observation_space = gymnasium.spaces.Box(-1, 1, (1,), np.float32)
        action_space = gymnasium.spaces.Discrete(3, start=-1)

        def set_task(self, params):
            pass

        def reset(self, *, seed=None, options=None):
            return np.zeros(1, np.float32), {}

        def step(self, action):
            executed.append(int(action))
            return np.zeros(1, np.float32), 0.0, False, False, {}

    tasks = TaskDistribution((Task("shifted", 0),), make=lambda name: Shifted())
    agent, source = toy(tasks, 1, 30, 1, RL2Settings(layers=(8,), hidden=8))
    source.begin(0)
    rollout, _ = source.collect(agent, agent.initial_state(1), 0)
    assert set(executed) == {-1, 0, 1}
    assert [a - 1 for a in rollout.action[:, 0].tolist()] == executed
    assert rollout.query.previous_action[1:, 0].argmax(-1).tolist() == rollout.action[:-1, 0].tolist()


# ---------------------------------------------------------------------------------------------------------------------
# bad input: agents


@pytest.mark.parametrize(
    ("statements", "message"),
    [
        ("del A.predict", "own.py:A lacks predict(state, query)"),
        ("del A.update, A.initial_state", "lacks initial_state(num_tasks), update(batches, iteration)"),
        ("A = 3", "own.py:A is int, not a class"),
        ("class A: pass", "lacks initial_state(num_tasks), predict(state, query)"),
        (
            "B = A\nclass A:\n    initial_state = predict = update = state_dict = load_state_dict = B.initial_state",
            "must be a subclass of",
        ),
        ("del A.Settings", "needs an attribute Settings"),
        ("A.Settings = dataclass(type('S', (), {'__annotations__': {'x': int}}))", "every setting needs a default"),
        ("A.Settings = dataclass(type('S', (), {'__annotations__': {'seed': int}, 'seed': 3}))", "seed is an option of every"),
        (
            "A.Settings = dataclass(type('S', (), {'__annotations__': {'x': object}, 'x': object()}))",
            "settings must be numbers",
        ),
        ("A.options = {'size_of_it': 1}", "size_of_it is not an option of its training"),
        ("A.PRESETS = {'mine': Preset(Nothing())}", 'one of them called "default"'),
        ("A.training = 'chess'", "training must be 'robots' or 'examples', not 'chess'"),
        ("A.__init__ = lambda self, settings: None", "An agent is called with (settings, observation_space, action_space"),
        ("A.predict = lambda self, state: None", "it must be callable as predict(state, query): too many positional arguments"),
        ("raise ValueError('no')", "ValueError: no"),
    ],
)
def test_wrong_agents_are_answered_with_status_2(statements, message, tmp_path, monkeypatch, capsys):
    file, empty = user_file(tmp_path / "files", USER_AGENT + statements + "\n"), tmp_path / "empty"
    empty.mkdir()
    refused_with_traceback(["train", f"{file}:A", "ml1:reach-v3"], message, empty, monkeypatch, capsys)


@pytest.mark.parametrize(
    ("statements", "message"),
    [
        (
            "A.predict = lambda self, state, query: None",
            "A: predict must return a prediction and the state, not NoneType",
        ),
        ("A.predict = lambda self, state, query: (None, state)", "own.py:A: predict must give a distribution"),
        ("A.predict = lambda self, state, query: (query.obs, state)", "stack), not Tensor"),
        (LOOP + "None", "own.py:A: update must return a dict of metrics, not NoneType"),
        (LOOP + "{'loss': 'low'}", "own.py:A: the metric 'loss' must be a number, not str"),
        (LOOP + "{'loss': torch.zeros(2)}", "own.py:A: the metric 'loss' must be a number, not Tensor"),
        ("A.state_dict = lambda self: None", "own.py:A: state_dict must return a dict, not NoneType"),
        ("A.state_dict = lambda self: {'a': {'b': object()}}", "state_dict['a']['b'] must hold tensors"),
        ("A.state_dict = lambda self: {1: 2}", "keys are strings without a slash, not 1"),
    ],
)
def test_wrong_return_values_are_reported_by_method(statements, message, tmp_path, capsys):
    """The error names the method instead of failing in its caller."""
    file = user_file(tmp_path / "files", USER_AGENT + statements + "\n")
    assert train_small(tmp_path / "run", f"{file}:A", "ml1:reach-v3", 1) == 2
    error = capsys.readouterr().err
    assert message in error
    assert "Traceback" not in error


def test_a_metric_may_be_a_tensor(tmp_path):
    file = user_file(tmp_path / "files", USER_AGENT + LOOP + "{'loss': torch.tensor(0.5), 'rows': np.int64(3)}\n")
    assert train_small(tmp_path / "run", f"{file}:A", "ml1:reach-v3", 1) == 0
    [line] = metrics(tmp_path / "run")
    assert (line["loss"], line["rows"]) == (0.5, 3)


def test_an_agent_that_overrides_iterate_needs_no_update(tmp_path):
    file = user_file(tmp_path / "files", USER_AGENT + "del A.update\nA.iterate = lambda self, source, iteration: {}\n")
    agent, presets = user_agent(run_file(f"{file}:A"))
    assert presets["default"].settings.size == 1
    assert agent.__name__ == "A"


def test_presets_of_a_user_defined_agent_set_defaults(tmp_path, capsys):
    text = USER_AGENT + "A.PRESETS = {'default': Preset(Nothing()), 'large': Preset(Nothing(9), {'num_envs': 7})}\n"
    file = user_file(tmp_path / "files", text)
    with pytest.raises(SystemExit):
        cli.run(["train", f"{file}:A", "--preset", "large", "--help"])
    output = " ".join(capsys.readouterr().out.split())
    assert "(default: 9)" in output
    assert "(default: 7)" in output


def test_fisher_products_use_only_valid_steps():
    """If episodes ended early, the fraction of steps for Fisher products refers to the valid steps."""
    weight = torch.zeros(1, 40)
    weight[0, :8] = 1 / 8
    steps = torch.arange(40.0)[None]
    phase = Phase(steps[..., None], steps, steps, Categorical(torch.zeros(1, 40, 2)), steps, weight, torch.zeros(1))
    chosen = _spread(phase, 0.5, 0.0)
    assert chosen.action[0].tolist() == [0, 2, 4, 6]
    assert chosen.weight.sum() == pytest.approx(1)


def test_a_suite_may_be_an_object(tmp_path):
    file = user_file(tmp_path / "files", ENV + "s = Suite('', 0, tasks(1, 2), tasks(3))\n")
    suite = user_suite(run_file(f"{file}:s"))
    assert isinstance(suite, Suite)
    assert (suite.name, suite.seed, len(suite.test)) == ("own.py:s", 1, 1)
    assert not suite.train.success
