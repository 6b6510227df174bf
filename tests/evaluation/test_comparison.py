"""Comparisons against numbers worked out by hand, and the command on planted evaluations and on real runs."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from builders.comparing import printed, wide, written  # noqa: F401
from builders.tiny import refused, train
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from scipy.stats import mannwhitneyu, trim_mean

from metarl import cli
from metarl.envs import Task
from metarl.errors import UserError
from metarl.evaluation import intervals as statistics
from metarl.evaluation.aggregates import aggregate, performance_profile, probability_of_improvement
from metarl.evaluation.all_goals import side_content
from metarl.evaluation.comparison import ByGoal, groups
from metarl.evaluation.measures import RETURN, SUCCESS

SCORES = np.array([[0.0, 1.0], [0.2, 0.6], [0.4, 0.9], [1.0, 0.1]])


def evaluation(success: dict[str, list[float]], seed: int = 1, **header: Any) -> dict[str, Any]:
    """An evaluation with a trial of two episodes a goal: every first episode fails, the last ones are given by task."""
    goals = [Task(task, (float(i),)) for task, values in success.items() for i in range(len(values))]
    last = np.concatenate(list(success.values()))
    figures = np.stack([0 * last, last], -1)[:, None]
    measures = {"success": figures, "last_success": figures / 2, "return": 100 * figures}
    content = {
        "protocol": "all-goals",
        "run": f"run_{seed}",
        "agent": "rl2",
        "suite": "custom",
        "suite_seed": 1,
        "run_seed": seed,
        "checkpoint": "000000000080",
        "step": 80,
        "trials": 1,
        "episodes": 2,
        "adapt_every": None,
        "max_episode_steps": 20,
        "reward": "v2",
        "terminate_on_success": False,
        "trained_on": {"suite": "custom", "suite_seed": 1},
        "sides": {"test": side_content(goals, {"sampled": measures}, None)},
    }
    return {**content, **header}


def test_scores_are_means_by_task():
    a, b = evaluation({"push": [1, 0, 0, 0], "reach": [1, 1]}), evaluation({"reach": [0, 1], "push": [1, 1, 1, 0]}, 2)
    np.testing.assert_array_equal(ByGoal("test").scores([a, b], SUCCESS), [[0.25, 1.0], [0.75, 0.5]])
    np.testing.assert_array_equal(ByGoal("test").scores([a, b], RETURN, 0), np.zeros((2, 2)))
    for side, mode, says in (("train", "sampled", "no train goals"), ("test", "deterministic", "no deterministic actions")):
        with pytest.raises(UserError, match=says):
            ByGoal(side, mode).scores([a], SUCCESS)
    with pytest.raises(UserError, match="same tasks"):
        ByGoal("test").scores([a, evaluation({"reach": [0, 1]})], SUCCESS)


def test_aggregates_of_known_scores():
    found = aggregate(SCORES)
    assert found["mean"].mean == pytest.approx(4.2 / 8)
    assert found["iqm"].mean == pytest.approx((0.2 + 0.4 + 0.6 + 0.9) / 4)  # sorted: 0 0.1 | 0.2 0.4 0.6 0.9 | 1 1
    assert found["median"].mean == pytest.approx((0.4 + 0.65) / 2)  # of the tasks' means
    assert all(interval.low < interval.mean < interval.high for interval in found.values())
    assert aggregate(SCORES) == found
    assert aggregate(SCORES[:1])["iqm"] == (0.5, None, None)


def test_bootstrap_draws_whole_runs():
    # two runs, four tasks: a quarter of the draws has the first run twice, a quarter the second
    for interval in aggregate(np.array([[0.0] * 4, [1.0] * 4])).values():
        assert interval == (0.5, 0.0, 1.0)
    # four runs of 0 1 1 1: their draws' means are binomial(4, 3/4) / 4; P(1/4 or less) = 0.051, P(0) = 0.004
    assert aggregate(np.array([[0.0], [1.0], [1.0], [1.0]]))["mean"] == (0.75, 0.25, 1.0)


def test_performance_profile_of_known_scores():
    found = performance_profile(SCORES, np.array([-1.0, 0.0, 0.4, 1.0]))
    np.testing.assert_allclose(found[:, 0], [1, 7 / 8, 4 / 8, 0])
    assert (found[:, 1] <= found[:, 0]).all()
    assert (found[:, 0] <= found[:, 2]).all()
    np.testing.assert_array_equal(found[0], 1)
    assert np.isnan(performance_profile(SCORES[:1], np.array([0.5]))[0, 1:]).all()


def test_probability_of_improvement_of_known_scores():
    # pairs by task: (3>2) (3>1) (1<2) (1=1): 2.5 of 4; second task: always better
    a, b = np.array([[3.0, 9.0], [1.0, 9.0]]), np.array([[2.0, 0.0], [1.0, 0.0]])
    found = probability_of_improvement(a, b)
    assert found.mean == (2.5 / 4 + 1) / 2
    assert found.low == (0 + 1) / 2  # one draw in 16 has 1 and 1 against 2 and 2
    assert found.high == 1
    assert probability_of_improvement(a[:1], b) == (1.0, None, None)


@given(
    arrays.arrays(float, st.tuples(st.integers(1, 6), st.just(2)), elements=st.integers(0, 3).map(float)),
    arrays.arrays(float, st.tuples(st.integers(1, 6), st.just(2)), elements=st.integers(0, 3).map(float)),
)
@settings(max_examples=30, deadline=None)
def test_definitions_equal_scipys(a, b):
    u = [mannwhitneyu(a[:, task], b[:, task], method="asymptotic").statistic / len(a) / len(b) for task in range(2)]
    assert probability_of_improvement(a, b).mean == pytest.approx(np.mean(u))
    assert aggregate(a)["iqm"].mean == pytest.approx(trim_mean(a, 0.25, axis=None))


def test_paired_by_goal_wherever_it_stands():
    a, b = evaluation({"reach": [0, 0, 1, 1]}), evaluation({"reach": [1, 0, 1, 1]}, 2)
    for content in (b["sides"]["test"],):
        order = [2, 0, 3, 1]
        content["goals"] = [content["goals"][i] for i in order]
        content["figures"]["sampled"] = {k: [v[i] for i in order] for k, v in content["figures"]["sampled"].items()}
    found = ByGoal("test").paired(a, b, SUCCESS)
    assert found.difference == statistics.difference(np.array([1.0, 0, 0, 0]))
    assert found.improvement == statistics.proportion(np.array([1, 0.5, 0.5, 0.5]))
    assert found.count == 4
    # returns 100, 0, 0, 0: mean 25, s = 50, t(0.975, 3) = 3.1824
    assert ByGoal("test").paired(a, b, RETURN).difference == pytest.approx((25, 25 - 79.56, 25 + 79.56), abs=0.01)
    assert ByGoal("test").paired(b, a, SUCCESS).difference.mean == -0.25
    with pytest.raises(UserError, match="no test goal in common"):
        ByGoal("test").paired(a, evaluation({"push": [1, 1]}), SUCCESS)


def test_what_cannot_be_compared_is_named():
    one = evaluation({"reach": [0, 1]})
    assert ByGoal("test").problems([one, evaluation({"reach": [1, 1]}, 2, agent="maml-trpo", step=9)]) == []
    (said,) = ByGoal("test").problems([one, evaluation({"reach": [1, 1]}, 2, max_episode_steps=500)])
    assert said == "the length of an episode differs: run_1 has 20, run_2 has 500"
    for key in ("suite", "suite_seed", "reward", "terminate_on_success"):
        assert len(ByGoal("test").problems([one, {**one, key: "other"}])) == 1
    assert ByGoal("test").problems([one, {**one, "episodes": 10}]) == []  # agents need more or less experience
    more = evaluation({"reach": [1, 1, 1]})
    assert ByGoal("test").problems([one, more]) == ["the test goals are not the same"]
    assert ByGoal("train").problems([one, more]) == []


def test_seeds_are_grouped_by_what_they_share():
    rates = {"reach": [0.0, 1.0]}
    contents = [evaluation(rates, seed, settings={"width": w, "clip": 0.2}) for seed, w in ((1, 8), (2, 8), (1, 16))]
    contents.append(evaluation(rates, 1, agent="random"))
    found = groups(contents)
    assert {label: [c["run_seed"] for c in some] for label, some in found.items()} == {
        "rl2, width 8": [1, 2],
        "rl2, width 16": [1],
        "random": [1],
    }


def test_two_runs_on_the_same_goals(tmp_path, capsys):
    a, b = evaluation({"reach": [0] * 20, "push": [0] * 20}), evaluation({"reach": [1] * 20, "push": [0] * 20}, 2)
    assert cli.run(["compare", *written(tmp_path, a=a, b=b)]) == 0
    shown = printed(capsys)
    difference = ByGoal("test").paired(a, b, SUCCESS).difference
    assert f"last episode: success (any step) 0.00 0.50 {difference.text('+.2f')} 0.75" in shown
    assert "Last episode, success (any step): B is better, B minus A +0.50" in shown
    assert "reach 0.00 1.00 +1.00" in shown
    assert "push 0.00 0.00 +0.00" in shown
    assert cli.run(["compare", *written(tmp_path, b=b, a=a)]) == 0
    assert "A is better" in printed(capsys)
    assert cli.run(["compare", *written(tmp_path, a=a, again=a)]) == 0
    assert "no difference shown, B minus A +0.00 [-" in printed(capsys)


def test_several_runs_by_agent(tmp_path, capsys):
    contents = {f"s{seed}": evaluation({"reach": [seed % 2, 1]}, seed) for seed in (1, 2, 3)}
    contents["other"] = evaluation({"reach": [0, 0]}, 1, agent="random")
    args = ["compare", *written(tmp_path, **contents)]
    assert cli.run([*args, "--plot", str(tmp_path / "profiles.png")]) == 0
    shown = printed(capsys)
    assert "rl2 3 seeds 0.83 [0.50, 1.00]" in shown
    assert "random 1 seed 0.00 [–]" in shown
    assert "A run of random is better than one of rl2 with probability 0.00 [–]" in shown
    assert (tmp_path / "profiles.png").stat().st_size > 5000
    assert cli.run([*args, "--plot", str(tmp_path / "profiles.nonsense")]) == 2


def test_what_differs_is_refused_unless_told(tmp_path, capsys):
    a, b = evaluation({"reach": [0, 1, 1]}), evaluation({"reach": [1, 1]}, 2, max_episode_steps=500)
    args = ["compare", *written(tmp_path, a=a, b=b)]
    assert cli.run(args) == 2
    said = capsys.readouterr().err
    assert "the length of an episode differs: run_1 has 20, run_2 has 500" in said
    assert "the test goals are not the same" in said
    assert "--anyway" in said
    assert cli.run([*args, "--anyway"]) == 0
    shown = printed(capsys)
    assert "Beware: the length of an episode differs" in shown
    assert "2 held-out goals that both were evaluated on" in shown
    assert "last episode: success (any step) 0.50 1.00 +0.50" in shown  # A's figure is of the two goals in common


def test_wrong_files_are_refused(tmp_path, monkeypatch, capsys):
    folder, empty = tmp_path / "files", tmp_path / "empty"
    folder.mkdir()
    empty.mkdir()
    good, other, cut, upstream, old = written(
        folder,
        good=evaluation({"reach": [1]}),
        other=evaluation({"reach": [0]}),
        cut={},
        upstream={"sides": {"test": {"success": 1}}},
        old={key: value for key, value in evaluation({"reach": [1]}).items() if key != "max_episode_steps"},
    )
    Path(cut).write_text('{"sides"')
    for args, says in (
        ([good], "at least two"),
        ([good, good], "named twice"),
        ([good, cut], "damaged"),
        ([good, old], "another version"),
        ([good, upstream], "not an evaluation of all goals"),
        ([good, str(folder / "none")], "there is no run"),
        ([good, other, "--side", "train"], "no train goals; it has test"),
        ([good, other, "--mode", "deterministic"], "no deterministic actions; it has sampled"),
        ([good, other, "--plot", "x.png"], "at least three"),
    ):
        refused(["compare", *args], says, empty, monkeypatch, capsys)


def test_runs_are_compared_by_their_evaluations(tmp_path, capsys):
    paths = [str(tmp_path / name) for name in ("one", "two")]
    for seed, path in enumerate(paths):
        assert train(Path(path), 1, "--goals", "2", "--seed", str(seed)) == 0
    assert cli.run(["compare", *paths]) == 2
    assert f"{paths[0]} has no evaluation yet: metarl evaluate {paths[0]}" in capsys.readouterr().err
    for path in paths:
        assert cli.run(["evaluate", path, "--device", "cpu", "--quiet"]) == 0
    assert cli.run(["compare", paths[0], f"{paths[1]}/checkpoints/latest", "--mode", "deterministic", "--side", "train"]) == 0
    assert "2 train goals that both were evaluated on, deterministic actions" in printed(capsys)
    assert cli.run(["train", "--resume", paths[0], "--steps", "160", "--quiet"]) == 0
    assert cli.run(["compare", *paths]) == 0
    assert f"{paths[0]} was evaluated at step 80, but has trained further since: metarl evaluate {paths[0]}" in printed(capsys)
