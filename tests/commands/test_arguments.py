"""Option values are read as values, even if a folder, file, suite or data set has the same name."""

import json
from pathlib import Path

import pytest
from builders.tiny import STEPS, TINY, train
from builders.user_files import AGENT, POINT, SMALL, STILL, forget_user_files, train_small, user_file  # noqa: F401 - a fixture

from metarl import cli
from metarl.commands.arguments import read_command_line
from metarl.commands.evaluate import Evaluate
from metarl.commands.evaluate_fewshot import EvaluateFewShot
from metarl.evaluation.plan import Plan
from metarl.runs.options import LoopOptions

EVALUATE_USER_AGENT = ["evaluate", "ml1:reach-v3", "--agent", "still.py:Still", *SMALL]


@pytest.fixture
def user_folder(tmp_path, monkeypatch):
    """The user's working directory, with an agent in a file."""
    user_file(tmp_path, STILL, "still.py")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_options_are_separated_from_positionals():
    args = "--trials 4 run --out x --layers 3 4 --quiet --seed=7 --shots 5 --no-train".split()
    command_line = read_command_line(args, Evaluate, EvaluateFewShot, LoopOptions)
    assert command_line.positionals == ("run",)
    assert {key: command_line.options[key] for key in ("trials", "seed", "shots")} == {"trials": "4", "seed": "7", "shots": "5"}
    assert not command_line.help
    assert read_command_line(["run", "--help"], Plan).help


def test_two_evaluations_may_share_an_existing_folder(user_folder):
    (user_folder / "results").mkdir()
    for seed in ("0", "1"):
        assert cli.run([*EVALUATE_USER_AGENT, "--seed", seed, "--out", "results"]) == 0
    assert (user_folder / "results" / "evaluation.json").exists()


def test_a_folder_named_after_a_suite_is_no_run(user_folder):
    (user_folder / "ml1:reach-v3").mkdir()
    assert cli.run([*EVALUATE_USER_AGENT, "--out", "new"]) == 0
    assert json.loads((user_folder / "new" / "evaluation.json").read_text())["suite"] == "ml1:reach-v3"


def test_an_unknown_name_is_an_unknown_suite(user_folder, capsys):
    assert cli.run(["evaluate", "ml2:reach-v3", "--agent", "still.py:Still"]) == 2
    assert "unknown suite 'ml2:reach-v3'" in capsys.readouterr().err


def test_option_values_are_not_runs(user_folder, capsys):
    """No user file runs because an option value looks like PATH.py:NAME."""
    assert train(user_folder / "run", 1) == 0
    for folder in ("auto", "cpu"):
        (user_folder / folder).mkdir()
    assert cli.run(["evaluate", "--engine", "auto", "--device", "cpu", "run", "--train-goals", "0", "--quiet"]) == 0
    assert (user_folder / "run" / "evaluation.json").exists()
    with pytest.raises(SystemExit):  # the parser's own refusal
        cli.run(["evaluate", "run", "--out", "still.py:Still"])


@pytest.mark.parametrize("form", [["--run-dir", "{}"], ["--run-dir={}"]])
@pytest.mark.parametrize("name", ["omniglot", "still.py:Still", "metaworld-plus"])
def test_a_run_directory_may_have_any_name(form, name, user_folder):
    """The run directory may be named like a data set, a preset or an object in a file."""
    args = ["train", "rl2", "ml1:reach-v3", *TINY, *(part.format(name) for part in form), "--steps", str(STEPS), "--quiet"]
    assert cli.run(args) == 0
    assert json.loads((user_folder / name / "config.json").read_text())["settings"]["gamma"] == 0.95
    assert cli.run(["train", "--resume", name, "--steps", str(2 * STEPS), "--quiet"]) == 0


def test_a_run_directory_named_after_a_data_set_sets_no_defaults(user_folder, few_shot_data):
    (data,) = (name for name in few_shot_data.values() if name.startswith("csv:"))
    options = "--run-dir clinc150 --updates 1 --steps 1 --ways 2 --queries 1 --device cpu --quiet".split()
    assert cli.run(["train", "matching", data, *options]) == 0
    assert json.loads(Path("clinc150/config.json").read_text())["settings"]["channels"] == 64


def test_a_user_defined_agent_and_suite_are_resumed(tmp_path):
    run = tmp_path / "run.py:run"
    assert train_small(run, AGENT, POINT, 1) == 0
    assert cli.run(["train", AGENT, POINT, f"--resume={run}", "--steps", "80", "--quiet"]) == 0
    assert cli.run(["evaluate", f"--agent={AGENT}", "--suite", POINT, str(run), "--quiet", "--train-goals", "0"]) == 0
