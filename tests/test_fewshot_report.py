"""What evaluations of few-shot learners note, and the report that shows it."""

import copy
import csv
import json
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest.mock import patch
from xml.etree import ElementTree

import browser
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from made_runs import make_run
from PIL import Image
from test_report import JUNK, check_page, plain, report, text

from metarl import cli
from metarl.fewshot import details, evaluation
from metarl.fewshot.episodes import Examples
from metarl.fewshot.sinusoid import Sinusoid, through
from metarl.fewshot.training import trained
from metarl.report import numbers
from metarl.report.fewshot_files import tiles
from metarl.report.fewshot_words import sentences, warnings
from metarl.report.page import render, section
from metarl.report.reading import read
from metarl.rollout import EVALUATION, generator
from metarl.run import open_run

HOSTILE = "<script>alert(1)</script>&amp;\x07\"'"
SMALL = "--updates 2 --steps 4 --meta-batch 2 --queries 2 --device cpu --quiet --channels 4".split()
EPISODES = 25
"""No multiple of the episodes that are answered together."""
RUNS: dict[str, tuple[str, list[str]]] = {
    "images": ("image", ["proto", "--ways", "3", "--shots", "2", "--image-size", "16", "--evaluate-every", "1"]),
    "gradients": ("image", ["maml", "--ways", "3", "--shots", "2", "--image-size", "16", "--inner-steps", "2"]),
    "texts": ("text", ["matching", "--ways", "3", "--shots", "2"]),
    "curves": ("regression", ["maml", "--shots", "4", "--inner-lr", "0.01"]),
    "fitted": ("regression", ["transfer", "--shots", "4", "--fit", "all", "--fit-steps", "2", "--fit-lr", "0.01"]),
}


@pytest.fixture(scope="module")
def chromium():
    if browser.find() is None:
        pytest.skip("no Chromium here: apt-get install -y chromium")
    with browser.Browser() as opened:
        yield opened


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Grey images and texts of 20 classes, 6 of each; names and texts are markup."""
    folder = tmp_path_factory.mktemp("data")
    rng = np.random.default_rng(0)
    with (folder / "texts.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["text", "label"])
        for c in range(20):
            look = rng.random((16, 16))
            place = folder / "images" / f"<b>{c}&amp;"
            place.mkdir(parents=True)
            for i in range(6):
                pixels = np.uint8(255 * (0.5 * look + 0.5 * rng.random((16, 16))))
                Image.fromarray(pixels).save(place / f"{i}.png")
                writer.writerow([f"word{c} number {i} {HOSTILE}", f"area{c % 2}/{HOSTILE}{c}"])
    return {"image": f"folder:{folder / 'images'}", "text": f"csv:{folder / 'texts.csv'}", "regression": "sinusoid"}


@pytest.fixture(scope="module")
def runs(data: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Runs as the commands make them, evaluated."""
    folder = tmp_path_factory.mktemp("runs")
    for name, (kind, (agent, *options)) in RUNS.items():
        make(folder / name, agent, data[kind], *options)
        assert evaluate(folder / name) == 0
    return {name: folder / name for name in RUNS}


def make(path: Path, agent: str, data_set: str, *options: str) -> Path:
    assert cli.run(["train", agent, data_set, *SMALL, *options, "--run-dir", str(path)]) == 0
    return path


def evaluate(path: Path, *more: str) -> int:
    return cli.run(["evaluate", str(path), "--episodes", str(EPISODES), "--queries", "3", "--device", "cpu", "--quiet", *more])


def content_of(path: Path) -> dict[str, Any]:
    return json.loads((path / "evaluation.json").read_text())


def copied(run: Path, path: Path, **changed: Any) -> Path:
    """A run's files that a report reads; values of its evaluation changed."""
    path.mkdir()
    for name in ("config.json", "metrics.jsonl"):
        (path / name).write_bytes((run / name).read_bytes())
    (path / "evaluation.json").write_text(json.dumps({**content_of(run), **changed}))
    return path


