"""`metarl compare` on few-shot learners: planted figures against numbers worked out by hand, and runs of the commands."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from builders.comparing import printed, wide, written  # noqa: F401
from builders.fewshot_runs import content_of
from builders.tiny import refused

from metarl import cli
from metarl.evaluation import intervals
from metarl.evaluation.comparison import ByEpisode
from metarl.evaluation.measures import ACCURACY, ERROR

RIGHT = np.array([[0.0, 0.5], [0.0, 1.0], [0.5, 0.5], [0.5, 1.0]])
"""Accuracies of four episodes, without an example and with one."""


def evaluation(figures: Any = RIGHT, seed: int = 1, measure: str = "accuracy", **more: Any) -> dict[str, Any]:
    """An evaluation of one shot on held-out classes with these figures."""
    figures = np.array(figures, float)
    by_shots = [list(intervals.of_episodes(measure, column, 4)) for column in figures.T]
    content = {
        "protocol": "episodes",
        "run": f"run_{seed}",
        "agent": "proto",
        "suite": "omniglot",
        "split": "characters",
        "run_seed": seed,
        "checkpoint": "000000000004",
        "step": 4,
        "episodes": len(figures),
        "ways": 2,
        "shots": figures.shape[1] - 1,
        "queries": 2,
        "seed": 0,
        "measure": measure,
        "sides": {"test": {"by_shots": by_shots, "figures": figures.tolist()}},
    }
    return {**content, **more}


def test_two_are_paired_by_episode(tmp_path, capsys):
    a, b = evaluation(), evaluation(RIGHT + [[0, 0], [0, 0], [0, 0.5], [0, 0]], 2, agent="maml")
    difference = intervals.change_of_episodes("accuracy", np.array([0.5, 1, 1, 1]), np.array([0.5, 1, 0.5, 1]), 4)
    found = ByEpisode("test").paired(a, b, ACCURACY)
    assert found.difference == difference
    assert found.improvement == intervals.proportion(np.array([0.5, 0.5, 1, 0.5]))
    assert found.count == 4
    assert cli.run(["compare", *written(tmp_path, a=a, b=b)]) == 0
    said = printed(capsys)
    assert "A: run_1 (proto trained on omniglot, seed 1, 4 updates, 2 ways, 1 shot)" in said
    assert "4 episodes of held-out classes that both answered; B minus A is paired by episode" in said
    assert "0 shots: accuracy, percent 25.00 25.00 +0.00" in said
    assert f"1 shot: accuracy, percent 75.00 87.50 {ACCURACY.text(difference, '+')} 0.62" in said
    assert f"1 shot, accuracy, percent: no difference shown, B minus A {ACCURACY.text(difference, '+')}." in said


def test_the_lower_error_is_the_better_one(tmp_path, capsys):
    a, b = (evaluation([[2.0, high + 0.1 * i] for i in range(9)], seed, "mse") for seed, high in ((1, 0.5), (2, 1.5)))
    assert ByEpisode("test").paired(a, b, ERROR).improvement.mean == 0
    assert cli.run(["compare", *written(tmp_path, a=a, b=b)]) == 0
    said = printed(capsys)
    assert "1 shot, mean squared error: A is better, B minus A +1.0000" in said
    assert "on which B's figure is lower" in said
    assert cli.run(["compare", *written(tmp_path, a=a, b=b, c=evaluation([[2.0, 0.1]] * 9, 3, "mse", agent="nearest"))]) == 0
    assert "A run of nearest is better than one of proto with probability 1.00" in printed(capsys)


def test_several_runs_stand_together_by_agent(tmp_path, capsys):
    contents = {f"s{seed}": evaluation(RIGHT * [[1, seed / 3]], seed) for seed in (1, 2, 3)}
    contents["other"] = evaluation(RIGHT * 0, agent="nearest", run="other")
    assert cli.run(["compare", *written(tmp_path, **contents)]) == 0
    said = printed(capsys)
    assert "omniglot, held-out classes, 2 ways" in said
    assert "accuracy, percent runs 0 shots [95 %] 1 shot [95 %]" in said
    assert "proto 3 seeds 25.00 [–] 50.00 [25.00, 75.00]" in said  # 75 % times 1/3, 2/3 and 1
    assert "A run of nearest is better than one of proto with probability 0.00 [–]" in said


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        ({"suite": "clinc150"}, "the data set differs: run_1 has omniglot, run_2 has clinc150"),
        ({"split": "alphabets"}, "the split differs"),
        ({"ways": 5}, "the number of ways differs: run_1 has 2, run_2 has 5"),
        ({"queries": 9}, "the number of queries differs"),
        ({"seed": 7}, "the seed of the episodes differs: run_1 has 0, run_2 has 7"),
    ],
)
def test_what_differs_is_refused_unless_told(tmp_path, capsys, changed, says):
    args = ["compare", *written(tmp_path, a=evaluation(), b=evaluation(seed=2) | changed)]
    assert cli.run(args) == 2
    said = capsys.readouterr().err
    assert says in " ".join(said.split())
    assert "--anyway" in said
    assert cli.run([*args, "--anyway"]) == 0
    said = printed(capsys)
    assert f"Beware: {says}" in said
    assert "they answered different episodes, so B minus A is not paired" in said
    difference = intervals.recovered(*(evaluation()["sides"]["test"]["by_shots"][1] for _ in range(2)))
    assert f"1 shot: accuracy, percent 75.00 75.00 {ACCURACY.text(difference, '+')}" in said


def test_other_shots_are_refused_of_several_runs_too(tmp_path, capsys):
    more = evaluation(np.hstack([RIGHT, RIGHT[:, 1:]]), 3)
    args = ["compare", *written(tmp_path, a=evaluation(), b=evaluation(seed=2), c=more)]
    assert cli.run(args) == 2
    assert "the number of shots differs: run_1 has 1, run_2 has 1, run_3 has 2" in " ".join(capsys.readouterr().err.split())
    assert cli.run([*args, "--anyway"]) == 0
    assert "proto 3 seeds" in printed(capsys)


def test_what_cannot_be_compared_at_all_is_refused(tmp_path, monkeypatch, capsys):
    empty = tmp_path / "empty"
    empty.mkdir()
    acting = {"protocol": "all-goals", "run": "robot", "agent": "rl2", "sides": {"test": {}}, "trials": 1}
    good, other, damaged, robot, old, curve = written(
        tmp_path / "files",
        good=evaluation(),
        other=evaluation(seed=2),
        damaged=evaluation() | {"ways": 0},
        robot=acting,
        old={key: value for key, value in evaluation().items() if key != "split"},
        curve=evaluation(measure="mse"),
    )
    for args, says in (
        ([good, damaged], "is damaged or not an evaluation"),
        ([good, robot], "made by another version"),
        ([good, old], "made by another version"),
        ([good, other, "--side", "train"], "no train classes; it has test"),
        ([good, other, "--mode", "deterministic"], "a few-shot learner has no actions"),
        ([good, other, curve, "--plot", "x.png"], "few-shot learners do not have"),
        ([good, curve], "the measure differs"),
        ([good, curve, "--anyway"], "accuracies and errors cannot be compared"),
    ):
        refused(["compare", *args], says, empty, monkeypatch, capsys)


def test_runs_of_the_commands(few_shot_runs, capsys):
    images, gradients, curves = (str(few_shot_runs[name]) for name in ("images", "gradients", "curves"))
    assert cli.run(["compare", images, gradients]) == 0
    a, b = (ends["sides"]["test"]["by_shots"][-1][0] for ends in map(content_of, map(Path, (images, gradients))))
    said = printed(capsys)
    assert f"2 shots: accuracy, percent {100 * a:.2f} {100 * b:.2f} {100 * (b - a):+.2f} [" in said
    assert cli.run(["compare", images, curves]) == 2
    assert "the data set differs" in capsys.readouterr().err


def test_a_few_shot_learner_and_a_robot_are_refused_together(few_shot_runs, tmp_path, capsys):
    from builders.made_runs import make_run

    robot = make_run(tmp_path / "robot", goals=2)
    assert cli.run(["compare", str(few_shot_runs["images"]), str(robot)]) == 2
    said = " ".join(capsys.readouterr().err.split())
    assert "different kinds cannot be compared: images is of a few-shot learner, robot is of an agent that acts" in said
