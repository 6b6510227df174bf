"""The report of few-shot learners, read by a real browser."""

import copy
import csv
import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest.mock import patch
from xml.etree import ElementTree

import pytest
from builders.fewshot_runs import RUNS, content_of, evaluate, make
from builders.made_runs import make_run
from builders.pages import check_page, plain, report, spoil, text
from hypothesis import given, settings
from hypothesis import strategies as st

from metarl.evaluation import formatting as numbers
from metarl.reports.fewshot.sentences import sentences, warnings
from metarl.reports.page import render, section
from metarl.reports.reading import read
from metarl.system.counts import plural


def copied(run: Path, path: Path, **changed: Any) -> Path:
    """A run's files that a report reads; values of its evaluation changed."""
    path.mkdir()
    for name in ("config.json", "metrics.jsonl"):
        (path / name).write_bytes((run / name).read_bytes())
    (path / "evaluation.json").write_text(json.dumps({**content_of(run), **changed}))
    return path


def test_the_page_has_the_numbers_of_the_file(few_shot_runs, chromium):
    for name in ("images", "curves", "fitted"):
        assert report(few_shot_runs[name]) == 0
        check_page(chromium, few_shot_runs[name] / "report.html")
        content = content_of(few_shot_runs[name])
        shown = text(chromium)
        show = numbers.share_of if content["measure"] == "accuracy" else numbers.error_of
        for side in ("train", "test"):
            for row in content["sides"][side]["by_shots"]:
                assert plain(show(row)) in shown
        (*_, last) = csv.DictReader((few_shot_runs[name] / "report" / "by_shots.csv").open())
        word = "classes" if content["measure"] == "accuracy" else "tasks"
        assert float(last[f"held-out {word}"]) == content["sides"]["test"]["by_shots"][-1][0]
        assert float(last[f"training {word} low"]) == content["sides"]["train"]["by_shots"][-1][1]


def test_images_of_a_run(few_shot_runs, chromium):
    assert report(few_shot_runs["images"]) == 0
    check_page(chromium, few_shot_runs["images"] / "report.html")
    shown = text(chromium)
    found = content_of(few_shot_runs["images"])["sides"]["test"]
    assert "trained for 4 outer updates" in shown
    assert f"Episode 1: {found['examples'][0]['right']} of 9 queries of 3 classes right" in shown
    assert "among 3 of the held-out classes" in shown
    pictures = {path.stem for path in (few_shot_runs["images"] / "report").glob("*.svg")}
    assert pictures >= {"shots", "hardest", "confused", "episode_1", "episode_4", "learning_accuracy", "learning_loss"}
    rows = list(csv.DictReader((few_shot_runs["images"] / "report" / "confusions.csv").open()))
    assert [[row["true class"], row["taken for"], int(row["times"])] for row in rows] == [
        row[:3] for row in found["answers"]["confusions"]
    ]


def test_texts_and_names_that_are_markup_are_text(few_shot_runs, chromium):
    for name in ("texts", "images"):
        assert report(few_shot_runs[name]) == 0
        check_page(chromium, few_shot_runs[name] / "report.html")  # no script, nothing asked for, no error
        assert chromium.run("document.querySelectorAll('main b').length") == 0
        for path in (few_shot_runs[name] / "report").glob("*.svg"):
            ElementTree.fromstring(path.read_text())
    chromium.open(few_shot_runs["texts"] / "report.html")
    shown = text(chromium)
    found = content_of(few_shot_runs["texts"])["sides"]["test"]["examples"][0]
    assert found["items"][0].replace("\x07", "\N{REPLACEMENT CHARACTER}") in shown
    assert "name before /" in chromium.run("[...document.images].map(i => i.alt).join(' ')")


def test_gradient_steps_are_shown(few_shot_runs, chromium):
    for name in ("gradients", "curves"):
        assert report(few_shot_runs[name]) == 0
        steps = content_of(few_shot_runs[name])["sides"]["test"]["by_steps"]
        rows = list(csv.reader((few_shot_runs[name] / "report" / "by_steps.csv").open()))[1:]
        assert [[float(x) for x in row] for row in rows] == [
            pytest.approx([n, *a, *b]) for n, a, b in zip(steps["steps"], steps["measured"], steps["difference"])
        ]
    check_page(chromium, few_shot_runs["curves"] / "report.html")
    shown = text(chromium)
    assert "Example tasks before and after each gradient step" in shown
    assert "It adapts by 1 gradient step" in shown
    assert chromium.run("[...document.images].filter(i => i.alt.startsWith('Task ')).length") == 4