# --- what is noted


def test_answers_add_up(runs):
    for name in ("images", "gradients", "texts"):
        content = content_of(runs[name])
        found = content["sides"]["test"]["answers"]
        accuracy = content["sides"]["test"]["by_shots"][-1][0]
        assert found["asked"] == EPISODES * 3 * 3
        assert found["right"] == pytest.approx(accuracy * found["asked"])
        matrix = found["matrix"]
        assert found["classes"] == 4
        if not matrix["grouped"]:
            assert np.trace(matrix["counts"]) == found["right"]
            assert np.sum(matrix["counts"]) == found["asked"]
            assert np.trace(matrix["asked"]) == found["asked"]
        assert sum(times for _, _, times, _ in found["confusions"]) == found["asked"] - found["right"]
        assert "answers" not in content["sides"]["train"]


def test_confusions_by_hand():
    """Classes 4 and 7 of the part in one episode, 7 and 5 in another; three queries of each."""
    classes = np.array([[4, 7], [7, 5]])
    answers = np.array([[[1, 2], [0, 3]], [[2, 1], [3, 0]]])
    assert list(details._confusions(classes, answers)) == [(5, 7, 3, 3), (4, 7, 2, 3), (7, 5, 1, 3)]
    names = [f"{'ab'[c % 2]}/{c}" for c in range(8)]
    rates = np.array([[1 / 3, 1], [2 / 3, 0]])
    hardest = details._hardest(names, classes, rates)
    assert [row[0] for row in hardest] == ["b/5", "a/4", "b/7"]
    assert hardest[2][1] == pytest.approx(5 / 6)
    assert hardest[2][4] == 2
    plain = details._matrix(names, classes, answers, False)
    assert plain["names"] == ["a/4", "b/5", "b/7"]
    assert plain["counts"] == [[1, 0, 2], [0, 0, 3], [0, 1, 5]]
    assert plain["asked"] == [[3, 0, 3], [0, 3, 3], [3, 3, 6]]
    grouped = details._matrix([name[0] for name in names], classes, answers, True)
    assert grouped == {"grouped": True, "all": 2, "names": ["a", "b"], "counts": [[0, 2], [0, 4]], "asked": [[0, 3], [3, 6]]}


def test_the_largest_rows_of_a_matrix_are_kept(monkeypatch):
    monkeypatch.setattr(details, "MATRIX", 2)
    found = details._matrix(list("abc"), np.array([[0, 1], [2, 1]]), np.array([[[3, 0], [1, 2]], [[1, 2], [0, 3]]]), False)
    assert (found["names"], found["all"]) == (["b", "c"], 3)


def test_example_episodes_are_the_first_ones(runs):
    """The pictures and answers are those of the episodes that the evaluation drew first."""
    run, _ = open_run(runs["images"])
    setup = trained(run, run.load()[0])
    rng = generator(0, EVALUATION, 2, 0)
    episode = setup.data.draw("test", rng, tasks=evaluation.TASKS, ways=3, shots=2, queries=3)
    with torch.no_grad():
        _, prediction = evaluation.curve(setup.agent, episode, 2)
    examples = content_of(runs["images"])["sides"]["test"]["examples"]
    assert len(examples) == details.EPISODES
    for t, example in enumerate(examples):
        images = tiles(example["items"])
        assert example["classes"] == [setup.data.classes("test")[c] for c in episode.classes[t]]
        assert example["right"] == int((prediction[t].argmax(-1) == episode.query.y[t]).sum())
        for way in range(3):
            for half, items in (
                (episode.support, example["support"][way]),
                (episode.query, [q[0] for q in example["query"][way]]),
            ):
                pixels = (half.x[t][half.y[t] == way] * 255).round().numpy()
                assert len(items) == len(pixels)
                assert all((images[item][..., 0] == one[0]).all() for item, one in zip(items, pixels))
            mine = prediction[t][episode.query.y[t] == way].softmax(-1)
            assert [q[1] for q in example["query"][way]] == mine.argmax(-1).tolist()
            assert [q[2] for q in example["query"][way]] == pytest.approx(mine.amax(-1).tolist(), abs=1e-4)
            assert [q[3] for q in example["query"][way]] == pytest.approx(mine[:, way].tolist(), abs=1e-4)


