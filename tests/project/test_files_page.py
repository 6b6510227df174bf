"""docs/files.md describes every key that runs write: those of tiny trainings and of their evaluations."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from builders.fewshot_runs import evaluate, make
from builders.tiny import STEPS, TINY, train

from metarl import cli

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "files.md"
FREE = {"settings", "options", "packages", "files", "by_task", "seeds", "sides", "rest", "sha256"}
"""Keys whose value has keys that the page describes as a whole: names of options, packages, tasks, seeds, sides, files."""


def described() -> set[str]:
    return set(re.findall(r"`([\w/<>]+)`", PAGE.read_text()))


def keys(content: Any, *, free: bool = False) -> Iterator[str]:
    """All keys in some JSON, but for those directly within one of `FREE`."""
    if isinstance(content, list):
        for one in content:
            yield from keys(one)
    elif isinstance(content, dict):
        for key, value in content.items():
            if not free:
                yield key
            if key not in ("settings", "options"):
                yield from keys(value, free=key in FREE)


def written(run: Path) -> set[str]:
    found: set[str] = set()
    for file in (run / "config.json", *run.glob("evaluations/*.json"), *run.glob("checkpoints/[0-9]*/checkpoint.json")):
        found |= set(keys(json.loads(file.read_text())))
    for line in (run / "metrics.jsonl").read_text().splitlines():
        found |= {re.sub("(?<=task/)[^/]+", "<name>", key) for key in json.loads(line)}
    for file in run.glob("evaluations/looks.jsonl"):
        found |= json.loads(file.read_text().splitlines()[0]).keys()
    return found


def test_keys_of_agents_that_act(tmp_path: Path) -> None:
    run = tmp_path / "rl2"
    assert train(run, 1, "--goals", "2", "--evaluate-every", "1") == 0
    for protocol in ([], ["--protocol", "metaworld", "--engine", "native"]):
        assert cli.run(["evaluate", str(run), "--quiet", *protocol]) == 0
    found = written(run)
    assert {"goal_blind", "episodes_counted", "explained_variance", "validation_success", "time"} <= found
    assert not found - described()


def test_keys_by_task_which_the_progress_line_does_not_show(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    suite = "custom:train=reach-v3,push-v3;test=pick-place-v3"
    options = ["--run-dir", str(tmp_path / "run"), "--steps", str(STEPS), *TINY]
    assert cli.run(["train", "rl2", suite, "--goals", "2", *options]) == 0
    (line,) = map(json.loads, (tmp_path / "run" / "metrics.jsonl").read_text().splitlines())
    assert line["return"] == pytest.approx((line["task/reach-v3/return"] + line["task/push-v3/return"]) / 2)
    assert not written(tmp_path / "run") - described()
    (progress,) = (text for text in capsys.readouterr().out.splitlines() if " std " in text)
    assert "reach" not in progress


@pytest.mark.parametrize(
    "options", [("maml-trpo",), ("promp",), ("maml-trpo", "--outer", "reptile")], ids=lambda options: options[-1]
)
def test_keys_that_maml_logs(tmp_path: Path, options: tuple[str, ...]) -> None:
    agent, *more = options
    run = tmp_path / "run"
    assert train(run, 1, "--goals", "2", "--layers", "8", *more, agent=agent) == 0
    assert json.loads((run / "metrics.jsonl").read_text().splitlines()[-1])["step"] == STEPS
    assert not written(run) - described()


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        ("image", ("proto", "--ways", "3", "--shots", "2", "--image-size", "16", "--evaluate-every", "1")),
        ("text", ("maml", "--ways", "3", "--shots", "2")),
        ("text", ("transfer", "--ways", "3", "--shots", "2")),
        ("regression", ("maml", "--shots", "4", "--inner-lr", "0.01")),
    ],
    ids=lambda value: value if isinstance(value, str) else value[0],
)
def test_keys_of_few_shot_learners(tmp_path: Path, few_shot_data: dict[str, str], kind: str, options: tuple[str, ...]) -> None:
    agent, *more = options
    run = make(tmp_path / "run", agent, few_shot_data[kind], *more)
    assert evaluate(run) == 0
    assert {"by_shots", "examples"} <= written(run)
    assert not written(run) - described()
