"""Export and load user-defined agents from the file that the user names, also after it was moved."""

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from builders.tiny import refused
from builders.user_files import AGENT, ENV, POINT, train_small, user_file
from builders.user_files import forget_user_files as forget_user_files

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
    """Runs of each class of an agent file that was moved afterwards, on a user-defined suite."""
    folder = tmp_path_factory.mktemp("runs")
    file = user_file(folder / "before", Path(AGENT.rpartition(":")[0]).read_text() + GRAPH)
    for name in ("Exportable", "Raises", "Untraceable", "Branching"):
        assert train_small(folder / name, f"{file}:{name}", POINT, 1) == 0
    shutil.move(folder / "before", folder / "after")
    return folder


def test_export_and_load_accept_a_moved_file(runs: Path, tmp_path: Path, capsys: Any) -> None:
    run, moved = runs / "Exportable", f"{runs}/after/own.py:Exportable"
    userfiles._named.clear()
    assert cli.run(["export", str(run), "--out", str(tmp_path / "a.onnx"), "--quiet"]) == 2
    assert f"metarl export {run} --agent {runs}/before/own.py:Exportable" in capsys.readouterr().err
    with pytest.raises(UserError, match=r'which is run only where you name it yourself: metarl.load\(".*", agent='):
        metarl.load(run)
    assert cli.run(["export", str(run), "--out", str(tmp_path / "a.onnx"), "--quiet", "--agent", moved]) == 0
    userfiles._named.clear()
    agent = metarl.load(run, agent=moved, device="cpu")
    assert "point_robot.py:point_robot" not in userfiles._named  # loading does not need the environments
    obs = torch.randn(1, 2, generator=torch.manual_seed(0))
    query = PolicyInput(obs, torch.zeros(1, 2), torch.zeros(1), torch.zeros(1))
    with torch.no_grad():
        prediction, _ = agent.predict(agent.initial_state(1), query)
    names = ("obs", "previous_action", "previous_reward", "previous_done")
    inputs = {name: part.numpy() for name, part in zip(names, query)}
    outputs = session((tmp_path / "a.onnx").read_bytes())({**inputs, "hidden": np.zeros((1, 64), np.float32)})
    np.testing.assert_allclose(outputs["mean"], prediction.mean, atol=1e-5)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("Raises", "return [][0]"),
        ("Untraceable", "no shape fits"),
        ("Branching", "torch cannot export the graph of own.py:Branching: "),
    ],
)
def test_an_error_in_user_code_is_shown_without_frames_of_metarl(
    name: str, message: str, runs: Path, tmp_path: Path, monkeypatch: Any, capsys: Any
) -> None:
    monkeypatch.chdir(tmp_path)
    assert cli.run(["export", str(runs / name), "--out", "a.onnx", "--agent", f"{runs}/after/own.py:{name}"]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert all("own.py" in line for line in error.splitlines() if line.startswith("  File "))
    assert not list(tmp_path.iterdir())


def test_an_environment_without_render_is_reported(tmp_path: Path, monkeypatch: Any, capsys: Any) -> None:
    suite = f"{user_file(tmp_path / 'files', ENV + 'def s(): return Suite(' + repr('') + ', 0, tasks(1, 2), tasks(3))')}:s"
    assert train_small(tmp_path / "run", "rl2", suite, 1) == 0
    (tmp_path / "empty").mkdir()
    args = ["render", str(tmp_path / "run"), "--suite", suite, "--goals", "1", "--quiet", "--out", "film.mp4"]
    refused(args, "metarl: env cannot be drawn: it has no render()", tmp_path / "empty", monkeypatch, capsys)
