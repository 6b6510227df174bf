"""User-defined environments and agents in Python files, which run only if the user names them."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from builders.tiny import equal_runs, metrics
from builders.user_files import AGENT, EXAMPLES, POINT, STEPS, forget_user_files, train_small, user_file  # noqa: F401

from metarl import cli
from metarl.envs import Task, make_vec, suite
from metarl.envs.engines.python import StockEnv
from metarl.envs.user_defined import user_suite
from metarl.errors import UserError
from metarl.evaluation.tables import table, verdict
from metarl.sharing.opening import open_run
from metarl.system.user_code import run_file

# ---------------------------------------------------------------------------------------------------------------------
# the worked examples


@pytest.fixture(scope="module")
def runs(tmp_path_factory: Any) -> Path:
    """Evaluated runs of RL² and of the example's agent on the point robot."""
    folder = tmp_path_factory.mktemp("own")
    assert train_small(folder / "rl2", "rl2", POINT, 2) == 0
    assert train_small(folder / "mine", AGENT, POINT, 2) == 0
    arguments = ["evaluate", str(folder / "rl2"), "--suite", POINT]
    assert cli.run([*arguments, "--quiet", "--device", "cpu"]) == 0
    user_arguments = ["evaluate", str(folder / "mine"), "--suite", POINT, "--agent", AGENT]
    assert cli.run([*user_arguments, "--quiet", "--device", "cpu"]) == 0
    return folder


def test_a_run_records_the_files_it_was_trained_with(runs):
    config = json.loads((runs / "mine" / "config.json").read_text())
    assert (config["agent"], config["suite"]) == ("my_agent.py:MyAgent", "point_robot.py:point_robot")
    assert config["files"].keys() == {"my_agent.py:MyAgent", "point_robot.py:point_robot"}
    assert config["files"]["my_agent.py:MyAgent"]["path"] == str(EXAMPLES / "my_agent.py")
    checkpoint, _ = open_run(runs / "mine")[0].load()
    assert checkpoint.config["files"] == config["files"]
    assert config["settings"]["clip"] == 0.2
    assert config["options"]["max_episode_steps"] == 10  # as given; the suite's own is a default


def test_a_user_agent_resumes_exactly(runs, tmp_path, capsys):
    path = tmp_path / "mine"
    assert train_small(path, AGENT, POINT, 1) == 0
    options = ["--steps", str(2 * STEPS), "--quiet"]
    assert cli.run(["train", "--resume", str(path), *options]) == 2
    error = capsys.readouterr().err
    assert f"metarl train {AGENT} {POINT} --resume {path}" in error
    assert cli.run(["train", AGENT, POINT, "--resume", str(path), *options]) == 0
    assert equal_runs(runs / "mine", path)


def test_environments_without_success_are_evaluated_by_returns(runs, tmp_path, monkeypatch, capsys):
    """Training, evaluation, table, comparison and report do not mention success."""
    monkeypatch.chdir(tmp_path)
    assert not any("success" in key for line in metrics(runs / "rl2") for key in line)
    assert {"return_first_episode", "return_last_episode"} <= metrics(runs / "rl2")[0].keys()
    content = json.loads((runs / "rl2" / "evaluation.json").read_text())
    for side in ("train", "test"):
        assert content["sides"][side]["axes"] == ["x", "y"]
        for part in ("figures", "by_episode", "gain"):
            assert content["sides"][side][part]["sampled"].keys() == {"return"}
    assert (np.array(content["sides"]["test"]["figures"]["deterministic"]["return"]) < 0).all()
    paths = [str(runs / "rl2"), str(runs / "mine")]
    assert cli.run(["compare", *paths]) == 0
    table = capsys.readouterr().out
    assert "Last episode, return" in table
    assert "success" not in table
    assert cli.run(["report", *paths, "--quiet"]) == 0
    page = (tmp_path / "report.html").read_text()
    assert "return on 50 held-out goals" in page
    assert "The environments report no success" in page
    assert (tmp_path / "report" / "01_rl2_goals_test.png").exists()
    summary = (tmp_path / "report" / "01_rl2_summary.csv").read_text().splitlines()[0]
    assert summary.startswith("goals,return before,")
    assert "success" not in summary


