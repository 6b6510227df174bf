"""Commands with agents of stable-baselines3."""

import json
import runpy
from pathlib import Path

import numpy as np
import pytest
import torch
from builders.tiny import digests, equal_runs, metrics, refused, train

from metarl import cli
from metarl.agents.sb3.base import SB3PPO
from metarl.errors import UserError
from metarl.sharing.opening import open_run

pytest.importorskip("stable_baselines3")


CPU = torch.device("cpu")
SMALL = ["--net-arch", "8"]


@pytest.fixture(scope="module")
def ppo(tmp_path_factory):
    """A run of sb3-ppo: two iterations, all checkpoints kept."""
    path = tmp_path_factory.mktemp("sb3") / "run"
    assert train(path, 2, *SMALL, "--keep-checkpoints", "0", "--goals", "6", agent="sb3-ppo") == 0
    return path


def test_fine_tuning_after_every_episode_and_from_checkpoint_0(ppo, capsys):
    before = digests(ppo / "checkpoints")
    args = ["--train-goals", "0", "--episodes", "3", "--device", "cpu"]
    assert cli.run(["evaluate", str(ppo), str(ppo / "checkpoints" / f"{0:012d}"), *args]) == 0
    assert "took a fine-tuning step" in capsys.readouterr().out
    assert digests(ppo / "checkpoints") == before
    contents = [json.loads(file.read_text()) for file in sorted((ppo / "evaluations").glob("*.json"))]
    assert [content["step"] for content in contents] == [0, 160]
    for content in contents:
        assert content["adapt_every"] == 1
        returns = np.array(content["sides"]["test"]["figures"]["deterministic"]["return"])[:, 0]
        assert returns.shape == (6, 3)
        assert (np.diff(returns, axis=1) != 0).all()  # each step moves each goal's policy
    assert contents[0]["sides"] != contents[1]["sides"]
    first = (ppo / "evaluation.json").read_bytes()
    assert cli.run(["evaluate", str(ppo), *args, "--quiet"]) == 0
    assert (ppo / "evaluation.json").read_bytes() == first


def test_checkpoints_hold_only_tensors_and_json(ppo):
    from safetensors.torch import load_file

    for folder in open_run(ppo)[0].checkpoints():
        assert {file.name for file in folder.iterdir()} == {"agent.safetensors", "checkpoint.json"}
        assert json.loads((folder / "checkpoint.json").read_text())["rest"]["steps"] == int(folder.name)
        tensors = load_file(folder / "agent.safetensors")
        assert {"rewards/var", "model/policy.log_std", "model/adam.policy.0.exp_avg"} <= tensors.keys()


def test_the_metaworld_protocol_fine_tunes_after_every_episode(ppo, monkeypatch):
    lengths, original = [], SB3PPO._fit

    def recorded(self, model, transitions):
        lengths.append(len(transitions.reward))
        original(self, model, transitions)

    monkeypatch.setattr(SB3PPO, "_fit", recorded)
    monkeypatch.setattr("metarl.evaluation.metaworld.EVALUATIONS", 1)
    assert cli.run(["evaluate", str(ppo), "--protocol", "metaworld", "--engine", "native", "--quiet"]) == 0
    (file,) = (ppo / "evaluations").glob("metaworld_*.json")
    assert json.loads(file.read_text())["episodes"] == 2  # as many as a trial has, one at a time
    assert len(lengths) >= 2 * 6
    assert set(lengths) == {20}


def test_report_of_a_fine_tuned_agent(ppo):
    assert cli.run(["evaluate", str(ppo), "--train-goals", "0", "--device", "cpu", "--quiet"]) == 0
    assert cli.run(["report", str(ppo)]) == 0
    assert "fine-tuning step" in (ppo / "report.html").read_text()


def test_a_video_of_a_fine_tuned_agent(ppo):
    from metarl.envs.rendering.opengl import find_backend

    try:
        find_backend()
    except UserError as error:
        pytest.skip(str(error))
    args = ["render", str(ppo), "--goals", "1", "--size", "160x120", "--quiet"]
    assert cli.run(args) == 0
    assert next((ppo / "videos").glob("*.mp4")).stat().st_size > 3000