def test_what_more_steps_would_do_is_said(few_shot_runs):
    content = read(few_shot_runs["gradients"]).evaluation
    steps = content["sides"]["test"]["by_steps"]
    for change, word in (([0.1, 0.05, 0.15], "better"), ([-0.1, -0.2, -0.05], "worse"), ([0.1, -0.1, 0.3], "no clear diff")):
        steps["difference"][-1] = change
        assert any(f"After 10 it would be {word}" in said for said in sentences(content))
    content = read(few_shot_runs["curves"]).evaluation
    content["sides"]["test"]["by_steps"]["difference"][-1] = [-0.1, -0.2, -0.05]
    assert any("After 10 it would be better" in said for said in sentences(content))


def test_adapting_that_harms_is_said(few_shot_runs):
    content = read(few_shot_runs["images"]).evaluation
    figures = content["sides"]["test"]["figures"]
    content["sides"]["test"]["figures"] = [row[::-1] for row in figures]
    assert any(said.startswith("Adapting makes it WORSE: -") for said in sentences(content))
    assert any(
        said.startswith("Adapting helps: +")
        for said in sentences(
            {**content, "measure": "accuracy", "sides": {"test": {**content["sides"]["test"], "figures": figures}}}
        )
    )


def test_evaluations_of_older_versions_are_shown(few_shot_runs, tmp_path, chromium):
    for name in ("gradients", "curves"):
        run = copied(few_shot_runs[name], tmp_path / name)
        content = content_of(run)
        for key in ("examples", "answers", "by_steps"):
            content["sides"]["test"].pop(key, None)
        del content["trained_with"]
        (run / "evaluation.json").write_text(json.dumps(content))
        assert report(run) == 0
        check_page(chromium, run / "report.html")
        shown = text(chromium)
        assert "made by an older metarl" in shown
        assert plain(numbers.share_of(content["sides"]["test"]["by_shots"][-1])) in shown or name == "curves"


def test_a_damaged_part_is_left_out_and_said(few_shot_runs, tmp_path):
    sides = content_of(few_shot_runs["images"])["sides"]
    sides["test"]["examples"][0]["items"]["image"] = "iVBORw0KGgo="
    run = read(copied(few_shot_runs["images"], tmp_path / "run", sides=sides))
    assert "examples" not in run.evaluation["sides"]["test"]
    assert "answers" in run.evaluation["sides"]["test"]
    assert any("Damaged" in said and "example episodes" in said for said in warnings(run))


@settings(max_examples=40, deadline=None)
@given(drawn=st.data(), name=st.sampled_from(sorted(RUNS)))
def test_no_file_of_an_evaluation_breaks_the_report(few_shot_runs, tmp_path_factory, drawn, name):
    """Anything in the place of anything: it is left out, or all that is said of it can be said."""
    content = copy.deepcopy(content_of(few_shot_runs[name]))
    spoil(drawn, content)
    path = tmp_path_factory.getbasetemp() / "damaged_few_shot"
    path.mkdir(exist_ok=True)
    (path / "config.json").write_bytes((few_shot_runs[name] / "config.json").read_bytes())
    (path / "evaluation.json").write_text(json.dumps(content))
    run = read(path)
    assert (run.evaluation is None) == any("evaluation.json is damaged" in problem for problem in run.problems)
    with patch("metarl.reports.drawing.Figure.savefig"):
        made = section(1, run)
    assert "<b>" not in render([replace(made, parts=[replace(part, pictures=[]) for part in made.parts])], [], "folder")


def test_before_an_evaluation_and_without_a_configuration(few_shot_runs, tmp_path, chromium):
    run = copied(few_shot_runs["images"], tmp_path / "run")
    (run / "evaluation.json").unlink()
    assert report(run) == 0
    check_page(chromium, run / "report.html")
    assert "No evaluation yet" in text(chromium)
    run = copied(few_shot_runs["images"], tmp_path / "other")
    (run / "config.json").unlink()
    assert report(run) == 0
    check_page(chromium, run / "report.html")
    shown = text(chromium)
    assert "config.json is missing" in shown
    assert "accuracy on held-out classes" in shown


