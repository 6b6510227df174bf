"""Default names of runs and results: visible, distinct for what differs, also when processes start together."""

import json
import subprocess
import sys

import pytest
from builders.tiny import TINY
from builders.user_files import AGENT, POINT, SMALL, STILL, forget_user_files, user_file  # noqa: F401 - a fixture

from metarl import cli
from metarl.system.file_names import file_name


def test_usual_names_are_as_they_are_read():
    assert file_name("rl2", "ml1:reach-v3") == "rl2_ml1-reach-v3"
    assert file_name("still.py:Still", "ml10") == "still.py-Still_ml10"


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (["x" * 200, "ml1:reach-v3"], ["x" * 200, "ml1:push-v3"]),
        (["/a/b.py:C", "ml10"], ["a/b.py:C", "ml10"]),
        (["../b.py:C"], ["b.py:C"]),
        (["a/b.py:C"], ["a-b.py:C"]),
        (["custom:train=a,b;test=c"], ["custom:train=a;b,test=c"]),
        (["a_b", "c"], ["a", "b/c"]),
        (["ä.py:A"], ["ö.py:A"]),
        (["--"], ["..."]),
        (["é" * 300], ["é" * 301]),
    ],
)
def test_what_differs_gets_another_name_and_every_name_is_visible(one, other):
    names = [file_name(*parts) for parts in (one, other)]
    assert names[0] != names[1]
    assert names == [file_name(*parts) for parts in (one, other)]
    for name in names:
        assert name[0] not in "-."
        assert len(name.encode()) < 100
        assert "/" not in name


@pytest.mark.parametrize("place", ["a_folder_with_a_rather_long_name_as_projects_have_them/" * 2, "", "../beside/"])
def test_evaluations_of_an_agent_on_two_suites_are_both_kept(place, tmp_path, monkeypatch):
    here = tmp_path / "here"
    here.mkdir()
    monkeypatch.chdir(here)
    (here / place).mkdir(parents=True, exist_ok=True)
    agent = user_file(here / place, STILL, "still.py")
    named = f"{place}still.py:Still" if place.startswith("..") else f"{agent}:Still"
    for suite in ("ml1:reach-v3", "ml1:push-v3"):
        assert cli.run(["evaluate", suite, "--agent", named, *SMALL]) == 0
    folders = list((here / "evaluations").iterdir())
    assert not [folder.name for folder in folders if folder.name[0] in "-."]
    found = {json.loads((folder / "evaluation.json").read_text())["suite"] for folder in folders}
    assert found == {"ml1:reach-v3", "ml1:push-v3"}


def test_runs_that_start_in_the_same_second_get_a_number(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("metarl.runs.directory.time.strftime", lambda form, *when: "20260101-000000")
    for rate in ("1e-3", "5e-4"):
        args = ["train", "rl2", "ml1:reach-v3", *TINY, "--steps", "80", "--quiet", "--learning-rate", rate]
        assert cli.run(args) == 0
    names = sorted(path.name for path in (tmp_path / "runs").iterdir())
    assert names == ["rl2_ml1-reach-v3_s1_20260101-000000", "rl2_ml1-reach-v3_s1_20260101-000000_2"]


def test_processes_that_race_for_a_default_name_each_get_a_run_of_their_own(tmp_path):
    """Four, forked from one that has imported all they need; the start is that their pipe is closed."""
    code = """
import os, time
from pathlib import Path
from metarl.agents.baselines import RandomSettings
from metarl.runs import directory
from metarl.runs.directory import Run, default_path
from metarl.runs.experiment import Experiment
from metarl.runs.options import TrainOptions

directory.time.strftime = lambda *a: "now"
make = Path.mkdir
Path.mkdir = lambda *a, **k: (time.sleep(0.1), make(*a, **k))  # whoever looked before is overtaken
experiment = Experiment("random", "ml10", TrainOptions(), RandomSettings())
start, closed = os.pipe()
for _ in range(4):
    if os.fork() == 0:
        os.close(closed)
        os.read(start, 1)
        path = Run.create(default_path("random", "ml10", 1), experiment, numbered=True).path
        os.write(1, f"{path}\\n".encode())  # print may write a line in two parts
        os._exit(0)
os.close(closed)
for _ in range(4):
    os.wait()
"""
    racing = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True)
    said = racing.stdout.split()
    assert len(set(said)) == len(said) == 4
    assert all((tmp_path / path / "config.json").exists() for path in said)


def test_a_run_directory_that_was_named_gets_no_number(tmp_path, capsys):
    (tmp_path / "mine").mkdir()
    args = ["train", "rl2", "ml1:reach-v3", *TINY, "--steps", "80", "--quiet", "--run-dir", str(tmp_path / "mine")]
    assert cli.run(args) == 2
    assert "exists already" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["mine"]


def test_the_default_run_of_a_file_whose_name_begins_with_a_mark_is_visible(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    mark = user_file(
        tmp_path, f"from runpy import run_path\nMyAgent = run_path({AGENT.rpartition(':')[0]!r})['MyAgent']\n", ".hidden.py"
    )
    assert (
        cli.run(["train", f"{mark}:MyAgent", POINT, "--num-envs", "2", "--max-episode-steps", "5", "--steps", "1", "--quiet"])
        == 0
    )
    assert not [path.name for path in (tmp_path / "runs").iterdir() if path.name[0] in "-."]
