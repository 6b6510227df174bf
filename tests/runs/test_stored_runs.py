"""Runs and packed models of earlier versions, one for each agent, still load, evaluate, resume and report.

They were made by version 0.2.0 at commit 5fd83ae with tiny settings. A new version adds a folder and leaves the old ones.
"""

import json
import logging
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from builders.fewshot_runs import make_pictures

import metarl
from metarl import cli
from metarl.agents import AGENTS, CONTROL
from metarl.evaluation.schema import read
from metarl.learner import Agent
from metarl.runs import migration
from metarl.sharing.opening import open_run

STORED = Path(__file__).parents[1] / "stored"
RUNS = sorted(path.parent.relative_to(STORED) for path in STORED.glob("*/*/config.json"))
PACKED = sorted(path.parent.relative_to(STORED) for path in STORED.glob("*/packed/*/config.json"))
PLAN = {"maml": ["--queries", "3", "--episodes", "20"]}
"""Options of the stored evaluations, where they are others than those of their kind."""


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of all that is stored, beside the pictures that its learners were trained on, as the working directory."""
    shutil.copytree(STORED, tmp_path / "stored")
    make_pictures(tmp_path / "pictures", [f"class{i}" for i in range(12)], 6)
    monkeypatch.chdir(tmp_path)
    return tmp_path / "stored"


def _agent(path: Path) -> str:
    name = json.loads((STORED / path / "config.json").read_text())["agent"]
    if name.startswith("sb3"):
        pytest.importorskip("stable_baselines3")
    return name


def _plan(agent: str) -> list[str]:
    by_kind = ["--train-goals", "3"] if AGENTS[agent].training == CONTROL else ["--queries", "2", "--episodes", "20"]
    return [*PLAN.get(agent, by_kind), "--device", "cpu", "--quiet"]


def _figures(file: Path) -> dict[str, Any]:
    content = read(file)
    kept = ("figures", "by_episode", "by_shots")
    return {side: {key: figures[key] for key in kept if key in figures} for side, figures in content["sides"].items()}


def _equal(before: Any, now: Any) -> None:
    """The same fields, and on average the same numbers: another processor rounds differently, which may turn a close answer."""
    if isinstance(before, dict):
        assert before.keys() == now.keys()
        for key, value in before.items():
            _equal(value, now[key])
    else:
        old, new = np.array(before, float), np.array(now, float)
        assert old.shape == new.shape
        assert np.array_equal(np.isnan(old), np.isnan(new))
        assert np.nanmean(np.abs(new - old)) <= 0.05 * max(1.0, np.nanmean(np.abs(old)))


def test_every_agent_is_stored():
    assert {path.name for path in RUNS} == set(AGENTS) - {"multitask-ppo", "multitask-trpo"}  # which are promp and maml-trpo


@pytest.mark.parametrize("path", RUNS, ids=str)
def test_a_stored_run_loads_and_gives_the_figures_of_before(path: Path, here: Path):
    agent, run = _agent(path), here / path
    assert isinstance(metarl.load(run, device="cpu"), Agent)
    before = _figures(STORED / path / "evaluation.json")
    (run / "evaluation.json").unlink()
    shutil.rmtree(run / "evaluations")
    assert cli.run(["evaluate", str(run), *_plan(agent)]) == 0
    _equal(before, _figures(run / "evaluation.json"))


@pytest.mark.parametrize("path", RUNS, ids=str)
def test_a_stored_run_is_resumed(path: Path, here: Path):
    _agent(path)
    config = json.loads((here / path / "config.json").read_text())
    lines = (here / path / "metrics.jsonl").read_text().splitlines()
    step = json.loads(lines[-1])["step"]
    more = ["--steps", str(step + step // len(lines)), "--quiet"]
    assert cli.run(["train", "--resume", str(here / path), *more]) == 0
    assert len((here / path / "metrics.jsonl").read_text().splitlines()) == len(lines) + 1
    now = json.loads((here / path / "config.json").read_text())
    assert now["settings"].items() >= config["settings"].items()
    assert now["io_spec"] == config["interface"]
    assert "interface" not in now
    if "horizon" in config["options"]:  # its name in version 0.2
        assert now["options"]["max_episode_steps"] == config["options"]["horizon"] == 20
        assert "horizon" not in now["options"]


def test_a_run_that_does_not_record_inputs_and_outputs_does_so_when_resumed(here: Path):
    """As runs of early versions."""
    run = here / "0.2" / "random"
    config = json.loads((run / "config.json").read_text())
    interface = config.pop("interface")
    (run / "config.json").write_text(json.dumps(config))
    assert cli.run(["train", "--resume", str(run), "--steps", str(2 * config["options"]["steps"]), "--quiet"]) == 0
    assert json.loads((run / "config.json").read_text())["io_spec"] == interface


def test_names_of_version_0_2_are_said_once(here: Path, caplog: pytest.LogCaptureFixture):
    migration._say_once.cache_clear()
    with caplog.at_level(logging.INFO, "metarl"):
        for path in RUNS:
            open_run(here / path)[0].load()
    assert [record.getMessage() for record in caplog.records] == [
        "this was made by version 0.2: its config.json is read with the current names "
        "(horizon as max_episode_steps, interface as io_spec)"
    ]


@pytest.mark.parametrize("path", PACKED, ids=str)
def test_a_stored_packed_model_loads_and_gives_the_figures_of_before(path: Path, here: Path):
    agent = _agent(path)
    assert isinstance(metarl.load(here / path, device="cpu"), Agent)
    assert cli.run(["evaluate", f"pretrained:{here / path}", *_plan(agent)]) == 0
    (made,) = Path("runs").glob("pretrained_*/evaluation.json")
    _equal(_figures(STORED / path / "evaluation.json"), _figures(made))


def test_stored_evaluations_are_compared_and_packed_under_the_current_names(here: Path, capsys: pytest.CaptureFixture[str]):
    runs = [str(here / "0.2" / name) for name in ("rl2", "promp")]
    assert cli.run(["compare", *runs, "--mode", "deterministic"]) == 0
    assert "6 held-out goals that both were evaluated on, deterministic actions" in " ".join(capsys.readouterr().out.split())
    assert cli.run(["pack", runs[0], "--out", "model", "--quiet"]) == 0
    before = json.loads((STORED / "0.2" / "rl2" / "evaluation.json").read_text())
    now = json.loads(Path("model", "evaluation.json").read_text())
    assert now["max_episode_steps"] == before["horizon"] == 20
    for side, figures in before["sides"].items():
        for key in ("by_episode", "gain", "figures"):
            assert now["sides"][side][key] == {"sampled": figures[key]["sampled"], "deterministic": figures[key]["mean"]}
        assert now["sides"][side]["goal_blind"] == figures["goal_blind"]


def test_stored_runs_are_reported(here: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("metarl.reports.page.worker_count", lambda: 1)  # other processes would import all again
    assert cli.run(["report", *(str(here / path) for path in RUNS), "--quiet", "--out", "page.html"]) == 0
    page = Path("page.html").read_text()
    assert all(path.name in page for path in RUNS)
    assert "is damaged and left out" not in page
    assert "deterministic" in page
    assert "mean actions" not in page