def test_example_texts_are_kept_as_written(runs, data):
    found = content_of(runs["texts"])["sides"]["test"]["examples"][0]
    assert all(HOSTILE in item for item in found["items"])
    words = {name: {found["items"][i].split()[0] for i in items} for name, items in zip(found["classes"], found["support"])}
    assert words == {name: {f"word{name.rsplit(chr(39))[-1]}"} for name in found["classes"]}


def test_large_images_are_made_small(data):
    class Colours(details.Resident):
        pass

    x = torch.rand(3, 3, 80, 80)
    shown = details._shown(Colours("c", "image", "", {}), x)
    images = tiles(shown)
    assert [image.shape for image in images] == [(details.TILE, details.TILE, 3)] * 3
    assert np.mean([image.mean() for image in images]) == pytest.approx(float(x.mean()) * 255, abs=3)


def test_gradient_steps_fit_the_curve_over_shots(runs):
    for name, taken in (("gradients", 2), ("curves", 1)):
        side = content_of(runs[name])["sides"]["test"]
        steps = side["by_steps"]
        assert steps["taken"] == taken
        level = dict(zip(steps["steps"], steps["measured"]))
        assert level[0] == pytest.approx(side["by_shots"][0], abs=1e-5)
        assert level[taken] == pytest.approx(side["by_shots"][-1], abs=1e-5)
        assert steps["difference"][steps["steps"].index(taken)] == [0, 0, 0]
        first = steps["difference"][0][0]
        assert first == pytest.approx(level[0][0] - level[taken][0], abs=1e-5)
    assert "by_steps" not in content_of(runs["fitted"])["sides"]["test"]


def test_states_after_steps_are_those_of_adapting(runs):
    run, _ = open_run(runs["gradients"])
    agent = trained(run, run.load()[0]).agent
    rng = np.random.default_rng(0)
    x = torch.from_numpy(rng.random((2, 6, *agent.kind.shape), np.float32))
    support = Examples(x, torch.arange(6).remainder(3).expand(2, 6))
    with torch.no_grad():
        begun = agent.begin(2)
        none, two, three = agent.after(begun, support, [0, 2, 3])
        assert none is begun
        once_more = agent.after(two, support, [1])[0]
        adapted = agent.adapt(begun, support)
    for name, value in adapted["params"].items():
        assert torch.equal(value, two["params"][name])
        assert torch.equal(once_more["params"][name], three["params"][name])


def test_curves_are_the_answers_of_the_learner(runs):
    run, _ = open_run(runs["curves"])
    setup = trained(run, run.load()[0])
    episode = setup.data.draw("test", generator(0, EVALUATION, 2, 0), tasks=evaluation.TASKS, shots=4, queries=3)
    example = content_of(runs["curves"])["sides"]["test"]["examples"][1]
    assert example["steps"] == list(range(11))
    np.testing.assert_allclose(example["support"], torch.cat(episode.support, -1)[1], atol=1e-4)
    grid = torch.tensor(example["x"], dtype=torch.float32)[:, None].expand(evaluation.TASKS, -1, 1)
    with torch.no_grad():
        adapted = setup.agent.adapt(setup.agent.begin(evaluation.TASKS), episode.support)
        answer = setup.agent.predict(adapted, grid)[0][1, :, 0]
    np.testing.assert_allclose(example["curves"][1], answer, atol=1e-3)
    near = [int(np.abs(np.array(example["x"]) - x).argmin()) for x, _ in example["support"]]
    assert [example["true"][i] for i in near] == pytest.approx([y for _, y in example["support"]], abs=0.3)
    assert len(content_of(runs["fitted"])["sides"]["test"]["examples"][0]["curves"]) == 2


