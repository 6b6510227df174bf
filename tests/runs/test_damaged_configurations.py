"""A config.json with values of wrong kinds is answered with one line that names the key, by whatever reads it."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from builders.made_runs import EXPERIMENT, make_run
from builders.user_files import USER_AGENT, forget_user_files, user_file  # noqa: F401 - a fixture

from metarl import cli
from metarl.errors import UserError
from metarl.reports.reading import read
from metarl.runs.directory import Run
from metarl.runs.experiment import Experiment
from metarl.runs.options import TrainOptions
from metarl.sharing.opening import open_run
from metarl.system.user_code import notes, run_file

STORED = Path(__file__).parents[1] / "stored" / "0.2"
MISSING = object()
DAMAGES: list[tuple[dict[str, Any], str]] = [
    ({"agent": MISSING}, "agent is missing"),
    ({"settings": MISSING}, "settings is missing"),
    ({"settings": "x"}, 'settings must be an object, not "x"'),
    ({"suite": 5}, "suite must be text, not 5"),
    ({"files": []}, "files must be an object, not []"),
    ({"io_spec": 3}, "io_spec must be an object, not 3"),
    ({"settings": {"layers": ["a"]}}, 'settings.layers[0] must be a whole number, not "a"'),
    ({"settings": {"hidden": True}}, "settings.hidden must be a whole number, not true"),
    ({"settings": {"gamma": None}}, "settings.gamma must be a number, not null"),
    ({"settings": {"epochs": 0}}, "epochs must be at least 1, not 0"),
    ({"settings": {"gama": 0.9}}, "unknown key in settings 'gama'. Did you mean gamma"),
    ({"options": {"goals": "x"}}, 'options.goals must be a whole number, not "x"'),
    ({"options": {"task_id": 1}}, "options.task_id must be true or false, not 1"),
    ({"options": {"goal": 5}}, "unknown key in options 'goal'. Did you mean goals"),
]


def damaged(folder: Path, change: dict[str, Any]) -> Path:
    """Change entries of a config.json; an object as value changes entries of the entry."""
    config = json.loads((folder / "config.json").read_text())
    for key, value in change.items():
        config[key] = {**config[key], **value} if isinstance(value, dict) else value
    (folder / "config.json").write_text(json.dumps({key: value for key, value in config.items() if value is not MISSING}))
    return folder


@pytest.mark.parametrize(("change", "says"), DAMAGES, ids=lambda value: value if isinstance(value, str) else "")
def test_of_a_run(change: dict[str, Any], says: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    monkeypatch.chdir(tmp_path)
    run = damaged(Path(shutil.copytree(STORED / "rl2", "run")), change)
    before = {file: file.read_bytes() for file in run.rglob("*") if file.is_file()}
    for command in (["evaluate"], ["train", "--resume"], ["pack"]):
        assert cli.run([*command, str(run), "--quiet"]) == 2
        error = capsys.readouterr().err
        assert error.startswith(f"metarl: run/config.json: {says}")
        assert error.count("\n") == 1
    assert {file: file.read_bytes() for file in run.rglob("*") if file.is_file() and file.name != ".lock"} == before


def test_a_run_is_reported_all_the_same(tmp_path: Path) -> None:
    runs = [damaged(make_run(tmp_path / str(i)), change) for i, (change, _) in enumerate(DAMAGES) if "io_spec" not in change]
    assert cli.run(["report", *map(str, runs), "--out", str(tmp_path / "page.html"), "--quiet"]) == 0
    assert all(read(run).problems == [] for run in runs)


@pytest.mark.parametrize(("change", "says"), DAMAGES, ids=lambda value: value if isinstance(value, str) else "")
def test_of_a_packed_model(change: dict[str, Any], says: str, tmp_path: Path) -> None:
    model = damaged(Path(shutil.copytree(STORED / "packed" / "rl2", tmp_path / "model")), change)
    with pytest.raises(UserError) as caught:
        open_run(model)
    assert str(caught.value).startswith(f"{model}/config.json: {says}")


@pytest.mark.parametrize("change", [{"step": "x"}, {"rest": []}, {"config": {"settings": "x"}}, {"config": {"suite": 5}}])
def test_of_a_checkpoint(change: dict[str, Any], tmp_path: Path) -> None:
    run = Run.create(tmp_path / "run", EXPERIMENT)
    run.save(100, 1, {}, keep=3)
    note = run.save(200, 2, {}, keep=3) / "checkpoint.json"
    content = json.loads(note.read_text())
    content |= {key: {**content[key], **value} if isinstance(value, dict) else value for key, value in change.items()}
    note.write_text(json.dumps(content))
    checkpoint, problems = run.load()
    assert checkpoint.step == 100
    assert "checkpoint.json" in problems[0]


def test_an_experiment_is_read_as_it_was_written(tmp_path: Path) -> None:
    run = Run.create(tmp_path / "run", EXPERIMENT)
    config = json.loads((run.path / "config.json").read_text())
    assert run.experiment is EXPERIMENT
    assert open_run(run.path)[0].experiment == EXPERIMENT
    assert config["settings"]["layers"] == [128]
    assert config["options"]["run_dir"] is None
    changed = EXPERIMENT.changed(steps=5, run_dir=run.path)
    run.change(changed)
    assert open_run(run.path)[0].experiment == changed.changed(run_dir=None)
    assert list(json.loads((run.path / "config.json").read_text())) == list(config)


def test_settings_of_ones_own_agent_keep_their_types(tmp_path: Path) -> None:
    """A list stays a list, and a dataclass within becomes one again."""
    text = USER_AGENT + (
        "from dataclasses import field\n@dataclass(frozen=True)\nclass Inner:\n    width: int = 1\n\n"
        "@dataclass(frozen=True)\nclass More:\n    some: list[int] = field(default_factory=lambda: [1])\n"
        "    pair: tuple[int, str] = (1, 'x')\n    inner: Inner = Inner()\n\nA.Settings = More\n"
    )
    file = run_file(f"{user_file(tmp_path / 'files', text)}:A")
    settings = file.value.Settings([1, 2], (3, "y"))
    experiment = Experiment(file.label, "ml1:reach-v3", TrainOptions(), settings, notes(file.label))
    run = Run.create(tmp_path / "run", experiment)
    assert open_run(run.path)[0].experiment == experiment


def test_runs_of_an_agent_whose_file_is_gone_are_shown_as_recorded(tmp_path: Path, capsys: Any) -> None:
    runs = [str(make_run(tmp_path / name, agent="gone.py:Agent", seed=seed)) for name, seed in (("a", 1), ("b", 2))]
    assert cli.run(["compare", *runs]) == 0
    assert "gone.py:Agent" in capsys.readouterr().out
    assert cli.run(["report", *runs, "--out", str(tmp_path / "page.html"), "--quiet"]) == 0
    assert "gone.py:Agent" in (tmp_path / "page.html").read_text()
    Run(Path(runs[0]), json.loads(Path(runs[0], "config.json").read_text())).save(100, 1, {}, keep=1)
    assert cli.run(["pack", runs[0]]) == 2
    assert "from a Python file cannot be packed" in capsys.readouterr().err
    with pytest.raises(UserError, match="run only where you name the file"):
        _ = open_run(Path(runs[0]))[0].experiment
