"""`metarl evaluate --agent`: an agent of one's own that follows Meta-World's protocol, under all protocols."""

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from builders.tiny import refused

from metarl import cli
from metarl.commands.evaluate_external import EvaluateExternal
from metarl.envs import make_vec, suite
from metarl.errors import UserError
from metarl.evaluation.external_agent import Episode, play

AGENT = '''
import numpy as np


class Recorder:
    """Pushes; and knows what was asked of it."""

    def __init__(self):
        self.asked, self.width, self.adapted = [], set(), 0

    def init(self):
        self.adapted = 0

    def _act(self, obs):
        self.width.add(obs.shape)
        return np.tile(np.float32([self.adapted, 0.5, -0.3, 0.0]), (len(obs), 1)).clip(-1, 1)

    def adapt_action(self, obs):
        self.asked.append("adapt_action")
        return self._act(obs), {"more": np.zeros(len(obs))}

    def eval_action(self, obs):
        self.asked.append("eval_action")
        return self._act(obs)

    def step(self, timestep):
        assert timestep.aux_policy_outputs["more"].shape == timestep.reward.shape
        assert timestep.observation.shape in self.width
        self.asked.append("step")

    def adapt(self):
        self.asked.append("adapt")
        self.adapted += 1

    def reset(self, env_mask):
        self.asked.append("reset")


class NoVerb:
    init = adapt_action = step = reset = lambda self: None


class Wrong(Recorder):
    def _act(self, obs):
        return np.zeros((len(obs), 3), np.float32)


class Unsound(Recorder):
    def _act(self, obs):
        return np.where(np.arange(4) == 2, np.nan, np.zeros((len(obs), 4)))


class Lists(Recorder):
    def _act(self, obs):
        return super()._act(obs).tolist()


class WithGradient(Recorder):
    def _act(self, obs):
        import torch

        return torch.tensor(super()._act(obs), requires_grad=True)


class ListOfTensors(WithGradient):
    def _act(self, obs):
        return list(super()._act(obs))


class Raises(Recorder):
    def step(self, timestep):
        raise ValueError("buffer too small")


class TakesNoMask(Recorder):
    def reset(self):
        pass


class NoPair(Recorder):
    def adapt_action(self, obs):
        return self._act(obs)


class Words(Recorder):
    def _act(self, obs):
        return "left"


class NeedsAnArgument(Recorder):
    def __init__(self, size):
        pass


class Uncopied(Recorder):
    def __deepcopy__(self, memo):
        raise TypeError("this agent is one of a kind")
'''
SMALL = "--max-episode-steps 6 --goals 3 --train-goals 2 --episodes 2 --quiet".split()


@pytest.fixture(autouse=True)
def few_draws(monkeypatch: pytest.MonkeyPatch) -> None:
    """Meta-World's protocol draws goals twice, not ten times."""
    monkeypatch.setattr("metarl.evaluation.metaworld.EVALUATIONS", 2)


@pytest.fixture
def file(tmp_path: Path) -> str:
    (tmp_path / "mine.py").write_text(AGENT)
    return str(tmp_path / "mine.py")


def evaluate(file: str, out: Path, *more: str, name: str = "Recorder") -> int:
    return cli.run(["evaluate", "--agent", f"{file}:{name}", "ml1:reach-v3", *SMALL, "--out", str(out), *more])


def test_all_goals_alike_and_read_by_report_and_compare(file: str, tmp_path: Path, capsys: Any) -> None:
    out = tmp_path / "out"
    assert evaluate(file, out) == 0
    content = json.loads((out / "evaluation.json").read_text())
    assert content["protocol"] == "all-goals"
    assert [len(content["sides"][side]["goals"]) for side in ("train", "test")] == [2, 3]
    figures = content["sides"]["test"]["figures"]
    sampled, deterministic = (np.array(figures[mode]["return"]) for mode in ("sampled", "deterministic"))
    assert deterministic.shape == (3, 1, 2)
    np.testing.assert_allclose(deterministic, sampled, rtol=1e-6)  # it acts alike in both
    first, second = deterministic[:, 0].T
    assert (first != second).all()  # the second episode is after `adapt`
    assert cli.run(["report", str(out), "--quiet"]) == 0
    assert evaluate(file, tmp_path / "again") == 0
    assert cli.run(["compare", str(out), str(tmp_path / "again")]) == 0
    assert "3 held-out goals that both were evaluated on" in " ".join(capsys.readouterr().out.split())


@pytest.mark.parametrize("info", [False, True])
def test_verbs_come_in_metaworlds_order_and_the_copy_leaves_no_trace(info: bool, file: str) -> None:
    made: dict[str, Any] = {}
    exec(AGENT, made)
    env = make_vec(suite("ml1:reach-v3").test, 2, max_episode_steps=3)
    agent, twins = made["Recorder"](), []

    def copied(self: Any, memo: Any) -> Any:
        twins.append(made["Recorder"]())
        return twins[-1]

    made["Recorder"].__deepcopy__ = copied
    tasks = suite("ml1:reach-v3").test.tasks[:2]
    how = {"episodes": 2, "adapt_every": 2, "resets": lambda e: e, "branch": lambda e: True}
    played = list(play(env, agent, tasks, None, name="mine:Recorder", info=info, **how))
    env.close()
    assert agent.asked == ["adapt_action", "step"] * 6 + ["adapt"]
    assert agent.width == {(2, 45 if info else 39)}
    # the copies act deterministically, and are told of ends
    assert [twin.asked for twin in twins] == [["reset", *["eval_action", "reset"] * 3]] * 2
    assert all(one.branch is not None for one in played)