def test_the_true_curve_is_found():
    """A sin(x - phase) through three points of it, at other places."""
    x = torch.tensor([[[-1.0], [0.5], [3.0]]])
    grid = np.linspace(-5, 5, 7)
    curve = through(Examples(x, 2.5 * torch.sin(x - 0.7)), grid)
    np.testing.assert_allclose(curve, [2.5 * np.sin(grid - 0.7)], atol=1e-5)
    assert Sinusoid().kind == "regression"


@pytest.mark.parametrize("name", ["gradients", "texts", "curves"])
def test_an_interrupted_evaluation_notes_the_same(name, runs, monkeypatch):
    path, whole, played = runs[name], evaluation.curve, []
    before = (path / "evaluation.json").read_bytes()

    def interrupted(*given: Any) -> Any:
        played.append(1)
        if len(played) == 4:  # the second batch of the test part
            raise KeyboardInterrupt
        return whole(*given)

    monkeypatch.setattr(evaluation, "curve", interrupted)
    assert evaluate(path) == 130
    assert evaluate(path) == 0
    assert len(played) == 5
    assert (path / "evaluation.json").read_bytes() == before


# --- what is shown


def test_the_page_has_the_numbers_of_the_file(runs, chromium):
    for name in ("images", "curves", "fitted"):
        assert report(runs[name]) == 0
        check_page(chromium, runs[name] / "report.html")
        content = content_of(runs[name])
        shown = text(chromium)
        show = numbers.share_of if content["measure"] == "accuracy" else numbers.error_of
        for side in ("train", "test"):
            for row in content["sides"][side]["by_shots"]:
                assert plain(show(row)) in shown
        (*_, last) = csv.DictReader((runs[name] / "report" / "by_shots.csv").open())
        word = "classes" if content["measure"] == "accuracy" else "tasks"
        assert float(last[f"held-out {word}"]) == content["sides"]["test"]["by_shots"][-1][0]
        assert float(last[f"training {word} low"]) == content["sides"]["train"]["by_shots"][-1][1]


def test_images_of_a_run(runs, chromium):
    assert report(runs["images"]) == 0
    check_page(chromium, runs["images"] / "report.html")
    shown = text(chromium)
    found = content_of(runs["images"])["sides"]["test"]
    assert "trained for 4 outer updates" in shown
    assert f"Episode 1: {found['examples'][0]['right']} of 9 queries right" in shown
    assert "among 3 of the held-out classes" in shown
    pictures = {path.stem for path in (runs["images"] / "report").glob("*.svg")}
    assert pictures >= {"shots", "hardest", "confused", "episode_1", "episode_4", "learning_accuracy", "learning_loss"}
    rows = list(csv.DictReader((runs["images"] / "report" / "confusions.csv").open()))
    assert [[row["class asked"], row["taken for"], int(row["times"])] for row in rows] == [
        row[:3] for row in found["answers"]["confusions"]
    ]


def test_texts_and_names_that_are_markup_are_text(runs, chromium):
    for name in ("texts", "images"):
        assert report(runs[name]) == 0
        check_page(chromium, runs[name] / "report.html")  # no script, nothing asked for, no error
        assert chromium.run("document.querySelectorAll('main b').length") == 0
        for path in (runs[name] / "report").glob("*.svg"):
            ElementTree.fromstring(path.read_text())
    chromium.open(runs["texts"] / "report.html")
    shown = text(chromium)
    found = content_of(runs["texts"])["sides"]["test"]["examples"][0]
    assert found["items"][0].replace("\x07", "\N{REPLACEMENT CHARACTER}") in shown
    assert "name before /" in chromium.run("[...document.images].map(i => i.alt).join(' ')")