def test_a_table_of_returns(runs, capsys):
    content = json.loads((runs / "rl2" / "evaluation.json").read_text())
    table(content)
    output = capsys.readouterr().out
    assert "report no success" in output
    assert "return [95 %]" in output
    assert verdict(content, "test").count("return") == 1
    assert "success" not in verdict(content, "test")


def test_user_environments_render_themselves(runs, tmp_path):
    args = ["render", str(runs / "rl2"), "--suite", POINT, "--goals", "1", "--size", "128x96", "--quiet", "--fps", "5"]
    assert cli.run([*args, "--out", str(tmp_path / "film.mp4")]) == 0
    assert (tmp_path / "film.mp4").stat().st_size > 2000


@pytest.mark.parametrize(
    ("agent", "example"), [("maml-trpo", "circle"), ("random", "point_robot")], ids=["maml-trpo", "random"]
)
def test_other_agents_on_the_point_robot(tmp_path, agent, example):
    assert train_small(tmp_path / "run", agent, f"{EXAMPLES}/point_robot.py:{example}", 1) == 0
    assert open_run(tmp_path / "run")[0].load()[0].step == STEPS


def test_the_point_robot_follows_the_paper(tmp_path):
    suite_of_seed = user_suite(run_file(POINT), seed=3)
    assert (suite_of_seed.name, suite_of_seed.max_episode_steps, len(suite_of_seed.train), len(suite_of_seed.test)) == (
        "point_robot.py:point_robot",
        100,
        200,
        50,
    )
    assert suite_of_seed == user_suite(run_file(POINT), seed=3)
    assert suite_of_seed.train.tasks != user_suite(run_file(POINT), seed=4).train.tasks
    assert np.abs([task.params for task in suite_of_seed.train.tasks]).max() <= 0.5
    env = make_vec(suite_of_seed.train, 1)
    env.set_tasks([Task("point-robot", (0.3, 0.0))])
    env.reset()
    rewards = [env.step(np.array([[5.0, 0.0]]))[1][0] for _ in range(3)]
    assert rewards == pytest.approx([-0.2, -0.1, 0.0], abs=1e-6)
    circle = user_suite(run_file(f"{EXAMPLES}/point_robot.py:circle"), seed=1)
    for side, sign in ((circle.train, 1), (circle.test, -1)):
        x, y = np.array([task.params for task in side.tasks]).T
        assert np.hypot(x, y) == pytest.approx(np.ones(len(x)))
        assert (sign * y >= 0).all()


@pytest.mark.parametrize("agent", ["rl2", "maml-trpo"])
def test_cartpole_has_discrete_actions_and_episodes_that_end_early(tmp_path, agent):
    """RL² and MAML train on episodes of different lengths in one batch."""
    path = tmp_path / "run"
    assert train_small(path, agent, f"{EXAMPLES}/cartpole_gravity.py:gravities", 2, "--max-episode-steps", "40") == 0
    lines = metrics(path)
    assert lines[-1]["step"] < 2 * 2 * 2 * 40
    assert all(np.isfinite(list(line.values())).all() for line in lines)
    assert lines[0]["return"] * 2 * 2 == lines[0]["step"]  # a reward of 1 a step
    assert "std" not in lines[0]


