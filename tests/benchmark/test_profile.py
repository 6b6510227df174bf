"""`metarl profile`: where the time goes, by real measurements of a tiny training, and arithmetic on given ones."""

import json
import math
from pathlib import Path

import pytest
from builders.tiny import refused

from metarl import cli
from metarl.agents import find
from metarl.benchmark import profiling, versions
from metarl.benchmark.profiling import COLLECT, ENGINE, ITERATION, LOOP, MUJOCO, Profile
from metarl.benchmark.versions import changed_options, ratio
from metarl.commands import profile
from metarl.runs.experiment import Experiment
from metarl.runs.options import TrainOptions

SMALL = "--num-envs 2 --episodes-per-trial 2 --max-episode-steps 10 --layers 8 --hidden 8 --chunk 10 --device cpu".split()


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(profiling, "LEAST", 1)
    monkeypatch.setattr(profiling, "_STEPS", 40)
    monkeypatch.setattr(versions, "LEAST", 1)


def test_a_profile_measures_all_parts_and_draws_them(tmp_path, capsys):
    files = ["--plot", str(tmp_path / "a.png"), "--json", str(tmp_path / "a.json")]
    args = ["profile", "rl2", "ml1:reach-v3", *SMALL, "--environments", "2,3", "--threads", "1", "--seconds", "0.1", *files]
    assert cli.run(args) == 0
    content = json.loads((tmp_path / "a.json").read_text())
    assert [(row["num_envs"], row["threads"]) for row in content["profiles"]] == [(2, 1), (3, 1)]
    for row in content["profiles"]:
        assert set(row["steps_per_second"]) == set(profiling.MEANINGS)
        assert all(rate > 0 for rate in row["steps_per_second"].values())
        assert row["microseconds_per_step"].keys() == profiling.SHARES.keys()
    assert (tmp_path / "a.png").read_bytes().startswith(b"\x89PNG")
    printed = capsys.readouterr().out
    assert "2 environments, 1 threads" in printed
    assert "of MuJoCo" in printed


def test_shares_add_up_to_an_iteration():
    profile = Profile(20, 2, [{MUJOCO: 10_000, ENGINE: 9_000, LOOP: 8_000, COLLECT: 5_000, ITERATION: 2_500}])
    expected = {"physics": 100, "rest of the engine": 25, "acting": 75, "update": 200}
    assert profile.shares() == pytest.approx(expected)
    assert sum(expected.values()) == pytest.approx(1e6 / 2_500)
    assert profile.of_mujoco(COLLECT) == (0.5, 0.5, 0.5)


def test_without_the_native_engine_the_engine_alone_is_the_floor():
    profile = Profile(2, 1, [{ENGINE: 1_000, COLLECT: 800, ITERATION: 400}])
    assert profile.shares() == pytest.approx({"physics": 0, "rest of the engine": 1000, "acting": 250, "update": 1250})
    assert profile.of_mujoco(COLLECT) is None


def test_another_version_trains_in_turn(tmp_path, capsys):
    """This checkout stands in for the other version."""
    args = ["profile", "rl2", "ml1:reach-v3", *SMALL, "--seconds", "0.1", "--json", str(tmp_path / "a.json")]
    assert cli.run([*args, "--against", str(Path(__file__).parents[2])]) == 0
    content = json.loads((tmp_path / "a.json").read_text())
    [(this, other)] = content["rounds"]
    for seconds in (this, other):
        assert 0 < seconds["collection"] < seconds["iteration"]
        assert seconds["update"] == pytest.approx(seconds["iteration"] - seconds["collection"])


def test_the_interval_of_a_ratio():
    """Three rounds with ratios 1, 2 and 4: geometric mean 2, and t(2) = 4.30 standard errors of log 2 around it."""
    rounds = [({"update": 1.0}, {"update": factor}) for factor in (1.0, 2.0, 4.0)]
    middle, low, high = ratio(rounds, "update")
    half = 4.302653 * math.log(2) / math.sqrt(3)
    assert middle == pytest.approx(2)
    assert math.log(high / 2) == pytest.approx(half)
    assert math.log(2 / low) == pytest.approx(half)


def test_a_preset_sets_the_settings_that_are_measured(monkeypatch):
    experiments = []
    monkeypatch.setattr(profile, "measure", lambda experiment, profiles, seconds: experiments.append(experiment))
    assert cli.run(["profile", "rl2", "ml1:reach-v3", "--preset", "metaworld-plus", "--device", "cpu"]) == 0
    assert experiments[0].settings == find("rl2")[1]["metaworld-plus"].settings


def test_only_what_differs_from_the_defaults_is_passed_on():
    settings = type(find("rl2")[1]["default"].settings)(hidden=8, layers=(8, 9), bootstrap=False)
    experiment = Experiment("rl2", "ml10", TrainOptions(num_envs=2, task_id=True, steps=99), settings)
    expected = "--task-id --num-envs 2 --layers 8 9 --hidden 8 --no-bootstrap"
    assert changed_options(experiment) == expected.split()


@pytest.mark.parametrize(
    ("args", "says"),
    [
        (["profile", "proto", "omniglot"], "proto is a few-shot learner"),
        (["profile", "rl2", "ml1:reach-v3", "--against", "."], "is no checkout: it has no metarl/cli.py"),
        (["profile", "rl2", "ml1:reach-v3", "--threads", "0"], "threads must be at least 1"),
        (["profile", "rl2", "ml1:reach-v3", "--seconds", "-1"], "seconds"),
    ],
)
def test_bad_input_is_refused(args, says, tmp_path, monkeypatch, capsys):
    refused(args, says, tmp_path, monkeypatch, capsys)
