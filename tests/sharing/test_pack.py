"""`metarl pack` and `pretrained:`: a folder to give away, and what comes from others is data that is checked."""

import hashlib
import json
import os
import pickle
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from builders.fewshot_runs import make_pictures
from builders.tiny import refused, train
from safetensors.torch import load_file, save_file

import metarl
from metarl import cli
from metarl.errors import UserError
from metarl.learner import PolicyInput
from metarl.reports.reading import read
from metarl.sharing.locations import pretrained
from metarl.sharing.opening import open_run

STEP = PolicyInput(torch.randn(3, 39, generator=torch.manual_seed(0)), torch.ones(3, 4) / 2, torch.ones(3), torch.zeros(3))
ROOT = Path(__file__).parents[2]
FILES = {"README.md", "config.json", "evaluation.json", "looks.jsonl", "model.safetensors", "video.gif"}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with a run of RL², evaluated and as if filmed, and the same packed under models/tiny."""
    folder = tmp_path_factory.mktemp("made")
    assert train(folder / "run", 2, "--goals", "2") == 0
    assert cli.run(["evaluate", str(folder / "run"), "--quiet"]) == 0
    (folder / "run" / "videos").mkdir()
    (folder / "run" / "videos" / "000000000160.gif").write_bytes(b"GIF89a")
    assert cli.run(["pack", str(folder / "run"), "--out", str(folder / "models" / "tiny"), "--quiet"]) == 0
    return folder


@pytest.fixture
def model(made: Path, tmp_path: Path) -> Path:
    """A copy of the packed model, to be spoilt."""
    return Path(shutil.copytree(made / "models" / "tiny", tmp_path / "model"))


def digests(folder: Path) -> dict[str, str]:
    return {file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in folder.iterdir()}


def front(text: str) -> dict[str, Any]:
    """The card's YAML, of which every line is an entry in JSON."""
    lines = text.split("---\n")[1].splitlines()
    return {key: json.loads(value) for key, _, value in (line.partition(": ") for line in lines)}


def test_the_folder_holds_what_others_need_and_nothing_of_this_machine(made: Path) -> None:
    folder = made / "models" / "tiny"
    assert set(digests(folder)) == FILES
    for file in folder.iterdir():
        content = file.read_bytes()
        for place in (made, ROOT, Path.home(), Path(torch.__file__).parent):
            assert str(place).encode() not in content
    tensors = load_file(folder / "model.safetensors")
    assert all(name.startswith("policy/") for name in tensors)  # and no optimiser


def test_the_card_is_hugging_faces_and_carries_the_evaluations_figures(made: Path) -> None:
    text = (made / "models" / "tiny" / "README.md").read_text()
    head = front(text)
    assert head["license"] == "mit"
    assert head["library_name"] == "metarl"
    assert {"rl2", "meta-reinforcement-learning"} <= set(head["tags"])
    evaluation = json.loads((made / "run" / "evaluation.json").read_text())
    (index,) = head["model-index"]
    assert index["name"] == "tiny"
    for result in index["results"]:
        figures = evaluation["sides"][result["dataset"]["split"]]["by_episode"]
        found = {metric["name"]: metric for metric in result["metrics"]}
        for episode in (0, 1):
            metric = found[f"return, episode {episode + 1}, deterministic actions"]
            mean, low, high = figures["deterministic"]["return"][episode]
            assert (metric["value"], metric["args"]["interval 95 %"]) == (mean, [low, high])
            assert metric["args"]["protocol"] == "all-goals"
    assert {result["dataset"]["split"] for result in index["results"]} == {"train", "test"}
    for said in (
        "suite seed 1",
        "run seed 1",
        "160 environment steps",
        'metarl.load("pretrained:tiny")',
        "Limits",
        "video.gif",
    ):
        assert said in text


