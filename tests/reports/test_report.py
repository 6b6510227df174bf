"""The report, read by a real browser."""

import copy
import csv
import io
import json
import re
import subprocess
from dataclasses import replace
from pathlib import Path
from unittest.mock import patch

import imageio_ffmpeg
import numpy as np
import pytest
from builders.made_runs import adapts, evaluation, make_run
from builders.pages import WAITS, check_page, plain, report, spoil, text
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image

from metarl.envs import Task, suite
from metarl.evaluation import formatting as numbers
from metarl.evaluation.wording import upstream_sentence
from metarl.reports.comparison import compare
from metarl.reports.control.sentences import sentences, warnings
from metarl.reports.page import render, section
from metarl.reports.reading import read
from metarl.reports.tables import Table

PLANTED = json.loads(json.dumps(evaluation({side: suite("ml10").test.tasks[40:60] for side in ("train", "test")})))
NAME = "<script>alert(1)<"  # a file's name cannot hold the slash of the end tag


@pytest.fixture(scope="module")
def one(tmp_path_factory):
    """A run with a video, and its report."""
    run = make_run(tmp_path_factory.mktemp("one") / ("a_long_name_" * 12))
    film(run / "videos" / "000000003000.mp4")
    assert report(run) == 0
    return run


def film(path: Path) -> Path:
    """A short video in the format of `metarl render`."""
    path.parent.mkdir()
    ffmpeg = [
        imageio_ffmpeg.get_ffmpeg_exe(),
        "-loglevel",
        "error",
        "-f",
        "lavfi",
        "-i",
        "testsrc=duration=1:size=64x48:rate=5",
    ]
    subprocess.run([*ffmpeg, "-c:v", "libx264", "-pix_fmt", "yuv420p", str(path)], check=True)
    return path


def test_a_gif_is_shown(tmp_path):
    run = make_run(tmp_path / "run", goals=2)
    (run / "videos").mkdir()
    Image.new("RGB", (8, 6)).save(run / "videos" / "000000003000.gif")
    assert report(run) == 0
    page = (run / "report.html").read_text()
    assert '<img src="data:image/gif;base64,R0lGOD' in page
    assert "000000003000.gif" in page


def test_one_run(one, chromium):
    check_page(chromium, one / "report.html")
    shown = text(chromium)
    said = r"After 2 episodes of experience it succeeds on 90 % \[\d\d, \d\d\] of 50 held-out goals; before, on 34 % \["
    assert re.search(said, shown)
    assert "1 seed (seed 1)" in shown
    assert chromium.run("document.images.length") == 6
    assert chromium.run("document.querySelectorAll('video').length") == 1


def test_a_narrow_screen_needs_no_scrolling_sideways(one, chromium):
    chromium.open(one / "report.html")
    chromium.look(390)
    assert chromium.run("document.documentElement.scrollWidth") <= 390


def test_pictures_follow_the_dark_page(one, chromium):
    chromium.open(one / "report.html")
    chromium.run(WAITS)
    light, dark = chromium.look(900), chromium.look(900, dark=True)
    assert _brightness(light) > 200
    assert _brightness(dark) < 60
    style = chromium.run("atob(document.images[0].src.split(',')[1])")
    assert "prefers-color-scheme:dark" in style


def _brightness(png: bytes) -> float:
    return float(np.asarray(Image.open(io.BytesIO(png)).convert("L")).mean())


def test_a_name_that_is_markup_is_text(tmp_path, chromium):
    run = make_run(tmp_path / NAME, agent="<script>alert(1)</script>")
    film(run / "videos" / '"><script>alert(2).mp4')
    page = tmp_path / "page.html"
    assert report(run, "--out", page) == 0
    check_page(chromium, page)
    assert chromium.run("document.querySelector('h1').textContent") == NAME
    assert "<script>alert(1)</script> on ml1:reach-v3" in text(chromium)


