"""Every finished evaluation on held-out goals or classes is counted, and reports and model cards say how often."""

import json
import shutil
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from builders.fewshot_runs import SMALL
from builders.fewshot_runs import evaluate as evaluate_few_shot
from builders.made_runs import make_run
from builders.tiny import STEPS, train

from metarl import cli
from metarl.evaluation.wording import said_of_looks
from metarl.reports.page import section
from metarl.reports.reading import read
from metarl.runs.looks import LOOKS, Look, append_look, read_looks

MILLION = 1_000_000


def look(step: int, suite: str = "ml10", suite_seed: int = 1) -> Look:
    return Look(
        time="2026-01-01T00:00:00+00:00",
        protocol="all-goals",
        checkpoint=f"{step:012d}",
        step=step,
        suite=suite,
        suite_seed=suite_seed,
    )


def evaluate(run: Path, *options: str) -> int:
    return cli.run(["evaluate", str(run), "--train-goals", "0", "--quiet", *options])


def counted(run: Path) -> list[tuple[Any, ...]]:
    """Protocol, checkpoint's number, step, suite and suite seed of each look."""
    looks = read_looks(run / LOOKS)
    assert all(datetime.fromisoformat(one["time"]).utcoffset() is not None for one in looks)
    return [(one["protocol"], int(one["checkpoint"]), one["step"], one["suite"], one["suite_seed"]) for one in looks]


def sentences(run: Path) -> list[str]:
    return [text for text in section(1, read(run)).sentences if text.startswith("Held-out")]


def test_what_a_crash_cut_off_is_left_out_and_spoils_nothing(tmp_path: Path) -> None:
    path = tmp_path / "evaluations" / "looks.jsonl"
    assert read_looks(path) == []
    append_look(path, {**look(1), "sides": {}})
    with path.open("a") as file:
        file.write('{"time": "2026-01-01T')
    assert [one["step"] for one in read_looks(path)] == [1]
    append_look(path, look(2))
    with path.open("a") as file:
        file.write('[1]\n{"step": "x"}\n')
    assert [one["step"] for one in read_looks(path)] == [1, 2]
    assert read_looks(path)[0].keys() == Look.__annotations__.keys()