def test_sac_resumes_with_an_empty_replay_buffer_and_a_warning(tmp_path, caplog):
    options = [
        *SMALL,
        "--learning-starts",
        "30",
        "--batch-size",
        "16",
        "--buffer-size",
        "500",
        "--fit-steps",
        "2",
        "--goals",
        "4",
    ]
    for name in ("whole", "again"):
        assert train(tmp_path / name, 3, *options, agent="sb3-sac") == 0
    assert equal_runs(tmp_path / "whole", tmp_path / "again")
    assert train(tmp_path / "cut", 1, *options, agent="sb3-sac") == 0
    assert "empty replay buffer" not in caplog.text
    assert cli.run(["train", "--resume", str(tmp_path / "cut"), "--steps", "240", "--quiet"]) == 0
    assert "empty replay buffer" in caplog.text
    uninterrupted, resumed = (metrics(tmp_path / name) for name in ("whole", "cut"))
    assert [line["replay"] for line in uninterrupted] == [80, 160, 240]
    assert [line["replay"] for line in resumed] == [80, 80, 160]
    assert uninterrupted[0] == resumed[0]
    assert "actor_loss" in uninterrupted[2]
    args = ["evaluate", str(tmp_path / "whole"), "--train-goals", "0", "--device", "cpu", "--quiet"]
    assert cli.run(args) == 0
    side = json.loads((tmp_path / "whole" / "evaluation.json").read_text())["sides"]["test"]
    assert (np.diff(np.array(side["figures"]["deterministic"]["return"])[:, 0], axis=1) != 0).any(0).all()
    assert "goal_blind" not in side  # its action noise depends on the state, and the baseline needs one standard deviation


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["sb3-ppo", "ml1:reach-v3", "--n-steps", "7"], "7 steps between updates do not divide them"),
        (["sb3-sac", "ml1:reach-v3", "--train-freq", "7"], "7 steps between updates do not divide them"),
        (["sb3-ppo", "ml1:reach-v3", "--batch-size", "1"], "batch_size must be at least 2"),
        (["sb3-ppo", "ml1:reach-v3", "--gamma", "1"], "gamma must lie in [0, 1), not 1.0"),
        (["sb3-sac", "ml1:reach-v3", "--net-arch", "0"], "net_arch must be"),
    ],
)
def test_wrong_input_is_answered_with_status_2(args, message, tmp_path, monkeypatch, capsys):
    refused(["train", *args], message, tmp_path, monkeypatch, capsys)


def test_the_table_of_transfer(ppo, tmp_path, capsys):
    """Compares meta-learning, fine-tuning and fine-tuning from scratch on the same goals, in one plot."""
    assert train(tmp_path / "rl2", 1, "--goals", "6") == 0
    script = Path(__file__).parents[2] / "scripts" / "transfer_table"
    main = runpy.run_path(str(script))["main"]
    main(["--take", str(tmp_path / "rl2"), str(ppo), "--episodes", "3"])
    lines = [line.split(" | ") for line in capsys.readouterr().out.splitlines() if " | sampled | " in line]
    assert [line[0] for line in lines] == ["rl2, 80 steps", "sb3-ppo, 160 steps", "sb3-ppo, from scratch"]
    assert [len(line) for line in lines] == [2 + 3 + 2] * 3  # k = 0, 1, 2, then the last step's success, and the return
    assert (tmp_path / "rl2" / "evaluations" / "transfer.png").stat().st_size > 10_000
    files = [
        path / "evaluations" / f"all-goals_{step:012d}_e3_tr0.json"
        for path, step in ((tmp_path / "rl2", 80), (ppo, 160), (ppo.with_name("run_scratch"), 0))
    ]
    contents = [json.loads(file.read_text()) for file in files]
    assert contents[0]["sides"]["test"]["goals"] == contents[1]["sides"]["test"]["goals"]
    # the same as the run's own checkpoint 0
    paths = (ppo, ppo.with_name("run_scratch"))
    digests = {open_run(path)[0].load(path / "checkpoints" / f"{0:012d}")[0].digest for path in paths}
    assert len(digests) == 1
    assert contents[2]["adapt_every"] == 1
