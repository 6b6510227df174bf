"""Which of a run's evaluations is shown: a small one never hides a large one, and both are kept."""

import json
import os
import shutil
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
from builders.fewshot_runs import evaluate as evaluate_few_shot
from builders.fewshot_runs import make
from builders.tiny import train
from builders.user_files import STILL

from metarl import cli
from metarl.commands.report import Report
from metarl.evaluation.shown import best, evaluations
from metarl.reports.reading import read
from metarl.sharing.opening import open_run


def robots(content: dict[str, Any]) -> tuple[int, int, int]:
    """Held-out goals, trials and episodes."""
    return len(content["sides"]["test"]["goals"]), content["trials"], content["episodes"]


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run of robots, evaluated at large and then at small, two ways."""
    path = tmp_path_factory.mktemp("robots") / "run"
    assert train(path, 2, "--goals", "3") == 0
    for more in ("--trials 3", "--trials 1", "--episodes 1 --trials 2"):
        assert cli.run(["evaluate", str(path), *more.split(), "--train-goals", "0", "--quiet"]) == 0
    return path


def test_a_small_evaluation_leaves_the_large_one_where_it_is(run, capsys):
    assert robots(json.loads((run / "evaluation.json").read_text())) == (3, 3, 2)
    assert sorted(robots(content) for content in evaluations(open_run(run)[0])) == [(3, 1, 2), (3, 2, 1), (3, 3, 2)]
    assert cli.run(["evaluate", str(run), "--train-goals", "0"]) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "remains the larger one: 3 held-out goals x 3 trials x 2 episodes" in said


def test_report_and_pack_show_the_large_one_and_say_that_there_are_others(run, tmp_path):
    reading = read(run)
    assert reading.evaluation is not None
    assert robots(reading.evaluation) == (3, 3, 2)
    assert sorted(map(robots, reading.others)) == [(3, 1, 2), (3, 2, 1)]
    Report((run,), out=tmp_path / "page.html", quiet=True).main()
    page = " ".join((tmp_path / "page.html").read_text().split())
    assert "3 held-out goals x 3 trials x 2 episodes; 2 other evaluations are in a table below" in page
    assert cli.run(["pack", str(run), "--out", str(tmp_path / "model"), "--quiet"]) == 0
    assert robots(json.loads((tmp_path / "model" / "evaluation.json").read_text())) == (3, 3, 2)
    card = (tmp_path / "model" / "README.md").read_text()
    assert "equally many trials (3)" in card
    assert "the largest of 3 evaluations of these weights" in card


def test_the_newest_checkpoint_is_shown_however_little_it_was_evaluated(run, tmp_path):
    path = Path(shutil.copytree(run, tmp_path / "run", symlinks=True))
    assert cli.run(["train", "--resume", str(path), "--steps", "240", "--quiet"]) == 0
    assert cli.run(["evaluate", str(path), "--train-goals", "0", "--quiet"]) == 0
    content = json.loads((path / "evaluation.json").read_text())
    assert (content["step"], content["trials"]) == (240, 1)
    assert read(path).evaluation == content
    older = read(path / "checkpoints" / "000000000160").evaluation
    assert older is not None
    assert robots(older) == (3, 3, 2)


def test_figures_on_another_suite_are_never_shown_for_those_on_its_own(run, tmp_path):
    path = Path(shutil.copytree(run, tmp_path / "run", symlinks=True))
    before = (path / "evaluation.json").read_bytes()
    args = ["evaluate", str(path), "--suite-seed", "5", "--trials", "4", "--train-goals", "0", "--quiet"]
    assert cli.run(args) == 0
    (path / "evaluation.json").unlink()
    for shown in (read(path).evaluation, best(evaluations(open_run(path)[0]))):
        assert shown == json.loads(before)
    assert cli.run(["pack", str(path), "--out", str(tmp_path / "model"), "--quiet"]) == 0
    assert json.loads((tmp_path / "model" / "evaluation.json").read_text())["suite_seed"] == 1


def test_of_equal_ones_the_newest_is_shown(run, tmp_path):
    path = Path(shutil.copytree(run, tmp_path / "run", symlinks=True))
    assert cli.run(["evaluate", str(path), "--trials", "3", "--train-goals", "0", "--seed", "7", "--quiet"]) == 0
    shown = read(path).evaluation
    assert shown is not None
    assert shown["seed"] == 7
    assert json.loads((path / "evaluation.json").read_text()) == shown


def test_a_small_evaluation_of_a_packed_model_leaves_that_which_came_with_it(run, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert cli.run(["pack", str(run), "--out", "model", "--quiet"]) == 0
    assert cli.run(["evaluate", "model", "--train-goals", "0", "--quiet"]) == 0
    shown = read(Path("model"))
    assert shown.evaluation is not None
    assert (robots(shown.evaluation), [robots(content) for content in shown.others]) == ((3, 3, 2), [(3, 1, 2)])


def test_few_shot_evaluations_are_all_kept_and_the_largest_is_shown(few_shot_data, tmp_path, capsys):
    path = make(tmp_path / "run", "proto", few_shot_data["image"], "--ways", "3", "--image-size", "16")
    for more in ([], ["--episodes", "20"], ["--queries", "2"], ["--seed", "1", "--no-train"]):
        assert evaluate_few_shot(path, *more) == 0
    content = json.loads((path / "evaluation.json").read_text())
    assert (content["episodes"], content["queries"], content["seed"]) == (25, 3, 1)
    reading = read(path)
    assert reading.evaluation is not None
    assert (reading.evaluation["episodes"], reading.evaluation["seed"], len(reading.others)) == (25, 1, 3)
    assert cli.run(["report", str(path), "--out", str(tmp_path / "page.html"), "--quiet"]) == 0
    assert "25 episodes (3 ways, 1 shot, 3 queries); 3 other evaluations" in (tmp_path / "page.html").read_text()


def test_evaluations_of_ones_own_agent_are_all_kept(tmp_path, capsys):
    (tmp_path / "still.py").write_text(STILL)
    small = "--goals 2 --episodes 1 --train-goals 0 --max-episode-steps 2 --quiet".split()
    out = ["--agent", f"{tmp_path}/still.py:Still", "--out", str(tmp_path / "out"), *small]
    for more in (
        ["--trials", "2"],
        [],
        ["--protocol", "metaworld", "--engine", "native", "--seeds", "2"],
        ["--protocol", "metaworld", "--engine", "native"],
    ):
        assert cli.run(["evaluate", "ml1:reach-v3", *out, *more]) == 0
    assert json.loads((tmp_path / "out" / "evaluation.json").read_text())["trials"] == 2
    assert len(list((tmp_path / "out" / "evaluations").glob("all-goals_*.json"))) == 2
    assert len(list((tmp_path / "out" / "evaluations").glob("metaworld_*.json"))) == 2
    assert cli.run(["evaluate", "ml1:push-v3", *out]) == 2
    assert "still.py:Still on ml1:reach-v3: name another --out" in capsys.readouterr().err


def test_the_packed_figure_by_metaworlds_protocol_is_that_of_the_most_seeds(run, tmp_path):
    path = Path(shutil.copytree(run, tmp_path / "run", symlinks=True))
    for seeds in ("2", "1"):
        args = ["evaluate", str(path), "--protocol", "metaworld", "--engine", "native", "--seeds", seeds, "--quiet"]
        assert cli.run(args) == 0
    files = {file: json.loads(file.read_text()) for file in (path / "evaluations").glob("metaworld_*.json")}
    assert sorted(len(content["sides"]["test"]["seeds"]) for content in files.values()) == [1, 2]
    for file, content in files.items():  # as if their figures differed
        content["sides"]["test"]["success"] = len(content["sides"]["test"]["seeds"]) / 4
        del content["rules"]  # as before it was written: the header's version of the package stands for it
        file.write_text(json.dumps(content))
        os.utime(file, (1, 1))
    assert cli.run(["pack", str(path), "--out", str(tmp_path / "model"), "--quiet"]) == 0
    card = (tmp_path / "model" / "README.md").read_text()
    assert f"(engine native, rules of Meta-World {version('metaworld')}), whose quota easy goals fill: success 0.500" in card
    assert f'"engine": "native", "rules": "{version("metaworld")}"' in card
