"""Values of options are values, whatever is there under their names: folders, files, names of suites and data sets."""

import json
from pathlib import Path

import pytest
from builders.own_files import AGENT, POINT, SMALL, STILL, forgotten, own_file, train_own  # noqa: F401 - a fixture
from builders.tiny import STEPS, TINY, train

from metarl import cli
from metarl.commands.arguments import glance
from metarl.commands.evaluate import Evaluate
from metarl.commands.evaluate_fewshot import EvaluateFewShot
from metarl.evaluation.plan import Plan
from metarl.runs.options import LoopOptions

OWN = ["evaluate", "ml1:reach-v3", "--agent", "still.py:Still", *SMALL]


@pytest.fixture
def here(tmp_path, monkeypatch):
    """A directory of the user's, with an agent in a file."""
    own_file(tmp_path, STILL, "still.py")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_options_take_their_values_and_the_rest_is_named():
    args = "--trials 4 run --out x --layers 3 4 --quiet --seed=7 --shots 5 --no-train".split()
    found = glance(args, Evaluate, EvaluateFewShot, LoopOptions)
    assert found.places == ("run",)
    assert {key: found.options[key] for key in ("trials", "seed", "shots")} == {"trials": "4", "seed": "7", "shots": "5"}
    assert not found.help
    assert glance(["run", "--help"], Plan).help


def test_an_evaluation_goes_twice_into_a_folder_that_is_there(here):
    (here / "results").mkdir()
    for seed in ("0", "1"):
        assert cli.run([*OWN, "--seed", seed, "--out", "results"]) == 0
    assert (here / "results" / "evaluation.json").exists()


def test_a_folder_with_a_suites_name_is_no_run(here):
    (here / "ml1:reach-v3").mkdir()
    assert cli.run([*OWN, "--out", "new"]) == 0
    assert json.loads((here / "new" / "evaluation.json").read_text())["suite"] == "ml1:reach-v3"


def test_what_is_neither_a_suite_nor_there_is_an_unknown_suite(here, capsys):
    assert cli.run(["evaluate", "ml2:reach-v3", "--agent", "still.py:Still"]) == 2
    assert "unknown suite 'ml2:reach-v3'" in capsys.readouterr().err


def test_the_value_of_an_option_before_a_run_is_no_run(here, capsys):
    """Neither are files of the user's run because an option's value looks like one."""
    assert train(here / "run", 1) == 0
    for folder in ("auto", "cpu"):
        (here / folder).mkdir()
    assert cli.run(["evaluate", "--engine", "auto", "--device", "cpu", "run", "--train-goals", "0", "--quiet"]) == 0
    assert (here / "run" / "evaluation.json").exists()
    with pytest.raises(SystemExit):  # the parser's own refusal
        cli.run(["evaluate", "run", "--out", "still.py:Still"])


@pytest.mark.parametrize("form", [["--run-dir", "{}"], ["--run-dir={}"]])
@pytest.mark.parametrize("name", ["omniglot", "still.py:Still", "metaworld-plus"])
def test_a_run_directory_may_have_any_name(form, name, here):
    """A data set's or a preset's name, or that of something in a file, says nothing where it is an option's value."""
    args = ["train", "rl2", "ml1:reach-v3", *TINY, *(part.format(name) for part in form), "--steps", str(STEPS), "--quiet"]
    assert cli.run(args) == 0
    assert json.loads((here / name / "config.json").read_text())["settings"]["gamma"] == 0.95
    assert cli.run(["train", "--resume", name, "--steps", str(2 * STEPS), "--quiet"]) == 0


def test_a_data_sets_name_as_a_run_directory_moves_no_defaults(here, few_shot_data):
    (data,) = (name for name in few_shot_data.values() if name.startswith("csv:"))
    more = "--run-dir clinc150 --updates 1 --steps 1 --ways 2 --queries 1 --device cpu --quiet".split()
    assert cli.run(["train", "matching", data, *more]) == 0
    assert json.loads(Path("clinc150/config.json").read_text())["settings"]["channels"] == 64


def test_an_agent_and_a_suite_of_ones_own_are_resumed_as_they_were_trained(tmp_path):
    run = tmp_path / "run.py:run"
    assert train_own(run, AGENT, POINT, 1) == 0
    assert cli.run(["train", AGENT, POINT, f"--resume={run}", "--steps", "80", "--quiet"]) == 0
    assert cli.run(["evaluate", f"--agent={AGENT}", "--suite", POINT, str(run), "--quiet", "--train-goals", "0"]) == 0
