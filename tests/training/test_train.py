"""The user's real commands, tiny: training, resuming, interrupting."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from builders.tiny import STEPS, TINY, equal_runs, metrics, train

from metarl import cli
from metarl.agents.rl2 import RL2, RL2Settings
from metarl.evaluation import during_training
from metarl.sharing.opening import open_run


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> Path:
    """An uninterrupted run of four iterations."""
    path = tmp_path_factory.mktemp("whole") / "run"
    assert train(path, 4) == 0
    return path


def test_a_run_keeps_what_it_promises(whole):
    config = json.loads((whole / "config.json").read_text())
    assert config["options"]["terminate_on_success"] is False
    assert config["options"]["reward"] == "v2"
    assert config["settings"]["hidden"] == 8
    assert config["packages"]["mujoco"] == "3.3.0"
    lines = metrics(whole)
    assert [line["step"] for line in lines] == [STEPS * (i + 1) for i in range(4)]
    assert {"return", "success", "last_step_success", "kl", "entropy", "std", "explained_variance"} <= lines[0].keys()
    assert list((whole / "tensorboard").glob("events*"))
    run, _ = open_run(whole)
    assert run.load()[0].iteration == 4
    assert run.experiment.settings == RL2Settings(
        layers=(8,), hidden=8, chunk=15, minibatch=2, epochs=2, learning_rate_final=None, entropy_final=None
    )
    assert run.experiment.to_json().items() <= config.items()


def test_the_first_checkpoint_precedes_the_first_step(tmp_path):
    assert train(tmp_path / "run", 2, "--keep-checkpoints", "0") == 0
    assert [int(p.name) for p in open_run(tmp_path / "run")[0].checkpoints()] == [0, STEPS, 2 * STEPS]


def test_two_equal_runs_are_equal_and_another_seed_is_not(whole, tmp_path):
    assert train(tmp_path / "again", 4) == 0
    assert equal_runs(whole, tmp_path / "again")
    assert train(tmp_path / "other", 4, "--seed", "2") == 0
    assert not equal_runs(whole, tmp_path / "other")


def test_training_in_two_parts_equals_training_at_once(whole, tmp_path):
    path = tmp_path / "run"
    assert train(path, 2) == 0
    assert cli.run(["train", "--resume", str(path), "--steps", str(4 * STEPS), "--quiet"]) == 0
    assert equal_runs(whole, path)


def test_resume_goes_on_from_the_checkpoint_before_a_damaged_one(whole, tmp_path, capsys):
    path = tmp_path / "run"
    assert train(path, 3) == 0
    broken = open_run(path)[0].checkpoints()[-1] / "agent.safetensors"
    broken.write_bytes(broken.read_bytes()[:-5])
    assert cli.run(["train", "--resume", str(path), "--steps", str(4 * STEPS), "--quiet"]) == 0
    assert "going on from the previous one" in capsys.readouterr().out
    assert equal_runs(whole, path)


def _start(*args: str) -> subprocess.Popen:
    return subprocess.Popen(
        [sys.executable, "-m", "metarl.cli", "train", *args], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def _until(condition, seconds: float = 300) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)


@pytest.mark.parametrize(("number", "more"), [(signal.SIGINT, ()), (signal.SIGTERM, ()), (signal.SIGINT, ("--overlap",))])
def test_an_interrupt_saves_the_last_border_and_says_how_to_go_on(tmp_path, number, more):
    path = tmp_path / "run"
    options = ["--run-dir", str(path), "--steps", "1e6", *TINY, *more, "--checkpoint-every", "1000"]
    process = _start("rl2", "ml1:reach-v3", *options)
    _until(lambda: (path / "metrics.jsonl").exists() and len((path / "metrics.jsonl").read_text().splitlines()) >= 3)
    process.send_signal(number)
    out, err = process.communicate(timeout=120)
    assert process.returncode == 130
    assert f"metarl train --resume {path}" in out
    assert "Traceback" not in out + err
    run, _ = open_run(path)
    checkpoint, _ = run.load()
    assert checkpoint.iteration == len(metrics(path)) >= 3
    steps = STEPS * (checkpoint.iteration + 1)
    assert cli.run(["train", "--resume", str(path), "--steps", str(steps), "--quiet"]) == 0
    assert train(tmp_path / "whole", checkpoint.iteration + 1, *more) == 0
    assert equal_runs(tmp_path / "whole", path)


def test_a_killed_run_resumes_bit_for_bit(tmp_path):
    """The slow version, ten random moments, is scripts/kill_and_resume."""
    path = tmp_path / "run"
    process = _start("rl2", "ml1:reach-v3", "--run-dir", str(path), "--steps", str(STEPS * 10_000), *TINY)
    _until(lambda: (path / "metrics.jsonl").exists() and len((path / "metrics.jsonl").read_text().splitlines()) >= 2)
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()
    steps = STEPS * (open_run(path)[0].load()[0].iteration + 2)
    assert cli.run(["train", "--resume", str(path), "--steps", str(steps), "--quiet"]) == 0
    assert train(tmp_path / "whole", steps // STEPS) == 0
    assert equal_runs(tmp_path / "whole", path)


@pytest.mark.parametrize(
    ("more", "says"),
    [
        (["--gamma", "0.5", "--num-envs", "4"], "num_envs was 2, not 4; gamma was 0.95, not 0.5"),
        (["--seed", "3"], "seed was 1, not 3"),
        (["--preset", "metaworld-plus"], "preset was None, not metaworld-plus"),
        (["--run-dir", "elsewhere"], "--run-dir is for new runs"),
    ],
)
def test_other_settings_than_the_runs_own_are_named_and_refused(tmp_path, capsys, more, says):
    path = tmp_path / "run"
    assert train(path, 1) == 0
    before = (path / "config.json").read_bytes()
    assert cli.run(["train", "--resume", str(path), *more]) == 2
    assert says in capsys.readouterr().err
    assert (path / "config.json").read_bytes() == before


def test_a_run_from_before_a_setting_existed_has_its_default(whole, tmp_path, capsys):
    path = tmp_path / "run"
    assert train(path, 2) == 0
    for file in (path / "config.json", open_run(path)[0].checkpoints()[-1] / "checkpoint.json"):
        content = json.loads(file.read_text())
        config = content.get("config", content)
        del config["settings"]["overlap"], config["options"]["terminate_on_success"]
        file.write_text(json.dumps(content))
    assert cli.run(["train", "--resume", str(path), "--overlap"]) == 2
    assert "overlap was False, not True" in capsys.readouterr().err
    assert cli.run(["train", "--resume", str(path), "--steps", str(4 * STEPS), "--quiet"]) == 0
    assert equal_runs(whole, path)


def test_the_agent_and_the_suite_may_stand_beside_resume_and_must_be_the_runs_own(whole, tmp_path, capsys):
    path = tmp_path / "run"
    assert train(path, 2) == 0
    for agent, suite, says in (("rl2", "ml10", "suite was ml1:reach-v3, not ml10"), ("promp", "ml1:reach-v3", "agent was rl2")):
        assert cli.run(["train", agent, suite, "--resume", str(path)]) == 2
        assert says in capsys.readouterr().err
    same = ["train", "rl2", "ml1:reach-v3", *TINY, "--resume", str(path), "--steps", str(4 * STEPS), "--quiet"]
    assert cli.run(same) == 0
    assert equal_runs(whole, path)


def test_a_configuration_that_was_edited_is_not_resumed(tmp_path, capsys):
    path = tmp_path / "run"
    assert train(path, 1) == 0
    config = json.loads((path / "config.json").read_text())
    config["settings"]["clip"] = 0.1
    (path / "config.json").write_text(json.dumps(config))
    longer = ["train", "--resume", str(path), "--steps", str(2 * STEPS), "--quiet"]
    assert cli.run(longer) == 2
    assert "clip was 0.2, not 0.1" in capsys.readouterr().err
    assert cli.run([*longer, "--clip", "0.2"]) == 0
    run, _ = open_run(path)
    assert run.experiment.settings.clip == run.load()[0].config["settings"]["clip"] == 0.2


def test_a_run_in_use_is_not_resumed(tmp_path, capsys):
    assert train(tmp_path / "run", 1) == 0
    holder, _ = open_run(tmp_path / "run")
    holder.lock()
    assert cli.run(["train", "--resume", str(tmp_path / "run")]) == 2
    assert "another process is writing" in capsys.readouterr().err


def test_a_loss_that_is_not_finite_ends_the_run_with_what_is_needed_to_look_into_it(tmp_path, capsys, monkeypatch):
    original, update = RL2.advantages, RL2.update
    now = []

    def noted(self, batches, iteration):
        now.append(iteration)
        return update(self, batches, iteration)

    def poisoned(self, rollout, x):
        advantage, explained = original(self, rollout, x)
        return advantage * (float("nan") if now[-1] == 1 else 1.0), explained

    monkeypatch.setattr(RL2, "update", noted)
    monkeypatch.setattr(RL2, "advantages", poisoned)
    assert train(tmp_path / "run", 3) == 2
    err = capsys.readouterr().err
    assert "iteration 1: the loss of RL² is not finite" in err
    assert (tmp_path / "run" / "failure-1" / "tensors.safetensors").exists()
    assert open_run(tmp_path / "run")[0].load()[0].iteration == 1


def test_evaluations_during_training_leave_training_as_it_is_and_leak_nothing(whole, tmp_path, monkeypatch):
    original, seen = during_training.measure_control, []

    def counted(*args):
        result = original(*args)
        seen.append((len(os.listdir("/proc/self/task")), len(os.listdir("/proc/self/fd"))))
        return result

    monkeypatch.setattr(during_training, "measure_control", counted)
    assert train(tmp_path / "run", 4, "--evaluate-every", "1") == 0
    lines = metrics(tmp_path / "run")
    assert all("validation_success" in line for line in lines)
    plain = [{k: v for k, v in line.items() if not k.startswith("validation_")} for line in lines]
    assert plain == metrics(whole)
    assert len(list((tmp_path / "run" / "evaluations").glob("training_*.json"))) == 4
    assert seen[1] == seen[2] == seen[3]  # threads and open files; TensorBoard's writer comes after the first


def test_a_run_from_a_machine_with_a_gpu_goes_on_without_one(tmp_path, capsys):
    if torch.cuda.is_available():
        pytest.skip("this machine has a GPU")
    path = tmp_path / "run"
    assert train(path, 1) == 0
    config = json.loads((path / "config.json").read_text())
    config["options"]["device"] = "cuda"
    (path / "config.json").write_text(json.dumps(config))
    assert cli.run(["train", "--resume", str(path), "--steps", str(2 * STEPS), "--quiet"]) == 0
    assert "there is none here" in capsys.readouterr().out