def test_gradient_steps_are_shown(runs, chromium):
    for name in ("gradients", "curves"):
        assert report(runs[name]) == 0
        steps = content_of(runs[name])["sides"]["test"]["by_steps"]
        rows = list(csv.reader((runs[name] / "report" / "by_steps.csv").open()))[1:]
        assert [[float(x) for x in row] for row in rows] == [
            pytest.approx([n, *a, *b]) for n, a, b in zip(steps["steps"], steps["measured"], steps["difference"])
        ]
    check_page(chromium, runs["curves"] / "report.html")
    shown = text(chromium)
    assert "Before and after each gradient step" in shown
    assert "It adapts by 1 gradient step" in shown
    assert chromium.run("[...document.images].filter(i => i.alt.startsWith('Task ')).length") == 4


def test_what_more_steps_would_do_is_said(runs):
    content = read(runs["gradients"]).evaluation
    steps = content["sides"]["test"]["by_steps"]
    for change, word in (([0.1, 0.05, 0.15], "better"), ([-0.1, -0.2, -0.05], "worse"), ([0.1, -0.1, 0.3], "no clear diff")):
        steps["difference"][-1] = change
        assert any(f"After 10 it would be {word}" in said for said in sentences(content))
    content = read(runs["curves"]).evaluation
    content["sides"]["test"]["by_steps"]["difference"][-1] = [-0.1, -0.2, -0.05]
    assert any("After 10 it would be better" in said for said in sentences(content))


def test_adapting_that_harms_is_said(runs):
    content = read(runs["images"]).evaluation
    figures = content["sides"]["test"]["figures"]
    content["sides"]["test"]["figures"] = [row[::-1] for row in figures]
    assert any(said.startswith("Adapting makes it WORSE: -") for said in sentences(content))
    assert any(said.startswith("Adapting helps: +") for said in sentences({**content, "measure": "accuracy",
               "sides": {"test": {**content["sides"]["test"], "figures": figures}}}))  # fmt: skip


def test_evaluations_of_older_versions_are_shown(runs, tmp_path, chromium):
    for name in ("gradients", "curves"):
        run = copied(runs[name], tmp_path / name)
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


def test_a_damaged_part_is_left_out_and_said(runs, tmp_path):
    sides = content_of(runs["images"])["sides"]
    sides["test"]["examples"][0]["items"]["image"] = "iVBORw0KGgo="
    run = read(copied(runs["images"], tmp_path / "run", sides=sides))
    assert "examples" not in run.evaluation["sides"]["test"]
    assert "answers" in run.evaluation["sides"]["test"]
    assert any("Damaged" in said and "example episodes" in said for said in warnings(run))


@settings(max_examples=40, deadline=None)
@given(data=st.data(), name=st.sampled_from(sorted(RUNS)))
def test_no_file_of_an_evaluation_breaks_the_report(runs, tmp_path_factory, data, name):
    """Anything in the place of anything: it is left out, or all that is said of it can be said."""
    content = copy.deepcopy(content_of(runs[name]))
    place: Any = content
    while True:
        key = data.draw(st.sampled_from(sorted(place) if isinstance(place, dict) else range(len(place))))
        if not isinstance(place[key], dict | list) or not place[key] or data.draw(st.integers(0, 3)) == 0:
            break
        place = place[key]
    place[key] = data.draw(JUNK)
    path = tmp_path_factory.getbasetemp() / "damaged_few_shot"
    path.mkdir(exist_ok=True)
    (path / "config.json").write_bytes((runs[name] / "config.json").read_bytes())
    (path / "evaluation.json").write_text(json.dumps(content))
    run = read(path)
    assert (run.evaluation is None) == any("evaluation.json is damaged" in problem for problem in run.problems)
    with patch("metarl.report.drawing.Figure.savefig"):
        made = section(1, run)
    assert "<b>" not in render([replace(made, parts=[replace(part, pictures=[]) for part in made.parts])], [], "folder")


def test_before_an_evaluation_and_without_a_configuration(runs, tmp_path, chromium):
    run = copied(runs["images"], tmp_path / "run")
    (run / "evaluation.json").unlink()
    assert report(run) == 0
    check_page(chromium, run / "report.html")
    assert "No evaluation yet" in text(chromium)
    run = copied(runs["images"], tmp_path / "other")
    (run / "config.json").unlink()
    assert report(run) == 0
    check_page(chromium, run / "report.html")
    shown = text(chromium)
    assert "config.json is missing" in shown
    assert "accuracy on held-out classes" in shown