def test_looking_at_the_test_classes_is_marked(few_shot_runs, tmp_path):
    run = copied(few_shot_runs["images"], tmp_path / "run")
    assert not any("during training" in said for said in warnings(read(run)))
    with (run / "metrics.jsonl").open("a") as file:
        file.write('{"iteration": 9, "step": 9, "test_accuracy": 0.5}\n')
    assert any("evaluated during training" in said for said in warnings(read(run)))
    assert any("evaluation is of update 4; the run has trained for 9" in said for said in warnings(read(run)))


def test_runs_are_compared_where_they_can_be(few_shot_runs, few_shot_data, tmp_path, chromium):
    seconds = make(tmp_path / "second", "proto", few_shot_data["image"], *RUNS["images"][1][1:], "--seed", "2")
    assert evaluate(seconds) == 0
    robots = [make_run(tmp_path / f"robots {i}", seed=i, goals=5) for i in (1, 2)]
    page = tmp_path / "many.html"
    assert (
        report(few_shot_runs["images"], seconds, few_shot_runs["gradients"], few_shot_runs["curves"], *robots, "--out", page)
        == 0
    )
    check_page(chromium, page)
    shown = text(chromium)
    assert "They are of different kinds" in shown
    assert "The data set differs" in shown
    headings = chromium.run("[...document.querySelectorAll('.comparison h2')].map(h => h.textContent)")
    assert headings[1] == f"Comparison: held-out classes of {few_shot_data['image']}, 3 ways"
    assert headings[2] == "Comparison 2: held-out goals of ml1:reach-v3"
    rows = list(csv.DictReader((tmp_path / "many" / "comparison_groups.csv").open()))
    assert [(row["agent and settings"], row["seeds"]) for row in rows] == [("proto", "1, 2"), ("maml", "1")]
    ends = [
        content_of(path)["sides"]["test"]["by_shots"][-1]
        for path in (few_shot_runs["images"], seconds, few_shot_runs["gradients"])
    ]
    assert float(rows[0]["2 examples of each class"]) == pytest.approx((ends[0][0] + ends[1][0]) / 2)
    assert [float(rows[1][f"2 examples of each class{end}"]) for end in ("", " low", " high")] == ends[2]
    assert report(few_shot_runs["images"], few_shot_runs["gradients"], "--out", tmp_path / "two.html") == 0
    (pair,) = csv.DictReader((tmp_path / "two" / "comparison_pairs.csv").open())
    assert float(pair["B minus A, episode by episode"]) == pytest.approx(ends[2][0] - ends[0][0], abs=1e-5)


def test_a_report_needs_no_torch(few_shot_runs, tmp_path):
    """Which takes seconds to import."""
    code = "import sys; from metarl import cli; assert cli.run(sys.argv[1:]) == 0; assert 'torch' not in sys.modules"
    args = ["report", str(few_shot_runs["texts"]), "--quiet", "--out", str(tmp_path / "page.html")]
    subprocess.run([sys.executable, "-c", code, *args], check=True)


def test_errors_and_shares_in_words():
    assert plain(numbers.share_of((0.98712, 0.985, 0.989))) == "98.7 % [98.5, 98.9]"
    assert plain(numbers.share_of((0.9996, None, None))) == "99.96 %"
    assert plain(numbers.share_of((0.99999, None, None))) == "99.99 %"
    assert plain(numbers.share_of((1.0, None, None))) == "100.0 %"
    assert plain(numbers.error_of((2.331, 2.004, 2.66))) == "2.33 [2.00, 2.66]"
    assert plain(numbers.error_of((0.00123456, None, None))) == "0.00123"
    assert plain(numbers.error_change_of((-0.0515, -0.525, 0.422))) == "-0.05 [-0.53, +0.42]"
    assert plain(numbers.error_change_of((0.0, 0.0, 0.0))) == "0 [0, 0]"
    assert plain(numbers.tenths_of((0.0004, -0.01, 0.02))) == "0.0 points [-1.0, +2.0]"
    assert plural(2, "class") == "2 classes"
    assert plural(1, "class") == "1 class"
