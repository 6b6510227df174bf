"""Numbers that no setting and no option can have: refused in one line before anything is made, with the estimate."""

import math
from collections.abc import Iterator
from dataclasses import fields, is_dataclass, replace
from typing import Any

import pytest
from builders.tiny import TINY, refused

from metarl import cli
from metarl.agents import AGENTS, FEW_SHOT, find
from metarl.commands.evaluate import Evaluate
from metarl.commands.evaluate_external import EvaluateExternal
from metarl.envs import make_vec, suite
from metarl.errors import UserError
from metarl.evaluation.fewshot import Plan as Episodes
from metarl.evaluation.plan import Plan
from metarl.rendering.film import FilmOptions
from metarl.runs.options import options_of
from metarl.sharing.onnx_export import Adaptation
from metarl.system import machine
from metarl.system.counts import parse
from metarl.system.ranges import check

RUNS: Any = ("run",)
PLACES = [
    *(find(agent)[1]["default"].settings for agent in AGENTS),
    options_of("rl2")(),
    options_of("maml")(),
    Plan(),
    Episodes(),
    Evaluate(RUNS),
    EvaluateExternal("ml10", "a:b"),
    FilmOptions(),
    Adaptation(),
]
SIGNED = {"log_std_init"}
"""Numbers that may be negative."""


def numbers() -> Iterator[tuple[Any, str, Any]]:
    """Every number that a user can set: where, its name, its default."""
    for place in PLACES:
        for field in fields(place):
            default = getattr(place, field.name)
            numeric = isinstance(default, int | float) or "int" in str(field.type) or "float" in str(field.type)
            if numeric and not isinstance(default, bool) and not is_dataclass(default):
                yield place, field.name, default


def given(place: Any, name: str, default: Any, value: float) -> Any:
    return replace(place, **{name: (value,) if isinstance(default, tuple) else value})


EVERY = [pytest.param(*one, id=f"{type(one[0]).__name__}-{one[1]}") for one in numbers()]


def test_there_are_numbers_of_all_kinds():
    assert len(EVERY) > 150


@pytest.mark.parametrize(("place", "name", "default"), EVERY)
def test_no_number_is_endless_huge_or_negative(place, name, default):
    wrong = [math.nan, math.inf, -math.inf, 1e300, 10**400, -(10**400)]
    if name not in SIGNED:
        wrong += [-2, -1.5]
    for value in wrong:
        with pytest.raises(UserError, match=name) as raised:
            given(place, name, default, value)
        assert "\n" not in str(raised.value)


def test_intervals_are_checked_as_they_are_written():
    plan = Plan(trials=3)
    check(plan, trials="[3, 4)", episodes="[1, inf)")
    for interval, says in (("(3, inf)", "at least 4"), ("[0, 3)", "at most 3"), ("[4, 5]", "at least 4")):
        with pytest.raises(UserError, match=f"trials must be {says}"):
            check(plan, trials=interval)
    with pytest.raises(KeyError):
        check(plan, trails="[1, inf)")
    with pytest.raises(TypeError):
        check(replace(plan, trials=1), device="[1, inf)")
    with pytest.raises(UserError, match="must lie in"):
        check(find("rl2")[1]["default"].settings, gamma="(0.95, 1)")


@pytest.mark.parametrize("text", ["1e400", "1e999999999", "9" * 5000])
def test_a_count_that_nothing_reaches_is_no_count(text):
    with pytest.raises(ValueError, match="too large"):
        parse(text)


REACH = ["train", "rl2", "ml1:reach-v3"]
FEW = ["train", "proto", "sinusoid"]
HUGE = "x" * 5000


@pytest.mark.parametrize(
    ("args", "says"),
    [
        ([*REACH, "--layers", "0"], "layers must be at least 1, not 0"),
        ([*REACH, "--layers=-3"], "layers must be at least 1, not -3"),
        ([*REACH, "--learning-rate", "nan"], "learning_rate must be at least 0 and finite, not nan"),
        ([*REACH, "--adam-eps", "-1"], "adam_eps must be positive and finite, not -1.0"),
        ([*REACH, "--steps", "1e400"], "1e400 is too large"),
        (["train", "maml-trpo", "ml1:reach-v3", "--layers", "0"], "layers must be at least 1"),
        (["bench", "--seconds", "inf"], "seconds must be positive and finite"),
        (["evaluate", HUGE], "File name too long"),
        ([*REACH, "--run-dir", HUGE], "File name too long"),
        (["train", "--resume", HUGE], "File name too long"),
        (["train", "proto", f"folder:{HUGE}"], "File name too long"),
        (["report", HUGE], "File name too long"),
        (["compare", HUGE, "b"], "File name too long"),
        (["evaluate", "/"], "/ is not a run: it has no config.json"),
        (["compare", "/", "/usr"], "is not a run"),
        (["render", "/"], "is not a run"),
    ],
)
def test_it_is_one_line(args, says, tmp_path, monkeypatch, capsys):
    refused(args, says, tmp_path, monkeypatch, capsys)