def test_the_pole_falls_as_gravity_says():
    gravities = user_suite(run_file(f"{EXAMPLES}/cartpole_gravity.py:gravities"), seed=1)
    assert gravities.max_episode_steps == 200
    assert not gravities.train.success
    env = make_vec(gravities.train, 2, max_episode_steps=200)
    env.set_tasks([Task("cartpole", 1.0), Task("cartpole", 20.0)])
    env.reset(seed=0)
    lengths = []
    for t in range(200):
        _, _, terminated, _, _ = env.step(np.array([t % 2, t % 2]))
        lengths += [(env_id, t) for env_id in np.flatnonzero(terminated)]
    first = {env_id: t for env_id, t in reversed(lengths)}
    assert first.get(0, 200) > first[1]


def test_the_cheetah_is_paid_for_its_direction(tmp_path, capsys):
    """There are two tasks and nothing is held out: evaluation plays the train tasks."""
    name = f"{EXAMPLES}/cheetah_direction.py:directions"
    assert train_small(tmp_path / "run", "rl2", name, 1) == 0
    assert cli.run(["evaluate", str(tmp_path / "run"), "--suite", name, "--device", "cpu"]) == 0
    assert "Nothing here was held out" in capsys.readouterr().out
    content = json.loads((tmp_path / "run" / "evaluation.json").read_text())
    assert content["sides"].keys() == {"train"}
    assert content["sides"]["train"]["by_task"].keys() == {"forward", "backward"}
    line = metrics(tmp_path / "run")[0]
    assert line["success"] == 0  # this environment reports success
    directions = user_suite(run_file(f"{EXAMPLES}/cheetah_direction.py:directions"))
    assert (directions.test, directions.max_episode_steps, directions.train.success) == (None, 200, True)
    env = make_vec(directions.train, 2)
    env.set_tasks(directions.train.tasks)
    env.reset(seed=0)
    first, second = (env.engine.envs[i][1].unwrapped for i in range(2))
    second.set_state(first.data.qpos.copy(), first.data.qvel.copy())
    _, reward, *_ = env.step(np.zeros((2, 6), np.float32))
    assert reward[0] == pytest.approx(-reward[1])
    assert reward[0] != 0


def test_push_physics_differ_from_upstream_only_in_the_puck(tmp_path):
    pucks = user_suite(run_file(f"{EXAMPLES}/push_physics.py:pucks"), seed=1)
    puck = pucks.train.make("push-v3")
    upstream_env = StockEnv("push-v3", goal_visible=True)
    upstream_env.set_task(suite("ml1:push-v3").train.tasks[0].params)
    upstream_env.reset()
    rng = np.random.default_rng(0)
    actions = rng.uniform(-1, 1, (30, 4)).astype(np.float32)
    actions[:, 2] = -1  # down, onto the puck
    observations = []
    for params in ((1.0, 1.0), (5.0, 0.2)):
        puck.set_task(params)
        puck.reset()
        observations.append([puck.step(action)[0] for action in actions])
    upstream = [upstream_env.step(action)[0] for action in actions]
    assert np.array_equal(observations[0], upstream)
    assert puck.env.model.body_mass[puck.body] == 5 * puck.upstream[0]
    puck.set_task((1.0, 1.0))
    assert puck.env.model.body_mass[puck.body] == puck.upstream[0]


def test_the_examples_are_short():
    for path in EXAMPLES.glob("*.py"):
        code = [line for line in path.read_text().split('"""', 2)[2].splitlines() if line.strip()]
        assert len(code) <= (120 if path.name == "my_agent.py" else 45), path


# ---------------------------------------------------------------------------------------------------------------------
# files run only if the user names them