@pytest.mark.parametrize("how", ["name", "folder", "path"])
def test_it_stands_wherever_a_run_stands(how: str, made: Path, tmp_path: Path, monkeypatch: Any, capsys: Any) -> None:
    folder = made / "models" / "tiny"
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("METARL_PRETRAINED", str(folder.parent))
    name = {"name": "pretrained:tiny", "folder": str(folder), "path": f"pretrained:{folder}"}[how]
    loaded, known = metarl.load(name, device="cpu"), metarl.load(made / "run", device="cpu")
    assert torch.equal(
        loaded.predict(loaded.initial_state(3), STEP)[0].mean, known.predict(known.initial_state(3), STEP)[0].mean
    )
    assert not list(tmp_path.iterdir())
    if how != "name":
        return
    before = digests(folder)
    (read_before,) = {read(Path(name)).evaluation["checkpoint"]}  # type: ignore[index]
    assert read_before == "000000000160"
    assert cli.run(["evaluate", name, "--quiet"]) == 0
    one, other = (
        json.loads(path.read_text()) for path in (tmp_path / "runs/pretrained_tiny/evaluation.json", folder / "evaluation.json")
    )
    assert one["sides"] == other["sides"]
    assert cli.run(["compare", name, str(made / "run")]) == 0
    assert "both were evaluated on" in capsys.readouterr().out
    assert cli.run(["report", name, "--quiet"]) == 0
    assert "ml1:reach-v3" in (tmp_path / "runs" / "pretrained_tiny" / "report.html").read_text()
    assert cli.run(["export", name, "--quiet"]) == 0
    assert cli.run(["train", "--resume", name]) == 2
    assert "not trained further" in capsys.readouterr().err
    assert digests(folder) == before


def test_a_pack_can_be_packed_again(made: Path, tmp_path: Path) -> None:
    folder = made / "models" / "tiny"
    assert cli.run(["pack", str(folder), "--out", str(tmp_path / "tiny"), "--quiet"]) == 0
    assert load_file(tmp_path / "tiny" / "model.safetensors").keys() == load_file(folder / "model.safetensors").keys()
    assert json.loads((tmp_path / "tiny" / "evaluation.json").read_text()) == json.loads(
        (folder / "evaluation.json").read_text()
    )


def test_few_shot_learners_are_packed_without_where_their_data_lie(tmp_path: Path, monkeypatch: Any) -> None:
    make_pictures(tmp_path / "mine", (f"class{c}" for c in range(20)), 5)
    options = "--ways 3 --queries 2 --meta-batch 2 --updates 2 --steps 2 --channels 4 --image-size 16 --device cpu --quiet"
    path = tmp_path / "run"
    assert cli.run(["train", "proto", f"folder:{tmp_path / 'mine'}", *options.split(), "--run-dir", str(path)]) == 0
    assert cli.run(["evaluate", str(path), "--episodes", "20", "--queries", "2", "--quiet"]) == 0
    assert cli.run(["pack", str(path), "--out", str(tmp_path / "packed"), "--quiet"]) == 0
    for file in (tmp_path / "packed").iterdir():
        assert str(tmp_path).encode() not in file.read_bytes()
    assert (
        front((tmp_path / "packed" / "README.md").read_text())["model-index"][0]["results"][0]["metrics"][0]["type"]
        == "accuracy"
    )
    monkeypatch.chdir(tmp_path)  # adapting to own examples needs the folder of the examples, not the data it was trained on
    shutil.rmtree(tmp_path / "run")
    adapt = ["adapt", "pretrained:./packed", "--support", "few", "--query", "few", "--quiet"]
    for c in range(3):
        shutil.copytree(tmp_path / "mine" / f"class{c}", tmp_path / "few" / f"class{c}")
    shutil.rmtree(tmp_path / "mine")
    assert cli.run(adapt) == 0
    assert len((tmp_path / "predictions.csv").read_text().splitlines()) == 16


def test_what_has_nothing_to_give_is_refused(made: Path, tmp_path: Path, monkeypatch: Any, capsys: Any) -> None:
    run, folder = str(made / "run"), tmp_path / "empty"
    folder.mkdir()
    refused(["pack", f"{run}/checkpoints/000000000000"], "never trained", folder, monkeypatch, capsys)
    refused(["pack", run, "--out", str(made / "models" / "tiny")], "exists already", folder, monkeypatch, capsys)
    refused(["pack", run, "--license", "a b"], "a licence is one word", folder, monkeypatch, capsys)
    assert cli.run(["pack", f"{run}/checkpoints/000000000080", "--out", str(tmp_path / "early")]) == 0
    assert "not evaluated" in capsys.readouterr().out
    assert "It was not evaluated." in (tmp_path / "early" / "README.md").read_text()