def test_figures_and_tables_lie_beside_the_page(one):
    folder = one / "report"
    pictures = {path.stem for path in folder.glob("*.svg")}
    assert {"adaptation_success", "learning_return", "goals_test_above", "goals_test_front"} <= pictures
    assert pictures == {path.stem for path in folder.glob("*.png")}
    rows = list(csv.DictReader((folder / "summary.csv").open()))
    content = json.loads((one / "evaluation.json").read_text())
    assert [row["goals"] for row in rows] == ["train goals", "held-out goals"]
    assert float(rows[1]["success after low"]) == content["sides"]["test"]["by_episode"]["sampled"]["success"][-1][1]
    assert "| held-out goals | 34 % \\[" in plain((folder / "summary.md").read_text())
    first = {path.name: path.read_bytes() for path in folder.iterdir()}
    assert report(one) == 0
    assert first == {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.mark.parametrize("agent", ["rl2", "maml-trpo"])
def test_a_legend_covers_no_curve_and_is_whole(tmp_path, agent):
    sides = {side: suite("ml1:reach-v3").test.tasks[:10] for side in ("train", "validation", "test")}
    run = make_run(tmp_path / "run", agent=agent, tasks=sides, adapt_every=1 if agent == "maml-trpo" else None)
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    more = {"validation_success": 0.5, "validation_return": 9.0, "test_success": 0.5, "test_return": 9.0}
    (run / "metrics.jsonl").write_text("".join(json.dumps(line | more) + "\n" for line in lines))
    others = [make_run(tmp_path / name, agent=name, goals=10) for name in ("rl2", "maml-trpo")]
    drawn = []
    save = Figure.savefig

    def keep(figure, *args, **options):
        drawn.append(figure)
        save(figure, *args, **options)

    with patch("metarl.reports.drawing.Figure.savefig", keep):
        section(1, read(run))
        compare([section(i, read(other)) for i, other in enumerate(others)])
    with_legends = {id(figure): figure for figure in drawn if figure.legends}.values()
    assert len(with_legends) == 3 * 6 + 2  # learning, adaptation and maps of each run, the comparison
    for figure in with_legends:
        FigureCanvasAgg(figure)
        (legend,) = figure.legends
        box = legend.get_window_extent()
        assert 0 <= box.x0 < box.x1 <= figure.bbox.x1
        assert 0 <= box.y0 < box.y1 <= figure.bbox.y1
        assert not any(box.overlaps(axis.get_tightbbox()) for axis in figure.axes)


def test_a_broken_run(tmp_path, chromium):
    run = make_run(tmp_path / "run")
    (run / "config.json").unlink()
    (run / "metrics.jsonl").write_bytes(
        b'\xff\x00garbage\n{"step": "x"}\n[]\n\n{"step": 5, "success": NaN}\n{"step": 10, "succ'
    )
    (run / "evaluation.json").write_text('{"protocol": "all-goals", "sides": {"test": {"goals": 7}}}')
    (run / "evaluations" / "all-goals_000000003000.json").write_text("[" * 10_000)
    film(run / "videos" / "cut.mp4").write_bytes(b"")
    assert report(run) == 0
    check_page(chromium, run / "report.html")
    shown = text(chromium)
    assert "config.json is missing" in shown
    assert "metrics.jsonl: 3 of 5 lines cannot be read" in shown
    assert "evaluation.json is damaged" in shown
    assert "No evaluation yet" in shown


@settings(max_examples=25, deadline=None)
@given(data=st.data())
def test_no_file_of_an_evaluation_breaks_the_report(tmp_path_factory, data):
    """Anything in the file's place of anything: it is left out, or all that is said of it can be said."""
    content = copy.deepcopy(PLANTED)
    spoil(data, content)
    path = tmp_path_factory.getbasetemp() / "damaged"
    path.mkdir(exist_ok=True)
    (path / "evaluation.json").write_text(json.dumps(content))
    run = read(path)
    assert (run.evaluation is None) == any("evaluation.json is damaged" in problem for problem in run.problems)
    with patch("metarl.reports.drawing.Figure.savefig"):  # nothing is drawn on paper, but everything is made to be
        made = section(1, run)
    assert "<b>" not in render([replace(made, parts=[])], [], "folder")


def test_a_run_that_goes_on_and_was_never_evaluated(tmp_path, chromium):
    from metarl.runs.directory import Run

    run = make_run(tmp_path / "run", evaluated=False)
    writer = Run(run, {})
    writer.lock()
    with (run / "metrics.jsonl").open("a") as file:
        file.write('{"iteration": 3, "ste')
    assert read(run).problems == []
    assert report(run) == 0
    check_page(chromium, run / "report.html")
    assert "running: 3,000 environment steps of 3,000 so far" in text(chromium)
    writer.close()
    assert not read(run).running


def test_zero_successes(tmp_path):
    run = make_run(tmp_path / "run", rate=lambda goal, e: 0.0)
    assert report(run) == 0
    assert sentences(read(run).evaluation)[0].startswith("It succeeded on none of the 50 held-out goals, in any episode")


def test_a_single_goal_has_no_interval(tmp_path, chromium):
    run = make_run(tmp_path / "run", goals=1)
    assert report(run) == 0
    check_page(chromium, run / "report.html")
    shown = text(chromium)
    assert "Some figures are of a single goal" in shown
    assert "The return of an episode goes from 4,000 to 4,000; paired by goal 0." in shown  # no interval
    assert not {"none", "nan", "inf"} & set(re.findall(r"\w+", shown.lower()))


def test_a_suite_that_holds_nothing_out_says_so(tmp_path, chromium):
    run = make_run(tmp_path / "run", "mt10", goals=100)
    assert report(run) == 0
    check_page(chromium, run / "report.html")
    assert "Nothing was held out" in text(chromium)
    assert chromium.run("[...document.images].filter(i => i.alt.startsWith('Success by task')).length") == 1


def test_looking_at_the_test_set_during_training_is_marked(tmp_path):
    run = make_run(tmp_path / "run")
    assert not any("during training" in warning for warning in warnings(read(run)))
    with (run / "metrics.jsonl").open("a") as file:
        file.write('{"iteration": 3, "step": 4000, "test_success": 0.5}\n')
    assert any("test goals were evaluated during training" in warning for warning in warnings(read(run)))
    assert any("evaluation is of step 3,000" in warning for warning in warnings(read(run)))


def test_metaworlds_figure_stands_beside_ours_with_the_reason(tmp_path, chromium):
    """One goal of ten solved: Meta-World's quota is full of it."""
    run = make_run(tmp_path / "run", rate=lambda goal, e: float(goal == 0), goals=10)
    upstream = {
        "protocol": "metaworld",
        "rules": "9.8.7",
        "engine": "python",
        "checkpoint": "000000003000",
        "step": 3000,
        "episodes": 10,
        "evaluations": 10,
        "episodes_counted": 3,
        "sides": {"test": {"success": 1.0, "return": 9.0, "by_task": {"reach-v3": 1.0}, "seeds": {}}},
    }
    (run / "evaluations" / "metaworld_python_000000003000.json").write_text(json.dumps(upstream))
    assert report(run) == 0
    check_page(chromium, run / "report.html")
    shown = text(chromium)
    assert "Meta-World's own evaluation reports 100 % for this checkpoint; with every goal weighted equally it is 10 %" in shown
    assert "fill that quota" in shown
    assert "python engine, rules of Meta-World 9.8.7" in shown
    upstream["sides"]["test"]["success"] = 0.1
    assert "the two agree" in upstream_sentence(upstream, read(run).evaluation)
    upstream["sides"]["test"]["success"] = 0.05
    assert "Meta-World measured 3 episodes of a task in each of 10 draws" in upstream_sentence(upstream, read(run).evaluation)


def test_twelve_runs_of_two_agents_and_another_suite(tmp_path, chromium):
    paths = [
        make_run(
            tmp_path / f"{agent} {seed}", agent=agent, seed=seed, rate=lambda goal, e, s=skill: adapts(goal, e) * s, goals=10
        )
        for agent, skill in (("rl2", 1.0), ("maml-trpo", 0.5))
        for seed in range(1, 5)
    ]
    paths += [make_run(tmp_path / f"push {seed}", "ml1:push-v3", seed=seed, goals=10) for seed in (1, 2)]
    paths += [make_run(tmp_path / NAME, "ml1:door-open-v3", goals=10), make_run(tmp_path / "new", evaluated=False)]
    page = tmp_path / "many.html"
    assert report(*paths, "--out", page) == 0
    check_page(chromium, page)
    shown = text(chromium)
    assert "Report of 12 runs" in shown
    assert "new was not evaluated" in shown
    assert "The suite differs" in shown
    assert "rl2, 4 seeds: success 90 % after adapting, 40 % before." in shown
    assert chromium.run("document.querySelectorAll('article').length") == 12
    assert chromium.run("document.querySelectorAll('nav a').length") == 12
    headings = chromium.run("[...document.querySelectorAll('.comparison h2')].map(h => h.textContent)")
    assert headings[1:] == ["Comparison: held-out goals of ml1:reach-v3", "Comparison 2: held-out goals of ml1:push-v3"]
    rows = list(csv.DictReader((tmp_path / "many" / "comparison_runs.csv").open()))
    assert [row["run"] for row in rows] == [path.name for path in paths[:8]]
    (pair,) = csv.DictReader((tmp_path / "many" / "comparison_pairs.csv").open())
    assert (pair["A"], pair["B"]) == ("rl2", "maml-trpo")
    assert float(pair["B better than A, probability"]) == 0.0
    assert (tmp_path / "many" / "comparison2_adaptation.png").stat().st_size > 5000


def test_two_runs_are_compared_goal_by_goal(tmp_path):
    before = make_run(tmp_path / "a", rate=lambda goal, e: float(goal < 5), goals=10)
    after = make_run(tmp_path / "b", agent="maml-trpo", rate=lambda goal, e: float(goal < 8), goals=10)
    assert report(before, after, "--out", tmp_path / "two.html") == 0
    (pair,) = csv.DictReader((tmp_path / "two" / "comparison_pairs.csv").open())
    assert float(pair["B minus A, goal by goal"]) == pytest.approx(0.3)
    assert float(pair["B better than A, probability"]) == 1.0


def test_tasks_without_places_have_no_map(tmp_path):
    tasks = [Task("maze", "a string"), Task("maze", "another")]
    run = make_run(tmp_path / "run", tasks={"train": tasks, "test": tasks})
    assert report(run) == 0
    assert not list((run / "report").glob("goals*"))


def test_what_is_no_run_is_refused(tmp_path, capsys):
    assert report(tmp_path) == 2
    assert "is not a run" in capsys.readouterr().err
    assert report(tmp_path / "none") == 2
    assert report(make_run(tmp_path / "run"), "--out", tmp_path / "page") == 2
    assert f"--out {tmp_path}/page.html" in capsys.readouterr().err


def test_the_evaluation_of_a_checkpoint_that_is_named(tmp_path):
    run = make_run(tmp_path / "run")
    content = evaluation({"test": suite("ml1:reach-v3").test.tasks}, lambda goal, e: 1.0, checkpoint="000000001000", step=1000)
    (run / "evaluations" / "all-goals_000000001000.json").write_text(json.dumps(content))
    (run / "checkpoints" / "000000001000").mkdir(parents=True)
    assert read(run / "checkpoints" / "000000001000").evaluation["step"] == 1000
    assert read(run).evaluation["step"] == 3000
    assert [other["step"] for other in read(run).others] == [1000]


def test_numbers_in_words():
    assert plain(numbers.percent(0.996)) == "99.6 %"
    assert plain(numbers.percent(1.0)) == "100 %"
    assert plain(numbers.points_of((-0.01, -0.002, 0.104))) == "-1 point [0, +10]"
    assert plain(numbers.percent_of((0.5, None, None))) == "50 %"


def test_a_table_in_markdown_is_no_markup():
    table = Table("t", "c", [("run", "text"), ("x", "percent")], [["a|b<script>", None], ["c", (0.5, 0.4, 0.6)]])
    assert "| a\\|b\\<script\\> |  |" in table.markdown()
    assert table.csv().splitlines() == ["run,x,x low,x high", "a|b<script>,,,", "c,0.5,0.4,0.6"]


def test_planted_rates_are_what_the_other_tests_think():
    assert sum(adapts(goal, 0) for goal in range(50)) == 17
    assert sum(adapts(goal, 1) for goal in range(50)) == 45