def test_no_command_runs_a_file_because_a_run_directory_names_it(runs, tmp_path, monkeypatch, capsys):
    """A run may come from someone else: its file runs neither from its recorded path nor from the run directory."""
    marker = tmp_path / "mark"
    evil = f"import pathlib\npathlib.Path({str(marker)!r}).touch()\n"
    shutil.copytree(runs / "mine", tmp_path / "run", symlinks=True)
    run = tmp_path / "run"
    config = json.loads((run / "config.json").read_text())
    for label in config["files"]:
        path = user_file(tmp_path / "run", evil, label.partition(":")[0])
        config["files"][label]["path"] = str(path)
    (run / "config.json").write_text(json.dumps(config))
    monkeypatch.chdir(run)
    for args in (
        ["evaluate", str(run)],
        ["render", str(run)],
        ["train", "--resume", str(run)],
        ["evaluate", str(run), "--quiet"],
    ):
        capsys.readouterr()
        assert cli.run(args) == 2
        assert "which is run only where you name it yourself" in capsys.readouterr().err
    for change in ({}, {"files": {}}, {"files": []}, {"files": {"my_agent.py:MyAgent": 3}}):
        broken = {key: value for key, value in config.items() if key != "files"} | change
        (run / "config.json").write_text(json.dumps(broken))
        checkpoint_file = run / "checkpoints" / "latest" / "checkpoint.json"
        content = json.loads(checkpoint_file.read_text())
        content["config"].pop("files", None)
        checkpoint_file.write_text(json.dumps(content | {"config": content["config"] | change}))
        assert cli.run(["evaluate", str(run)]) == 2
        assert cli.run(["train", "--resume", str(run)]) == 2
        assert "Traceback" not in capsys.readouterr().err
    assert cli.run(["report", str(run), "--quiet"]) == 0
    assert not marker.exists()


def test_the_command_that_the_error_names_works(runs, capsys):
    assert cli.run(["evaluate", str(runs / "mine")]) == 2
    command = capsys.readouterr().err.strip().rpartition(": metarl ")[2]
    assert cli.run([*command.split(), "--train-goals", "0", "--quiet", "--device", "cpu"]) == 0


def test_a_changed_file_is_reported(runs, tmp_path, monkeypatch, capsys):
    file = user_file(tmp_path / "files", (EXAMPLES / "point_robot.py").read_text(), "point_robot.py")
    run = tmp_path / "run"
    assert train_small(run, "random", f"{file}:point_robot", 1) == 0
    args = ["evaluate", str(run), "--suite", f"{file}:point_robot", "--train-goals", "0", "--quiet"]
    assert cli.run(args) == 0
    assert "warnings" not in json.loads((run / "evaluations" / "all-goals_000000000040_tr0.json").read_text())
    file.write_text(file.read_text().replace("0.1 * np.clip", "0.2 * np.clip"))
    capsys.readouterr()
    assert cli.run(args) == 0
    assert f"Beware: {file} is not what the run was trained with" in capsys.readouterr().out
    content = json.loads((run / "evaluation.json").read_text())
    assert "SHA-256" in content["warnings"][0]
    assert cli.run(["report", str(run), "--quiet"]) == 0
    assert "is not what the run was trained with" in (run / "report.html").read_text()
    assert cli.run(["train", "random", f"{file}:point_robot", "--resume", str(run), "--steps", "80"]) == 0
    assert "Beware" in capsys.readouterr().out


def test_a_run_may_be_evaluated_on_another_suite_of_its_file(runs, capsys):
    other_suite = f"{EXAMPLES}/point_robot.py:circle"
    assert cli.run(["evaluate", str(runs / "rl2"), "--suite", other_suite, "--train-goals", "0", "--quiet"]) == 0
    evaluation = next((runs / "rl2" / "evaluations").glob("*circle*.json"))
    content = json.loads(evaluation.read_text())
    assert (content["suite"], content["trained_on"]["suite"]) == ("point_robot.py:circle", "point_robot.py:point_robot")
    points = np.array([params for _, params in content["sides"]["test"]["goals"]])
    assert np.hypot(*points.T) == pytest.approx(np.ones(50))
    capsys.readouterr()
    assert cli.run(["evaluate", str(runs / "rl2"), "--suite", f"{EXAMPLES}/cartpole_gravity.py:gravities"]) == 2
    assert "which is run only where you name it yourself" in capsys.readouterr().err