def _changed(model: Path, **more: Any) -> None:
    config = json.loads((model / "config.json").read_text())
    for key, value in more.items():
        config[key] = {**config[key], **value} if isinstance(value, dict) and value else value
    (model / "config.json").write_text(json.dumps(config))


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"settings": {"layers": [200_000], "hidden": 200_000}}, "tensors? not as in its config.json"),
        ({"io_spec": {"observations": 2**40}}, "io_spec is damaged"),
        ({"io_spec": {"observations": 40}}, "tensors? not as in its config.json"),
        ({"io_spec": {}}, "io_spec is damaged"),
        ({"io_spec": None}, "io_spec must be an object, not null"),
        ({"agent": "theirs.py:Agent"}, "is from a Python file"),
        ({"suite": "theirs.py:robot"}, "is from a Python file"),
        ({"packed": 99}, "format 99"),
        ({"step": -5}, "invalid steps"),
        ({"rest": []}, "rest must be an object"),
    ],
)
def test_a_configuration_that_is_not_what_it_should_be(change: dict[str, Any], says: str, model: Path) -> None:
    _changed(model, **change)
    with pytest.raises(UserError, match=says):
        open_run(model)


def test_files_that_are_not_what_they_should_be(model: Path, tmp_path: Path, monkeypatch: Any) -> None:
    weights, config = (model / "model.safetensors").read_bytes(), (model / "config.json").read_bytes()

    def fails(says: str) -> None:
        with pytest.raises(UserError, match=says) as caught:
            open_run(model)
        assert "\n" not in str(caught.value)

    for content in (weights[:-10], weights[:4], b"", pickle.dumps(Trap(tmp_path / "trap"))):
        (model / "model.safetensors").write_bytes(content)
        fails("model.safetensors")
    assert not (tmp_path / "trap").exists()
    for extra in ({"more": torch.zeros(2)}, {"policy/head/linear/bias/x": torch.zeros(2)}):
        (model / "model.safetensors").write_bytes(weights)
        save_file({**load_file(model / "model.safetensors"), **extra}, model / "model.safetensors")
        fails("tensors? not as in its config.json")
    (model / "model.safetensors").write_bytes(weights)
    for content in (b"{", b"[]", b"\xff", b"{}", b"[" * 100_000):
        (model / "config.json").write_bytes(content)
        fails("config.json")
    (model / "config.json").write_bytes(b" " * (2**20 + 1))
    fails("at most")
    (model / "config.json").unlink()
    fails("No such file")
    (model / "config.json").write_bytes(config)
    (model / "evaluation.json").write_text("{")
    assert read(model).problems == ["evaluation.json is damaged and left out."]


class Trap:
    """Makes a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self.path),)


def test_names(made: Path, tmp_path: Path, monkeypatch: Any, capsys: Any) -> None:
    monkeypatch.setenv("METARL_PRETRAINED", str(made / "models"))
    refused(["evaluate", "pretrained:tny"], "Did you mean tiny", tmp_path, monkeypatch, capsys)
    refused(["evaluate", "pretrained:.."], "is not a packed model", tmp_path, monkeypatch, capsys)
    refused(["evaluate", "pretrained:../models"], "is not a packed model", tmp_path, monkeypatch, capsys)
    refused(["evaluate", "pretrained:"], "is not a packed model", tmp_path, monkeypatch, capsys)
    monkeypatch.setattr("metarl.sharing.locations.__file__", str(tmp_path / "pretrained.py"))
    monkeypatch.delenv("METARL_PRETRAINED")
    assert pretrained() == {}


def test_the_packages_own_models_load_and_are_listed(monkeypatch: Any, capsys: Any) -> None:
    monkeypatch.delenv("METARL_PRETRAINED", raising=False)
    assert set(pretrained()) == {"rl2-reach", "maml-reach"}
    for name in pretrained():
        metarl.load(f"pretrained:{name}", device="cpu").initial_state(1)
    assert cli.run(["list"]) == 0
    assert "pretrained:rl2-reach" in capsys.readouterr().out


def test_results_of_two_models_of_one_name_do_not_meet(made: Path, tmp_path: Path) -> None:
    copies = [shutil.copytree(made / "models" / "tiny", tmp_path / place / "tiny") for place in ("a", "b")]
    paths = [open_run(copy)[0].path for copy in copies]
    assert paths[0] != paths[1]
    assert all(path.name.startswith("pretrained_tiny-") for path in paths)