def test_looking_at_the_test_classes_is_marked(runs, tmp_path):
    run = copied(runs["images"], tmp_path / "run")
    assert not any("during training" in said for said in warnings(read(run)))
    with (run / "metrics.jsonl").open("a") as file:
        file.write('{"iteration": 9, "step": 9, "test_accuracy": 0.5}\n')
    assert any("looked at during training" in said for said in warnings(read(run)))
    assert any("evaluation is of update 4; the run has trained for 9" in said for said in warnings(read(run)))


def test_runs_are_compared_where_they_can_be(runs, data, tmp_path, chromium):
    seconds = make(tmp_path / "second", "proto", data["image"], *RUNS["images"][1][1:], "--seed", "2")
    assert evaluate(seconds) == 0
    robots = [make_run(tmp_path / f"robots {i}", seed=i, goals=5) for i in (1, 2)]
    page = tmp_path / "many.html"
    assert report(runs["images"], seconds, runs["gradients"], runs["curves"], *robots, "--out", page) == 0
    check_page(chromium, page)
    shown = text(chromium)
    assert "They are of different kinds" in shown
    assert "The data set differs" in shown
    headings = chromium.run("[...document.querySelectorAll('.comparison h2')].map(h => h.textContent)")
    assert headings[1] == f"Comparison: held-out classes of {data['image']}, 3 ways"
    assert headings[2] == "Comparison 2: held-out goals of ml1:reach-v3"
    rows = list(csv.DictReader((tmp_path / "many" / "comparison_groups.csv").open()))
    assert [(row["agent and settings"], row["seeds"]) for row in rows] == [("proto", "1, 2"), ("maml", "1")]
    ends = [content_of(path)["sides"]["test"]["by_shots"][-1] for path in (runs["images"], seconds, runs["gradients"])]
    assert float(rows[0]["2 examples of each class"]) == pytest.approx((ends[0][0] + ends[1][0]) / 2)
    assert [float(rows[1][f"2 examples of each class{end}"]) for end in ("", " low", " high")] == ends[2]
    assert report(runs["images"], runs["gradients"], "--out", tmp_path / "two.html") == 0
    (pair,) = csv.DictReader((tmp_path / "two" / "comparison_pairs.csv").open())
    assert float(pair["B minus A, episode by episode"]) == pytest.approx(ends[2][0] - ends[0][0], abs=1e-5)


def test_a_report_needs_no_torch(runs, tmp_path):
    """Which takes seconds to import."""
    code = f"import sys; from metarl import cli; assert cli.run(['report', {str(runs['texts'])!r}, '--quiet', '--out', {str(tmp_path / 'r.html')!r}]) == 0; assert 'torch' not in sys.modules"  # noqa: E501
    subprocess.run([sys.executable, "-c", code], check=True)


def test_errors_and_shares_in_words():
    assert plain(numbers.share_of((0.98712, 0.985, 0.989))) == "98.7 % [98.5, 98.9]"
    assert (
        plain(numbers.share_of((0.99996, None, None))) == "100.00 %"
        or plain(numbers.share_of((0.9996, None, None))) == "99.96 %"
    )
    assert plain(numbers.error_of((2.331, 2.004, 2.66))) == "2.33 [2.00, 2.66]"
    assert plain(numbers.error_of((0.00123456, None, None))) == "0.00123"
    assert plain(numbers.error_change_of((-0.0515, -0.525, 0.422))) == "-0.05 [-0.53, +0.42]"
    assert plain(numbers.error_change_of((0.0, 0.0, 0.0))) == "0 [0, 0]"
    assert plain(numbers.tenths_of((0.0004, -0.01, 0.02))) == "0.0 points [-1.0, +2.0]"
    assert numbers.plural(2, "class") == "2 classes"
    assert re.match(r"1 class$", numbers.plural(1, "class"))