def test_an_episode_counts_as_far_as_it_went_on() -> None:
    """Three environments: solved at the end, solved on the way, solved only after its end."""
    success = np.array([[0, 1, 0], [1, 0, 0], [1, 0, 1]], bool)
    done = np.array([[0, 0, 0], [0, 0, 1], [1, 1, 1]], bool)
    valid = np.array([[1, 1, 1], [1, 1, 1], [1, 1, 0]], bool)
    found = Episode(np.array([[1.0, 2, 3], [10, 20, 30], [100, 200, 300]]), success, done, valid).by_episode(1)
    assert {name: values.tolist() for name, values in found.items()} == {
        "return": [[111, 222, 33]],
        "success": [[1, 1, 0]],
        "last_success": [[1, 0, 0]],
    }


def test_metaworlds_own_evaluation(file: str, tmp_path: Path) -> None:
    found = []
    for engine in ("native", "python"):
        out = tmp_path / engine
        assert evaluate(file, out, "--protocol", "metaworld", "--engine", engine) == 0
        (written,) = (out / "evaluations").glob(f"metaworld_{engine}_external*.json")
        found.append(json.loads(written.read_text())["sides"]["test"])
    assert found[0]["return"] == pytest.approx(found[1]["return"], abs=1e-4)
    assert found[0]["return"] > 0


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("NoVerb", "NoVerb, which has no method adapt nor eval_action"),
        ("Missing", "there is no 'Missing' in"),
        ("Wrong", "finite and of shape (2, 4); these have shape (2, 3)"),
        ("Unsound", "actions must be finite: entry 2 of environment 0 is nan ("),
        ("Raises", 'in step raise ValueError("buffer too small")'),
        ("TakesNoMask", "TakesNoMask: reset raises an error: TypeError"),
        ("NoPair", "adapt_action must return (actions, a dict), not ndarray"),
        ("Words", "these are <U4"),
        ("NeedsAnArgument", "missing 1 required positional argument: 'size'"),
        ("Uncopied", "one of a kind"),
    ],
)
@pytest.mark.parametrize("protocol", ["all-goals", "metaworld"])
def test_what_is_no_agent_is_refused(
    name: str, says: str, protocol: str, file: str, tmp_path: Path, monkeypatch: Any, capsys: Any
) -> None:
    """In one line, or with the frames of the user's file alone."""
    if (name, protocol) == ("Uncopied", "metaworld"):
        pytest.skip("no copy of it is needed")
    (tmp_path / "empty").mkdir()
    monkeypatch.chdir(tmp_path / "empty")
    shape = "(3, " if protocol == "metaworld" else "(2, "
    assert cli.run(["evaluate", "--agent", f"{file}:{name}", "ml1:reach-v3", *SMALL, "--protocol", protocol]) == 2
    error = capsys.readouterr().err
    assert says.replace("(2, 4)", f"{shape}4)").replace("(2, 3)", f"{shape}3)") in " ".join(error.split())
    assert all("mine.py" in line for line in error.splitlines() if line.startswith("  File "))
    assert not list((tmp_path / "empty").iterdir())


@pytest.mark.parametrize("protocol", ["all-goals", "metaworld"])
def test_lists_and_tensors_are_as_good_as_arrays(protocol: str, file: str, tmp_path: Path) -> None:
    found = []
    for name in ("Recorder", "Lists", "WithGradient", "ListOfTensors"):
        assert evaluate(file, tmp_path / name, "--protocol", protocol, name=name) == 0
        [path] = (tmp_path / name / "evaluations").glob("*.json")
        found.append(json.loads(path.read_text())["sides"]["test"])
    assert found == found[:1] * 4


def test_modules_that_cannot_be_had(tmp_path: Path, monkeypatch: Any, capsys: Any) -> None:
    for agent, says in (
        ("nowhere.py:make", "cannot read nowhere.py: No such file"),
        ("no_such_module:make", "no_such_module cannot be imported: ModuleNotFoundError"),
        ("plain", "module:factory or file.py:factory"),
    ):
        refused(["evaluate", "--agent", agent, "ml1:reach-v3"], says, tmp_path, monkeypatch, capsys)
    monkeypatch.setattr("sys.path", [str(tmp_path), *sys.path])
    (tmp_path / "my_module.py").write_text("def make():\n    return [][0]\nthree = 3\n")
    (tmp_path / "my_broken.py").write_text("one = 1\ntwo = one / 0\n")
    for agent, says in (
        ("my_module:make", "return [][0] ~~^^^ IndexError: list index out of range"),
        ("my_module:three", "my_module has no factory three"),
        ("my_broken:make", 'my_broken.py", line 2, in <module> two = one / 0'),
    ):
        assert cli.run(["evaluate", "--agent", agent, "ml1:reach-v3"]) == 2
        error = capsys.readouterr().err
        assert says in " ".join(error.split())
        assert error.count("  File ") == ("has no" not in says)
    with pytest.raises(UserError, match="at least 1"):
        EvaluateExternal("ml1:reach-v3", "a:b", episodes=0)
