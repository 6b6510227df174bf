"""An evaluation as a table, as sentences and as a picture: every figure stands where it belongs."""

import numpy as np
import pytest
from builders.made_runs import evaluation
from PIL import Image

from metarl.envs import suite
from metarl.evaluation import plots
from metarl.evaluation.plots import plot
from metarl.evaluation.tables import table, verdict

REACH = suite("ml1:reach-v3")


def _content(**more):
    """50 goals a side; train goals are solved by 10, 30, 50 of 50, held-out ones by 10, 20, 40; a blind agent solves 5."""
    solved = {"train": (10, 30, 50), "test": (10, 20, 40)}
    content = evaluation({}, agent="maml-trpo", adapt_every=2, **more)
    for side, counts in solved.items():
        rate = lambda goal, e, counts=counts: float(goal < counts[e])  # noqa: E731
        content["sides"] |= evaluation({side: getattr(REACH, side).tasks}, rate)["sides"]
    blind = evaluation({"test": REACH.test.tasks}, lambda goal, e: float(goal < 5), episodes=1)["sides"]["test"]
    content["sides"]["test"]["goal_blind"] = {"by_episode": {"sampled": blind["by_episode"]["sampled"]}}
    return content


def test_the_table_has_every_figure_in_its_column_within_80_characters(capsys):
    table(_content())
    lines = capsys.readouterr().out.splitlines()
    first = lines.index("ml1:reach-v3, 50 held-out goals, 2 trials each")
    assert [line.rstrip() for line in lines[first + 1 : first + 12]] == [
        "",
        "        sampled:          last             deterministic:    last",
        "   ep.  success [95 %]    step  return     success [95 %]    step  return",
        " " + 75 * "─",
        "     1  0.20 [0.11,0.33]  0.10  1,600±344  0.20 [0.11,0.33]  0.10  1,600±344",
        "     2  0.40 [0.27,0.54]  0.20  2,200±422  0.40 [0.27,0.54]  0.20  2,200±422",
        "",
        "     3  0.80 [0.67,0.89]  0.40  3,400±344  0.80 [0.67,0.89]  0.40  3,400±344",
        "",
        " blind  0.10 [0.04,0.21]  0.05  1,300±258",
        "",
    ]
    train = next(line for line in lines if line.startswith("   3 "))
    assert train.split()[:4] == ["3", "1.00", "[0.94,1.00]", "0.50"]


def test_the_sentences_below_the_table(capsys):
    table(_content(trained_on={"suite": "ml1:push-v3", "suite_seed": 7}))
    said = capsys.readouterr().out
    gap = "train minus held-out in the last episode: success +0.20, at the last step +0.10, return +600."
    assert gap in said
    for sentence in (
        "Held-out goals, after 2 episodes of experience versus none: success +0.60 [+0.",
        ", better; at the last step +0.30 [+0.",
        "Lines separate episodes between which the agent took a gradient step.",
        "blind: hovers at the centre of the train goals",
        "trained on ml1:push-v3, suite seed 7; the held-out goals are of ml1:reach-v3, suite seed 1.",
        "1 run (seed 1)",
    ):
        assert sentence in said
    assert "Nothing here was held out" not in said
    content = _content()
    del content["sides"]["test"]
    table(content)
    said = capsys.readouterr().out
    assert "Nothing here was held out" in said
    for sentence in ("Generalisation gap", "blind:", "trained on"):
        assert sentence not in said


def test_a_table_that_does_not_fit_is_cut_and_keeps_a_line_an_episode(capsys):
    content = evaluation({"test": suite("ml10").test.tasks[:60:6]}, lambda goal, e: float((goal + e) % 3 == 0))
    table(content)
    lines = capsys.readouterr().out.splitlines()
    rule = next(i for i, line in enumerate(lines) if "─" in line)
    assert [line.split()[0] for line in lines[rule + 1 : rule + 5] if line.strip()] == ["1", "2", "3"]
    assert "…" in lines[rule + 1]


def test_the_verdict_says_worse_and_no_clear_difference():
    tasks = {"test": REACH.test.tasks}
    worse = evaluation(tasks, lambda goal, e: float(e == 0 or goal < 10))
    assert ", WORSE; at the last step" in verdict(worse, "test")
    alike = evaluation(tasks, lambda goal, e: float((goal + e) % 2))
    assert verdict(alike, "test").count("no clear difference") == 3


def test_the_table_of_several_tasks_has_each_ones_first_and_last_episode(capsys):
    tasks = suite("ml10").test.tasks
    names = [task.name for task in tasks]
    content = evaluation({"test": tasks}, lambda goal, e: float(names[goal] == names[0] and e == 2))
    table(content)
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    first, second = (next(line for line in lines if line[:1] == [name]) for name in (names[0], names[-1]))
    assert [*first[:4], *first[-3:]] == [names[0], "0.00", "->", "1.00", "1,000", "->", "4,000"]
    assert [*second[:4], *second[-3:]] == [names[-1], "0.00", "->", "0.00", "1,000", "->", "1,000"]


@pytest.mark.parametrize("agents", [1, 2])
def test_the_picture_shows_the_means_and_nothing_beyond_its_edge(tmp_path, monkeypatch, agents):
    drawn = []
    save = plots.save_figure
    monkeypatch.setattr(plots, "save_figure", lambda figure, path: (drawn.append(figure), save(figure, path)))
    contents = [_content(run=f"run{i}") for i in range(agents)]
    plot(contents, tmp_path / "plot.png")
    (figure,) = drawn
    success, returns = figure.axes
    curves = {line.get_label(): line for line in success.lines}
    name = "held-out goals, sampled actions" if agents == 1 else "maml-trpo (run1), sampled actions"
    np.testing.assert_allclose(curves[name].get_xydata(), [[0, 0.2], [1, 0.4], [2, 0.8]])
    np.testing.assert_allclose({line.get_label(): line for line in returns.lines}[name].get_ydata(), [1600, 2200, 3400])
    assert curves["goal-blind, held-out goals"].get_ydata()[0] == pytest.approx(0.1)
    borders = [line.get_xdata()[0] for line in success.lines if line.get_color() == "0.6"]
    assert borders == ([1.5] if agents == 1 else [])
    assert {text.get_text() for text in success.texts} == ({"gradient step"} if agents == 1 else set())
    for text in success.texts:
        inside = text.get_window_extent().transformed(success.transAxes.inverted())
        assert 0 <= inside.y0 < inside.y1 <= 1
    assert "ml1:reach-v3" in figure.get_suptitle()
    (legend,) = figure.legends
    assert {text.get_text() for text in legend.get_texts()} == {label for label in curves if not label.startswith("_")}
    box = legend.get_window_extent()
    assert 0 <= box.x0 < box.x1 <= figure.bbox.x1
    assert 0 <= box.y0 < box.y1
    assert not any(box.overlaps(axis.get_tightbbox()) for axis in figure.axes)
    assert Image.open(tmp_path / "plot.png").size == (1200, 576)


def test_a_trial_of_one_episode_has_a_picture_without_borders(tmp_path, recwarn):
    content = evaluation({"test": REACH.test.tasks}, agent="maml-trpo", adapt_every=1, episodes=1)
    plot([content], tmp_path / "plot.png")
    assert not [str(warning.message) for warning in recwarn]
