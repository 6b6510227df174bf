"""Agents of one's own are exported and loaded from the file that the user names, wherever it lies now."""

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from builders.own_files import AGENT, ENV, POINT, own_file, train_own
from builders.own_files import forgotten as forgotten
from builders.tiny import refused

import metarl
from metarl import cli
from metarl.errors import UserError
from metarl.learner import PolicyInput
from metarl.sharing.onnx_export import session
from metarl.system import user_code as userfiles

GRAPH = """

from metarl.nn.graphs import Graph, Input, recurrent

class Exportable(MyAgent):
    def graph(self, state):
        return recurrent(self.policy)

class Raises(MyAgent):
    def graph(self, state):
        return [][0]

class Fails(torch.nn.Module):
    def forward(self, x):
        raise ValueError("no shape fits")

class Branches(torch.nn.Module):
    def forward(self, x):
        return (x if x.sum() > 0 else -x,)

def graph_of(module):
    return Graph(module, {"x": Input(torch.ones(3, 2), ("batch",), "any")}, {"y": "any"}, "any")

class Untraceable(MyAgent):
    def graph(self, state):
        return graph_of(Fails())

class Branching(MyAgent):
    def graph(self, state):
        return graph_of(Branches())
"""


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of each class of a file that has moved since, on a suite of a file too."""
    folder = tmp_path_factory.mktemp("runs")
    mine = own_file(folder / "before", Path(AGENT.rpartition(":")[0]).read_text() + GRAPH)
    for name in ("Exportable", "Raises", "Untraceable", "Branching"):
        assert train_own(folder / name, f"{mine}:{name}", POINT, 1) == 0
    shutil.move(folder / "before", folder / "after")
    return folder


def test_export_and_load_take_the_file_from_where_it_is_named(runs: Path, tmp_path: Path, capsys: Any) -> None:
    run, moved = runs / "Exportable", f"{runs}/after/own.py:Exportable"
    userfiles._named.clear()
    assert cli.run(["export", str(run), "--out", str(tmp_path / "a.onnx"), "--quiet"]) == 2
    assert f"metarl export {run} --agent {runs}/before/own.py:Exportable" in capsys.readouterr().err
    with pytest.raises(UserError, match=r'which is run only where you name it yourself: metarl.load\(".*", agent='):
        metarl.load(run)
    assert cli.run(["export", str(run), "--out", str(tmp_path / "a.onnx"), "--quiet", "--agent", moved]) == 0
    userfiles._named.clear()
    agent = metarl.load(run, agent=moved, device="cpu")
    assert "point_robot.py:point_robot" not in userfiles._named  # no one needs its environments
    obs = torch.randn(1, 2, generator=torch.manual_seed(0))
    query = PolicyInput(obs, torch.zeros(1, 2), torch.zeros(1), torch.zeros(1))
    with torch.no_grad():
        answer, _ = agent.predict(agent.initial_state(1), query)
    names = ("obs", "previous_action", "previous_reward", "previous_done")
    given = {name: part.numpy() for name, part in zip(names, query)}
    found = session((tmp_path / "a.onnx").read_bytes())({**given, "hidden": np.zeros((1, 64), np.float32)})
    np.testing.assert_allclose(found["mean"], answer.mean, atol=1e-5)


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("Raises", "return [][0]"),
        ("Untraceable", "no shape fits"),
        ("Branching", "torch cannot export the graph of own.py:Branching: "),
    ],
)
def test_an_error_of_theirs_is_shown_without_our_frames(
    name: str, says: str, runs: Path, tmp_path: Path, monkeypatch: Any, capsys: Any
) -> None:
    monkeypatch.chdir(tmp_path)
    assert cli.run(["export", str(runs / name), "--out", "a.onnx", "--agent", f"{runs}/after/own.py:{name}"]) == 2
    error = capsys.readouterr().err
    assert says in error
    assert all("own.py" in line for line in error.splitlines() if line.startswith("  File "))
    assert not list(tmp_path.iterdir())


def test_an_environment_that_cannot_draw_is_said_to_be_one(tmp_path: Path, monkeypatch: Any, capsys: Any) -> None:
    suite = f"{own_file(tmp_path / 'files', ENV + 'def s(): return Suite(' + repr('') + ', 0, tasks(1, 2), tasks(3))')}:s"
    assert train_own(tmp_path / "run", "rl2", suite, 1) == 0
    (tmp_path / "empty").mkdir()
    args = ["render", str(tmp_path / "run"), "--suite", suite, "--goals", "1", "--quiet", "--out", "film.mp4"]
    refused(args, "metarl: env cannot be drawn: it has no render()", tmp_path / "empty", monkeypatch, capsys)
