"""Training with --overlap: which policy plays what, exact resume, and what it refuses."""

import copy

import pytest
import torch
from builders.tiny import STEPS, TINY, equal_runs, refused, train

import metarl
from metarl import cli
from metarl.agents.rl2 import RL2
from metarl.learner import PolicyInput

COMMAND = ["train", "rl2", "ml1:reach-v3", "--overlap", *TINY]


def test_the_policy_before_the_last_update_plays(tmp_path, monkeypatch):
    policies, rollouts, update = [], [], RL2.update

    def watched(agent, batches, iteration):
        policies.append(copy.deepcopy(agent.policy))
        rollouts.extend(batches)
        return update(agent, batches, iteration)

    monkeypatch.setattr(RL2, "update", watched)
    assert train(tmp_path / "run", 4, "--overlap") == 0
    for i, rollout in enumerate(rollouts):
        first = PolicyInput(*(part[0] for part in rollout.query))
        for j, policy in enumerate(policies):
            with torch.no_grad():
                mean = policy.step(policy.scaler(first), torch.zeros(2, 8))[0].mean
            same = torch.allclose(mean, rollout.prediction.mean[0], rtol=0, atol=1e-6)
            assert same == (j == max(0, i - 1)), (i, j)


@pytest.mark.parametrize("stop", [1, 2])
def test_resumed_equals_uninterrupted(tmp_path, stop):
    assert train(tmp_path / "whole", 4, "--overlap") == 0
    assert train(tmp_path / "parts", stop, "--overlap") == 0
    assert train(tmp_path / "plain", 4) == 0
    assert cli.run(["train", "--resume", str(tmp_path / "parts"), "--steps", str(4 * STEPS), "--quiet"]) == 0
    assert equal_runs(tmp_path / "whole", tmp_path / "parts")
    assert not equal_runs(tmp_path / "whole", tmp_path / "plain")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--engine", "python"], "--overlap acts in compiled code: the engine is python, not native"),
        (["--acting", "python"], "--overlap acts in compiled code: --acting is python"),
    ],
)
def test_refusals(options, message, tmp_path, monkeypatch, capsys):
    refused([*COMMAND, *options], message, tmp_path, monkeypatch, capsys)


def test_profile_refuses_overlap(tmp_path, monkeypatch, capsys):
    message = "metarl profile measures collection and update one after the other: leave out --overlap"
    refused(["profile", "rl2", "ml1:reach-v3", "--overlap"], message, tmp_path, monkeypatch, capsys)


def test_a_run_with_overlap_can_be_packed(tmp_path):
    """The policy before the last update is for resuming only."""
    assert train(tmp_path / "run", 2, "--overlap") == 0
    assert cli.run(["pack", str(tmp_path / "run"), "--out", str(tmp_path / "model")]) == 0
    assert metarl.load(tmp_path / "model").previous is None
