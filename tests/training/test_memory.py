"""The estimate of memory: what it counts, and that training says it."""

from dataclasses import replace

import pytest
from builders.tiny import STEPS, TINY

from metarl import cli
from metarl.agents import find
from metarl.envs import suite
from metarl.runs.options import TrainOptions
from metarl.training.control import memory_needs

ML10 = suite("ml10").train


@pytest.mark.parametrize(("agent", "low", "high"), [("rl2", 1700, 2700), ("maml-trpo", 2800, 5000), ("random", 300, 700)])
def test_bytes_per_step_are_near_the_measured_ones(agent, low, high):
    """Measured as the growth of the peak from smaller to larger iterations: RL² 2,230, MAML-TRPO 3,700."""
    settings, options = find(agent)[1]["default"].settings, TrainOptions()

    def steps(options: TrainOptions) -> float:
        return sum(value for name, value in memory_needs(settings, options, ML10).items() if "steps" in name)

    assert low < steps(options) / options.steps_per_iteration < high
    assert steps(replace(options, num_envs=40)) == 2 * steps(options)


def test_a_second_rollout_counts_where_collection_overlaps():
    settings = find("rl2")[1]["default"].settings
    alone, overlapped = (
        sum(memory_needs(s, TrainOptions(), ML10).values()) for s in (settings, replace(settings, overlap=True))
    )
    assert overlapped - alone == pytest.approx(100_000 * 4 * 102)


def test_training_says_how_much_memory_it_needs(tmp_path, capsys):
    assert cli.run(["train", "rl2", "ml1:reach-v3", "--run-dir", str(tmp_path / "run"), "--steps", str(STEPS), *TINY]) == 0
    assert "Memory for environments and an iteration: about" in capsys.readouterr().out
