"""`--evaluate-every`: whether there is something to evaluate on is known before training starts; so is how long it trains."""

import json
from pathlib import Path

import pytest
from builders.tiny import STEPS, TINY, train
from builders.user_files import ENV, forget_user_files, user_file  # noqa: F401 - a fixture

from metarl import cli

SUITES = """
held = Suite("held", 1, tasks(1, 2), tasks(3))
nothing = Suite("nothing", 1, tasks(1, 2), None)
def seeded(seed):
    return Suite("seeded", seed, tasks(10 * seed, 10 * seed + 1), None)
def once(seed):
    if seed != 1:
        raise KeyError(seed)
    return Suite("once", seed, tasks(1, 2), None)
"""


def trained(path: Path, suite: str, on: str, *more: str) -> int:
    args = ["train", "rl2", suite, *TINY, "--steps", str(2 * STEPS), "--run-dir", str(path), "--quiet"]
    return cli.run([*args, "--evaluate-every", "1", "--evaluate-on", on, *more])


@pytest.mark.parametrize(("suite", "on"), [("held", "test"), ("seeded", "validation"), ("mt1:reach-v3", "validation")])
def test_what_there_is_to_evaluate_on_is_evaluated_on(suite, on, tmp_path):
    own = user_file(tmp_path / "files", ENV + SUITES)
    named = suite if suite.startswith("mt") else f"{own}:{suite}"
    more = ["--task-id", "--goals", "2"] if suite.startswith("mt") else ["--goals", "2"]
    assert trained(tmp_path / "run", named, on, *more) == 0
    lines = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert [f"{on}_return" in line for line in lines] == [True, True]


@pytest.mark.parametrize(
    ("suite", "on", "says"),
    [
        ("held", "validation", "no tasks of another seed to validate on"),
        ("nothing", "test", "holds nothing out"),
        ("seeded", "test", "holds nothing out"),
        ("mt1:reach-v3", "test", "mt1:reach-v3 holds nothing out"),
        ("once", "validation", "KeyError"),
    ],
)
def test_what_there_is_not_is_said_before_training_starts(suite, on, says, tmp_path, capsys):
    own = user_file(tmp_path / "files", ENV + SUITES)
    assert trained(tmp_path / "run", suite if suite.startswith("mt") else f"{own}:{suite}", on) == 2
    assert says in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_it_is_said_where_a_run_is_resumed(tmp_path, capsys):
    own = f"{user_file(tmp_path / 'files', ENV + SUITES)}:nothing"
    args = ["train", "rl2", own, *TINY, "--run-dir", str(tmp_path / "run"), "--steps", "1", "--quiet"]
    assert cli.run(args) == 0
    before = (tmp_path / "run" / "config.json").read_bytes()
    resume = ["train", "rl2", own, "--resume", str(tmp_path / "run"), "--steps", "160", "--quiet"]
    assert cli.run([*resume, "--evaluate-every", "1", "--evaluate-on", "test"]) == 2
    assert "holds nothing out" in capsys.readouterr().err
    assert (tmp_path / "run" / "config.json").read_bytes() == before


@pytest.mark.parametrize(("on", "fits"), [("validation", False), ("test", False), ("validation", True)])
def test_few_shot_parts_that_are_too_small_are_said_too(on, fits, few_shot_data, tmp_path, capsys):
    """Of 20 classes 12 are trained on, and 4 each are for validation and test."""
    small = "--updates 1 --steps 1 --meta-batch 1 --queries 1 --channels 4 --device cpu --quiet".split()
    args = ["train", "proto", few_shot_data["text"], *small, "--run-dir", str(tmp_path / "run"), "--evaluate-every", "1"]
    status = cli.run([*args, "--evaluate-on", on, "--ways", "4" if fits else "5"])
    assert status == (0 if fits else 2)
    assert (tmp_path / "run").exists() == fits
    assert fits or f"4 {on} classes: 5 ways do not fit" in capsys.readouterr().err


def test_a_multi_task_run_with_task_ids_is_evaluated(tmp_path, capsys):
    args = ["train", "rl2", "mt1:reach-v3", *TINY, "--steps", "1", "--goals", "2", "--task-id", "--quiet"]
    assert cli.run([*args, "--run-dir", str(tmp_path / "run")]) == 0
    assert cli.run(["evaluate", str(tmp_path / "run"), "--quiet"]) == 0
    assert cli.run(["evaluate", str(tmp_path / "run"), "--suite", "ml1:reach-v3", "--quiet"]) == 2
    assert "trained with --task-id" in capsys.readouterr().err


def test_what_a_small_number_of_steps_becomes_is_said_before_training_starts(tmp_path, capsys, monkeypatch):
    said: list[str] = []
    monkeypatch.setattr(
        "metarl.training.sessions.train", lambda run, setup, evaluator: (said.append(capsys.readouterr().out), setup.close())
    )
    args = ["train", "rl2", "ml1:reach-v3", *TINY, "--run-dir", str(tmp_path / "run"), "--steps", "10"]
    assert cli.run(args) == 0
    (before,) = said
    assert f"--steps 10 trains {STEPS}, as an iteration has {STEPS}" in before
    for option in ("--num-envs", "--episodes-per-trial", "--max-episode-steps"):
        assert option in before
    small = "--meta-batch 1 --shots 1 --queries 1 --channels 4 --device cpu".split()
    assert cli.run(["train", "maml", "sinusoid", *small, "--run-dir", str(tmp_path / "curves"), "--steps", "1"]) == 0
    assert "--steps 1 trains 100, as an iteration has 100 and is never cut. Smaller iterations: --updates" in said[1]
    assert train(tmp_path / "other", 2) == 0
    assert "never cut" not in said[2]