@pytest.fixture(scope="module")
def looked_at(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run whose held-out goals were evaluated under every protocol, in and after training, and those of another seed."""
    run = tmp_path_factory.mktemp("looks") / "run"
    assert train(run, 2, "--goals", "2", "--evaluate-every", "2", "--evaluate-on", "test") == 0
    for options in ([], ["--protocol", "metaworld", "--engine", "native"], ["--suite-seed", "3"]):
        more = options if "--protocol" in options else ["--train-goals", "0", *options]
        assert cli.run(["evaluate", str(run), "--quiet", *more]) == 0
    assert evaluate(run / "checkpoints" / f"{STEPS:012d}") == 0
    return run


def test_all_protocols_count(looked_at: Path) -> None:
    end, suite = (2 * STEPS, 2 * STEPS), "ml1:reach-v3"
    assert counted(looked_at) == [
        ("training", *end, suite, 1),
        ("all-goals", *end, suite, 1),
        ("metaworld", *end, suite, 1),
        ("all-goals", *end, suite, 3),
        ("all-goals", STEPS, STEPS, suite, 1),
    ]


OWN = "Held-out goals of ml1:reach-v3 were evaluated 4 times: at 80 steps, and 3 times at 160 steps."
OTHER = "Held-out goals of other suites or suite seeds were evaluated once."


def test_reports_and_cards_say_how_often(looked_at: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert sentences(looked_at) == [OWN, OTHER]
    monkeypatch.chdir(tmp_path)
    assert cli.run(["pack", str(looked_at), "--out", "model", "--quiet"]) == 0
    assert f"{OWN} {OTHER}" in Path("model/README.md").read_text()
    assert sentences(Path("model")) == [OWN, OTHER]

    before = Path("model/looks.jsonl").read_bytes()
    assert evaluate(Path("model")) == 0
    assert Path("model/looks.jsonl").read_bytes() == before
    (made_here,) = Path("runs").iterdir()
    assert counted(made_here) == [("all-goals", 160, 160, "ml1:reach-v3", 1)]
    more = OWN.replace("4 times", "5 times").replace("3 times", "4 times")
    assert sentences(Path("model")) == [more, OTHER]
    assert cli.run(["pack", "model", "--out", "again", "--quiet"]) == 0
    assert f"{more} {OTHER}" in Path("again/README.md").read_text()

    shutil.copytree("again", "earlier")
    Path("earlier/looks.jsonl").unlink()
    assert sentences(Path("earlier")) == []
    assert cli.run(["pack", "earlier", "--out", "repacked", "--quiet"]) == 0
    assert "Held-out goals" not in Path("repacked/README.md").read_text()


def test_what_is_not_held_out_or_not_finished_does_not_count(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = tmp_path / "run"
    assert train(run, 1, "--goals", "2", "--evaluate-every", "1") == 0
    assert (run / "evaluations").exists()
    assert not (run / LOOKS).exists()

    def interrupted(*args: Any, **options: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr("metarl.evaluation.all_goals.play_trial", interrupted)
        assert evaluate(run) == 130
    assert counted(run) == []
    assert evaluate(run) == 0
    assert len(counted(run)) == 1


def test_few_shot_learners_count_too(tmp_path: Path, few_shot_data: dict[str, str]) -> None:
    run, data = tmp_path / "run", few_shot_data["text"]
    options = ["--ways", "3", "--shots", "1", "--split-seed", "5", "--run-dir", str(run), "--evaluate-every", "1"]
    assert cli.run(["train", "proto", data, *SMALL, *options, "--evaluate-on", "test"]) == 0
    assert evaluate_few_shot(run) == 0
    assert counted(run) == [("training", 2, 2, data, 5), ("training", 4, 4, data, 5), ("episodes", 4, 4, data, 5)]
    said = "were evaluated 3 times: at 2 updates, and twice at 4 updates."
    assert sentences(run) == [f"Held-out classes of {data} {said}"]
    assert cli.run(["pack", str(run), "--out", str(tmp_path / "model"), "--quiet"]) == 0
    assert f"Held-out classes of {data.partition(':')[0]}:texts.csv {said}" in (tmp_path / "model" / "README.md").read_text()
    for file in (tmp_path / "model").iterdir():
        assert data.partition(":")[2].encode() not in file.read_bytes()


def test_evaluations_that_an_earlier_version_did_not_count_are_a_lower_bound(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", goals=2)
    said = "Held-out goals of ml1:reach-v3 were evaluated {}, at 3,000 steps."
    assert sentences(run) == [said.format("at least once")]
    content = json.loads((run / "evaluation.json").read_text())
    (run / "evaluations" / "all-goals_000000003000_s1.json").write_text(json.dumps({**content, "seed": 1}))
    append_look(run / LOOKS, look(3000, "ml1:reach-v3"))
    assert sentences(run) == [said.format("at least twice")]
    append_look(run / LOOKS, look(3000, "ml1:reach-v3"))
    assert sentences(run) == [said.format("twice")]


@pytest.mark.parametrize(
    ("looks", "says"),
    [
        (None, []),
        ([], []),
        ([look(0)], ["of ml10 were evaluated once."]),
        ([look(0), look(1)], ["of ml10 were evaluated twice: at 0 steps, and at 1 step."]),
        ([look(5 * MILLION)] * 3, ["of ml10 were evaluated 3 times, at 5,000,000 steps."]),
        (
            [look(20 * MILLION), look(5 * MILLION), look(20 * MILLION)],
            ["of ml10 were evaluated 3 times: at 5,000,000 steps, and twice at 20,000,000 steps."],
        ),
        (
            [look(step) for step in (3, 1, 2, 2)],
            ["of ml10 were evaluated 4 times: at 1 step, twice at 2 steps, and at 3 steps."],
        ),
        (
            [look(1000 * step) for step in range(1, 401)],
            ["of ml10 were evaluated 400 times, at 400 checkpoints from 1,000 to 400,000 steps."],
        ),
        (
            [look(1), look(1, "ml45"), look(2, suite_seed=2)],
            ["of ml10 were evaluated once, at 1 step.", "of other suites or suite seeds were evaluated twice."],
        ),
    ],
)
def test_the_count_in_words(looks: list[Look] | None, says: list[str]) -> None:
    said = said_of_looks(looks, [], "ml10", {"suite_seed": 1}, "goals", "step")
    assert said == [f"Held-out goals {text}" for text in says]