def test_a_metaworld_run_may_be_evaluated_on_user_defined_dynamics(tmp_path, capsys):
    assert train_small(tmp_path / "run", "random", "mt1:push-v3", 1, "--engine", "python") == 0
    file = user_file(tmp_path / "files", f"import sys\nsys.path.append({str(EXAMPLES)!r})\n" + _FEW)
    args = ["evaluate", str(tmp_path / "run"), "--train-goals", "0", "--quiet"]
    assert cli.run([*args, "--suite", f"{file}:few"]) == 0
    content = json.loads(next((tmp_path / "run" / "evaluations").glob("*few*.json")).read_text())
    assert content["sides"]["test"]["goals"][0] == ["push-v3", [2.0, 1.0]]
    assert content["sides"]["test"]["figures"]["deterministic"].keys() == {"success", "last_success", "return"}
    assert cli.run([*args, "--suite", f"{EXAMPLES}/cartpole_gravity.py:gravities"]) == 2
    assert "has other observation or action spaces than mt1:push-v3" in capsys.readouterr().err


_FEW = """
from metarl.evaluation.tables import table, verdict
from metarl.envs import Suite, Task, TaskDistribution
import push_physics
def few():
    sides = ((Task("push-v3", (1.0, 1.0)),), (Task("push-v3", (2.0, 1.0)),))
    return Suite("", 0, *(TaskDistribution(some, make=lambda name: push_physics.Puck()) for some in sides))
"""


def test_user_names_may_equal_built_in_names(tmp_path):
    """The file is called rl2.py or random.py, and the agent rl2."""
    text = (EXAMPLES / "my_agent.py").read_text() + "\nrl2 = MyAgent\n"
    for name in ("rl2.py", "random.py"):
        assert train_small(tmp_path / name, f"{user_file(tmp_path / 'files', text, name)}:rl2", POINT, 1) == 0
        config = json.loads((tmp_path / name / "config.json").read_text())
        assert config["agent"] == f"{name}:rl2"
        assert "clip" in config["settings"]
    import random

    assert hasattr(random, "randrange")
    assert train_small(tmp_path / "built-in", "rl2", POINT, 1) == 0


def test_validation_takes_the_tasks_of_another_seed(tmp_path, capsys):
    point_robot = user_suite(run_file(POINT), seed=1)
    validation_tasks = point_robot.validation(20).tasks
    assert len(validation_tasks) == 20
    assert not {*validation_tasks} & {*point_robot.train.tasks, *point_robot.test.tasks}
    assert train_small(tmp_path / "run", "random", POINT, 1, "--evaluate-every", "1") == 0
    assert "validation_return" in metrics(tmp_path / "run")[0]
    seedless = f"{EXAMPLES}/cheetah_direction.py:directions"
    with pytest.raises(UserError, match="no tasks of another seed"):
        user_suite(run_file(seedless)).validation(2)


def test_a_user_defined_few_shot_learner(tmp_path, capsys):
    text = (
        "from metarl.agents.fewshot import maml\nclass Mine(maml.MAML):\n    training = 'examples'\n"
        "    PRESETS = {'default': maml.PRESETS['maml']['default']}\n"
    )
    agent, run = f"{user_file(tmp_path / 'files', text)}:Mine", str(tmp_path / "run")
    small = "--shots 2 --queries 2 --meta-batch 2 --updates 2 --steps 4 --device cpu --quiet".split()
    assert cli.run(["train", agent, "sinusoid", *small, "--channels", "4", "--run-dir", run]) == 0
    args = ["evaluate", run, "--episodes", "4", "--no-train", "--device", "cpu", "--quiet"]
    assert cli.run(args) == 2
    assert f"metarl evaluate {run} --agent {agent}" in capsys.readouterr().err
    assert cli.run([*args, "--agent", agent]) == 0
    assert json.loads((tmp_path / "run" / "evaluation.json").read_text())["agent"] == "own.py:Mine"