SHORT = ["--num-envs", "2", "--episodes-per-trial", "2", "--max-episode-steps", "20"]


@pytest.mark.parametrize(
    ("args", "what"),
    [
        ([*REACH, "--num-envs", "1000000"], "1,000,000 environments"),
        ([*REACH, "--max-episode-steps", "1000000000"], "steps of an iteration"),
        ([*REACH, "--episodes-per-trial", "100000000"], "steps of an iteration"),
        ([*REACH, "--chunk", "1000000000"], "steps of an iteration"),
        ([*REACH, *TINY, "--hidden", "1000000"], "the network's weights"),
        (
            ["train", "maml-trpo", "ml1:reach-v3", "--num-envs", "2", "--layers", "900000", "900000"],
            "the network's activations",
        ),
        (["train", "maml-trpo", "ml1:reach-v3", *SHORT, "--layers", "90000", "90000"], "the network's weights"),
        (["train", "sb3-ppo", "ml1:reach-v3", "--net-arch", "900000", "900000"], "the network's weights"),
        (["train", "sb3-sac", "ml1:reach-v3", "--buffer-size", "1e12"], "a replay buffer of 1,000,000,000,000 steps"),
        (["train", "maml", "sinusoid", "--shots", "100000000000"], "examples of an update"),
        (["train", "maml", "sinusoid", "--meta-batch", "100000000000"], "examples of an update"),
        (["train", "maml", "sinusoid", "--channels", "100000"], "the network's weights"),
        (["bench", "--num-envs", "1000000"], "1,000,000 environments"),
        (["evaluate", "ml1:reach-v3", "--agent", "still.py:Still", "--trials", "1000000000", "--goals", "2"], "figures of"),
        (
            ["evaluate", "ml1:reach-v3", "--agent", "still.py:Still", "--max-episode-steps", "1000000000000", "--goals", "2"],
            "steps of an",
        ),
    ],
)
def test_what_does_not_fit_is_refused_with_the_estimate(args, what, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("metarl.system.memory.available_memory", lambda: 8_000_000_000)
    if "--agent" in args:
        from builders.user_files import STILL

        (tmp_path / "still.py").write_text(STILL)
        args = [arg.replace("still.py", str(tmp_path / "still.py")) for arg in args]
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    assert cli.run(args) == 2
    (said,) = capsys.readouterr().err.splitlines()
    assert said.startswith("metarl: this takes at least")
    assert what in said
    assert "8.0 GB are available" in said
    assert not list((tmp_path / "here").iterdir())


def test_so_are_images_before_they_are_read(few_shot_data, monkeypatch, tmp_path, capsys):
    monkeypatch.setattr("metarl.system.memory.available_memory", lambda: 1_000_000_000)
    args = ["train", "proto", few_shot_data["image"], "--image-size", "4000"]
    refused(args, "120 images of 4000 x 4000 pixels 5.8 GB", tmp_path, monkeypatch, capsys)
    refused([*args[:-1], "8"], "--image-size must be at least 16", tmp_path, monkeypatch, capsys)


def test_so_are_environments_of_python(monkeypatch):
    monkeypatch.setattr("metarl.system.memory.available_memory", lambda: 8_000_000_000)
    with pytest.raises(UserError, match=r"at least 700.0 GB of memory \(1,000,000 environments"):
        make_vec(suite("ml1:reach-v3").train, 1_000_000)
    make_vec(suite("ml1:reach-v3").train, 2).close()


def test_what_a_container_may_take_is_less_than_what_the_machine_has(monkeypatch):
    there = machine.available_memory()
    assert 0 < there < 10**15
    files = {"memory.max": ["max", "5000"], "memory.current": ["1", "2000"]}
    monkeypatch.setattr(machine, "cgroup_files", files.__getitem__)
    assert machine.available_memory() == 3000


def test_memory_that_runs_out_all_the_same_is_one_line(monkeypatch, capsys):
    def full(*args: Any, **more: Any) -> None:
        raise MemoryError

    monkeypatch.setattr("metarl.training.sessions.set_up", full)
    assert cli.run([*REACH, "--quiet"]) == 2
    assert capsys.readouterr().err == "metarl: there is not enough memory for this: smaller sizes need less\n"


def test_settings_of_all_agents_are_checked():
    """Each class of settings that has numbers checks them: a new one that does not is found here."""
    assert {agent for agent, entry in AGENTS.items() if entry.training == FEW_SHOT} >= {"maml", "proto"}
    for agent in AGENTS:
        settings = find(agent)[1]["default"].settings
        if any(isinstance(getattr(settings, field.name), int | float) for field in fields(settings)):
            assert hasattr(type(settings), "__post_init__"), agent
