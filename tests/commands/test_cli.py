"""Wrong input gives one clear line and exit status 2, and writes nothing."""

import subprocess
import sys

import pytest
import torch
from builders.tiny import TINY, refused, train

from metarl import cli
from metarl.system.counts import parse

REACH = ["rl2", "ml1:reach-v3"]


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["trian"], "Did you mean train"),
        (["train", "rl3", "ml1:reach-v3"], "unknown agent 'rl3'"),
        (["train", "rl2", "ml1:reach-v4"], "Did you mean reach-v3"),
        (["train", "rl2", "ml11"], "Did you mean ml1"),
        (["train", "rl2", "ml1"], "ml1 needs a task"),
        (["train", *REACH, "--engine", "nativ"], "Did you mean native"),
        (["train", *REACH, "--preset", "metaworld"], "Did you mean metaworld-plus"),
        (["train", *REACH, "--device", "tpu"], "device must be auto, cpu, cuda"),
        (["train", *REACH, "--steps", "0"], "steps must be at least 1"),
        (["train", *REACH, "--num-envs", "0"], "num_envs must be at least 1"),
        (["train", *REACH, "--max-episode-steps", "-3"], "max_episode_steps must be at least 1"),
        (["train", *REACH, "--steps", "2.5"], "not a whole number"),
        (["train", *REACH, "--gamma", "1.5"], "gamma"),
        (["train", *REACH, "--reward", "v3"], "reward must be"),
        (["train", *REACH, "--suite-seed", "-1"], "suite_seed must be at least 0"),
        (["train", "--resume", "nowhere"], "there is no run nowhere"),
        (["evaluate", "nowhere"], "there is no run nowhere"),
        (["evaluate", "."], "not a run"),
        (["render", "nowhere"], "there is no run nowhere"),
        (["render", ".", "--camera", "corner9"], "corner"),
    ],
)
def test_wrong_input_is_answered_with_status_2(args, message, tmp_path, monkeypatch, capsys):
    refused(args, message, tmp_path, monkeypatch, capsys)


def test_commands_without_their_argument_end_with_2(capsys):
    for args in ([], ["train"], ["evaluate"], ["render"]):
        try:
            status = cli.run(args)
        except SystemExit as ended:
            status = int(ended.code or 0)
        assert status == 2
        capsys.readouterr()


def test_cuda_without_cuda_is_refused(tmp_path, monkeypatch, capsys):
    if torch.cuda.is_available():
        pytest.skip("this machine has a GPU")
    monkeypatch.chdir(tmp_path)
    assert cli.run(["train", *REACH, "--device", "cuda"]) == 2
    assert "no CUDA device" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_an_existing_run_directory_is_not_changed(tmp_path, capsys):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "mine").write_text("x")
    assert train(tmp_path / "run") == 2
    assert "exists already" in capsys.readouterr().err
    assert [p.name for p in (tmp_path / "run").iterdir()] == ["mine"]


def test_a_run_without_a_checkpoint_is_not_evaluated(tmp_path, capsys):
    assert train(tmp_path / "run", 1) == 0
    for folder in (tmp_path / "run" / "checkpoints").iterdir():
        folder.rename(tmp_path / folder.name)
    assert cli.run(["evaluate", str(tmp_path / "run")]) == 2
    assert "has no checkpoint" in capsys.readouterr().err


@pytest.mark.parametrize("args", [["--help"], ["train", "--help"], ["list"], ["--version"]])
def test_help_and_lists(args, capsys):
    assert cli.run(args) == 0
    assert len(capsys.readouterr().out) > 5


@pytest.mark.parametrize(
    "args", [["train", "rl2", "--help"], ["evaluate", "--help"], ["render", "--help"], ["doctor", "--help"]]
)
def test_help_of_each_command(args, capsys):
    with pytest.raises(SystemExit) as ended:
        cli.run(args)
    assert ended.value.code == 0
    assert "usage: metarl" in capsys.readouterr().out


def test_a_preset_sets_defaults_and_options_override_it(tmp_path):
    import json

    path = tmp_path / "run"
    args = ["train", *REACH, "--run-dir", str(path), "--steps", "80", "--quiet", *TINY, "--preset", "metaworld-plus"]
    assert cli.run(args) == 0
    settings = json.loads((path / "config.json").read_text())["settings"]
    assert (settings["gamma"], settings["lam"], settings["state_std"]) == (0.99, 0.95, True)
    assert (settings["hidden"], settings["chunk"]) == (8, 15)


def test_notations_of_counts():
    assert [parse(x) for x in ("2e6", "2_000_000", "2,000", "7", "1.5e3")] == [2_000_000, 2_000_000, 2000, 7, 1500]
    for text in ("2.5", "many", "nan", "inf", ""):
        with pytest.raises(ValueError, match="number"):
            parse(text)


def test_importing_the_package_and_asking_for_help_imports_nothing_heavy():
    code = (
        "import sys, metarl.cli; metarl.cli.run(['--help']);"
        "sys.exit(str([m for m in ('torch', 'mujoco', 'metaworld', 'numba', 'gymnasium') if m in sys.modules] or 0))"
    )
    process = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert process.stderr.strip() == "0"


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["train", "rl2", "ml1:reach-v3", "--horizon", "20"], "--horizon is now --max-episode-steps"),
        (["render", "run", "--actions", "mean"], "--actions mean is now --actions deterministic"),
        (["compare", "a", "b", "--mode=mean"], "--mode mean is now --mode deterministic"),
        (["train", "rl2", "ml1:reach-v3", "--horizon=20"], "--horizon is now --max-episode-steps"),
        (["bench", "--slots", "3"], "--slots is now --num-envs"),
    ],
)
def test_an_old_name_of_an_option_is_refused_with_the_new_one(args, message, tmp_path, monkeypatch, capsys):
    refused(args, message, tmp_path, monkeypatch, capsys)
