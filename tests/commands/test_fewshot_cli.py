"""Few-shot learning through the command line, on small generated data."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from builders.fewshot_runs import make_pictures
from builders.made_runs import EXPERIMENT
from builders.tiny import equal_runs, refused

from metarl import cli
from metarl.agents import AGENTS, FEW_SHOT
from metarl.datasets.episodes import Examples
from metarl.errors import UserError
from metarl.evaluation.fewshot import first_shots
from metarl.runs.directory import Run
from metarl.sharing.few_shot_prediction import predict
from metarl.sharing.opening import open_run
from metarl.training.setup import trained_few_shot

SMALL = "--ways 3 --shots 2 --queries 2 --meta-batch 2 --updates 2 --steps 4 --device cpu --quiet".split()


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """A folder of images and a CSV of texts: 20 classes with 6 similar examples each."""
    folder = tmp_path_factory.mktemp("data")
    make_pictures(folder / "images", (f"class{c}" for c in range(20)), 6)
    rows = ["text,label", *(f"word{c} and number {i},label{c}" for c in range(20) for i in range(6))]
    (folder / "texts.csv").write_text("\n".join(rows))
    return {"image": f"folder:{folder / 'images'}", "text": f"csv:{folder / 'texts.csv'}", "regression": "sinusoid"}


def run(agent: str, kind: str, data: dict[str, str], path: Path, *arguments: str) -> int:
    return cli.run(["train", agent, data[kind], *SMALL, "--run-dir", str(path), *arguments])


CASES: list[tuple[str, str, list[str]]] = [
    ("maml", "image", ["--channels", "4", "--image-size", "16"]),
    ("maml", "image", ["--channels", "4", "--image-size", "16", "--first-order"]),
    ("maml", "text", ["--channels", "4", "--adapt-part", "head", "--inner-steps", "2", "--multi-step-loss", "3"]),
    (
        "maml",
        "regression",
        ["--channels", "4", "--rates", "layer", "--rates-by-step", "--inner-steps", "2", "--inner-lr", "0.01"],
    ),
    ("matching", "image", ["--channels", "4", "--image-size", "16", "--context"]),
    ("matching", "text", ["--channels", "4"]),
    ("proto", "image", ["--channels", "4", "--image-size", "16"]),
    ("transfer", "image", ["--channels", "4", "--image-size", "16", "--fit-steps", "2"]),
    ("transfer", "regression", ["--channels", "4", "--fit", "all", "--fit-steps", "2", "--fit-lr", "0.01"]),
    ("nearest", "text", []),
]


def test_every_learner_has_a_case() -> None:
    assert {agent for agent, _, _ in CASES} == {name for name, entry in AGENTS.items() if entry.training == FEW_SHOT}


@pytest.mark.parametrize(("agent", "kind", "options"), CASES)
def test_train_resume_and_evaluate(
    agent: str, kind: str, options: list[str], data: dict[str, str], tmp_path: Path, capsys: Any
) -> None:
    uninterrupted, interrupted = tmp_path / "whole", tmp_path / "cut"
    assert run(agent, kind, data, uninterrupted, *options, "--evaluate-every", "2") == 0
    shutil.copytree(uninterrupted, interrupted, symlinks=True)
    shutil.rmtree(open_run(interrupted)[0].checkpoints()[-1])
    assert cli.run(["train", "--resume", str(interrupted), "--quiet"]) == 0
    assert equal_runs(uninterrupted, interrupted)
    assert cli.run(["evaluate", str(uninterrupted), "--episodes", "25", "--queries", "3", "--device", "cpu"]) == 0
    output = capsys.readouterr().out
    content = json.loads((uninterrupted / "evaluation.json").read_text())
    measure = "mse" if kind == "regression" else "accuracy"
    assert content["measure"] == measure
    assert ("3-way accuracy" if measure == "accuracy" else "mean squared error") in output
    for side in ("train", "test"):
        figures = np.array(content["sides"][side]["figures"])
        assert figures.shape == (25, 3)
        np.testing.assert_allclose(figures.mean(0), [mean for mean, _, _ in content["sides"][side]["by_shots"]], atol=1e-5)
    lines = [json.loads(line) for line in (uninterrupted / "metrics.jsonl").read_text().splitlines()]
    assert f"validation_{measure}" in lines[-1]
    assert f"validation_{measure}" not in lines[0]
    first = (uninterrupted / "evaluation.json").read_bytes()
    assert cli.run(["evaluate", str(uninterrupted), "--episodes", "25", "--queries", "3", "--device", "cpu", "--quiet"]) == 0
    assert (uninterrupted / "evaluation.json").read_bytes() == first


@pytest.mark.parametrize("seed", range(5))
def test_learning_improves_accuracy_on_held_out_classes(seed: int, data: dict[str, str], tmp_path: Path) -> None:
    path = tmp_path / "run"
    assert run("proto", "image", data, path, "--image-size", "16", "--steps", "20", "--seed", str(seed)) == 0
    assert cli.run(["evaluate", str(path), "--episodes", "40", "--queries", "3", "--quiet"]) == 0
    zero, _, two = json.loads((path / "evaluation.json").read_text())["sides"]["test"]["by_shots"]
    assert zero[2] < 0.5  # a guess has 1/3
    assert two[1] > 0.6


def test_an_interrupted_evaluation_resumes(data: dict[str, str], tmp_path: Path, monkeypatch: Any) -> None:
    from metarl.evaluation import fewshot as evaluation

    path = tmp_path / "run"
    assert run("nearest", "image", data, path, "--image-size", "16") == 0
    args = ["evaluate", str(path), "--episodes", "60", "--queries", "3", "--quiet"]
    curve, played = evaluation.curve, []

    def interrupted_curve(*arguments: Any) -> np.ndarray:
        if len(played) == 2:
            raise KeyboardInterrupt
        played.append(1)
        return curve(*arguments)

    monkeypatch.setattr(evaluation, "curve", interrupted_curve)
    assert cli.run(args) == 130
    monkeypatch.setattr(evaluation, "curve", curve)
    calls = []
    monkeypatch.setattr(evaluation, "curve", lambda *arguments: calls.append(1) or curve(*arguments))
    assert cli.run(args) == 0
    assert len(calls) == 4  # 3 batches per part, of which 2 were done
    resumed = (path / "evaluation.json").read_bytes()
    assert cli.run(args) == 0
    assert (path / "evaluation.json").read_bytes() == resumed


def test_a_perfect_accuracy_has_an_interval(tmp_path: Path, capsys: Any) -> None:
    """Two episodes of six correct answers: the interval has a width and lies in [0, 1]."""
    make_pictures(tmp_path / "flat", map(str, range(12)), 8, similarity=1.0)
    options = "--ways 2 --shots 1 --queries 3 --quiet --device cpu --run-dir".split()
    assert cli.run(["train", "nearest", f"folder:{tmp_path / 'flat'}", *options, str(tmp_path / "run")]) == 0
    assert cli.run(["evaluate", str(tmp_path / "run"), "--queries", "3", "--episodes", "2"]) == 0
    sides = json.loads((tmp_path / "run" / "evaluation.json").read_text())["sides"]
    for side in sides.values():
        (_, *first_interval), (mean, low, high) = side["by_shots"]
        assert 0 <= first_interval[0] < first_interval[1] <= 1
        assert (mean, low, high) == pytest.approx((1, 0.05**0.5, 1))
    assert "100.00 [22.36, 100.00]" in capsys.readouterr().out


def test_evaluating_with_other_ways_and_shots(data: dict[str, str], tmp_path: Path, capsys: Any) -> None:
    proto, maml = tmp_path / "proto", tmp_path / "maml"
    assert run("proto", "image", data, proto, "--image-size", "16") == 0
    assert run("maml", "image", data, maml, "--image-size", "16", "--channels", "4") == 0
    options = ["--ways", "4", "--shots", "3", "--queries", "3", "--episodes", "20", "--quiet"]
    assert cli.run(["evaluate", str(proto), *options]) == 0
    content = json.loads((proto / "evaluation.json").read_text())
    assert (content["ways"], content["trained_with"]) == (4, {"ways": 3, "shots": 2})
    assert len(content["sides"]["test"]["by_shots"]) == 4
    assert cli.run(["evaluate", str(maml), *options]) == 2
    assert "was trained with 3 ways" in capsys.readouterr().err
    assert cli.run(["evaluate", str(proto), str(maml), "--episodes", "20", "--queries", "3", "--quiet"]) == 0
    assert list((proto / "evaluations").glob("beside_maml.png"))


@pytest.fixture(scope="module")
def proto(data: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Trained learners that separate the classes."""
    paths = {kind: tmp_path_factory.mktemp("proto") / kind for kind in ("image", "text")}
    for kind, path in paths.items():
        assert run("proto", kind, data, path, "--image-size", "16", "--steps", "40") == 0
    return paths


def test_adapting_to_user_images(proto: dict[str, Path], data: dict[str, str], tmp_path: Path, capsys: Any) -> None:
    images = Path(data["image"].removeprefix("folder:"))
    support, query = tmp_path / "support", tmp_path / "query"
    query.mkdir()
    for c in (3, 7, 11, 12):
        (support / f"[b]{c}").mkdir(parents=True)  # not markup
        for i in range(2):
            (support / f"[b]{c}" / f"{i}.png").write_bytes((images / f"class{c}" / f"{i}.png").read_bytes())
        (query / f"of_{c}.png").write_bytes((images / f"class{c}" / "5.png").read_bytes())
    (query / "broken.png").write_bytes(b"")
    out = tmp_path / "out.csv"
    args = ["adapt", str(proto["image"]), "--support", str(support), "--query", str(query), "--out", str(out)]
    assert cli.run([*args, "--device", "cpu"]) == 0
    printed = capsys.readouterr().out
    assert "1 of 5 files cannot be read" in printed
    assert "[b]3" in printed
    rows = [line.split(",") for line in out.read_text().splitlines()]
    assert rows[0] == ["item", "predicted", "[b]11", "[b]12", "[b]3", "[b]7"]
    assert all(row[0] == f"of_{row[1][3:]}.png" for row in rows[1:])
    assert [sum(map(float, row[2:])) for row in rows[1:]] == pytest.approx([1] * 4, abs=1e-5)
    predictions = predict(proto["image"], support, query, invert=True, device="cpu")
    assert len(predictions.best) == 4


def test_adapting_to_user_texts(proto: dict[str, Path], tmp_path: Path, capsys: Any) -> None:
    (tmp_path / "support.csv").write_text("label,text\nlamp,turn on the light\nlamp,light please\nmusic,play a song\n")
    (tmp_path / "query.csv").write_text("text\nthe light\nplay it\n")
    predictions = predict(proto["text"], tmp_path / "support.csv", tmp_path / "query.csv", device="cpu")
    assert predictions.items == ["the light", "play it"]
    assert predictions.classes == ["lamp", "music"]
    np.testing.assert_allclose(predictions.probabilities.sum(1), 1)
    args = ["adapt", str(proto["text"]), "--support", str(tmp_path / "query.csv"), "--query", str(tmp_path / "query.csv")]
    assert cli.run(args) == 2
    assert "label" in capsys.readouterr().err


def test_a_head_of_another_size_cannot_adapt(data: dict[str, str], tmp_path: Path, capsys: Any) -> None:
    path = tmp_path / "maml"
    assert run("maml", "text", data, path, "--channels", "4", "--inner-steps", "1") == 0
    (tmp_path / "support.csv").write_text("label,text\na,one\nb,two\n")
    args = ["adapt", str(path), "--support", str(tmp_path / "support.csv"), "--query", str(tmp_path / "support.csv")]
    assert cli.run(args) == 2
    assert "has 2 classes, and this learner's head knows 3" in capsys.readouterr().err


def test_control_and_few_shot_runs_are_not_confused(data: dict[str, str], tmp_path: Path, capsys: Any) -> None:
    path = tmp_path / "run"
    assert run("nearest", "text", data, path) == 0
    assert cli.run(["render", str(path)]) == 2
    assert "which has no robots" in capsys.readouterr().err
    checkpoint = open_run(path)[0].load()[0]
    with pytest.raises(UserError, match="not of a few-shot learner"):
        trained_few_shot(Run.create(tmp_path / "robot", EXPERIMENT), checkpoint)


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["proto", "sinusoid"], "tells classes apart, but sinusoid has none"),
        (["proto", "omniglots"], "unknown data set 'omniglots'. Did you mean omniglot"),
        (["maml", "sinusoid", "--shots", "0"], "shots must be at least 1"),
        (["maml", "sinusoid", "--updates", "0"], "updates must be at least 1"),
        (["maml", "sinusoid", "--adapt-part", "tail"], "no parameter begins with tail"),
        (["matching", "csv:nowhere.csv"], "nowhere.csv"),
    ],
)
def test_wrong_input_is_refused(args: list[str], message: str, tmp_path: Path, monkeypatch: Any, capsys: Any) -> None:
    refused(["train", *args], message, tmp_path, monkeypatch, capsys)


def test_too_few_examples_are_refused(data: dict[str, str], tmp_path: Path, monkeypatch: Any, capsys: Any) -> None:
    args = ["train", "proto", data["image"], "--ways", "3", "--shots", "5", "--queries", "4"]
    refused(args, "6 images a class: 5 shots + 4 queries do not fit", tmp_path, monkeypatch, capsys)


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ("--queries", "20,000,000,080 examples of an update"),
        ("--shots", "20,000,000,300 examples of an update"),
        ("--episodes", "figures of 1,000,000,000 episodes"),
    ],
)
def test_an_evaluation_that_does_not_fit_is_refused(
    few_shot_runs, option: str, message: str, monkeypatch: Any, capsys: Any
) -> None:
    """A batch has 20 episodes with 4 shots and 15 queries."""
    monkeypatch.setattr("metarl.system.memory.available_memory", lambda: 8_000_000_000)
    assert cli.run(["evaluate", str(few_shot_runs["curves"]), option, "1000000000"]) == 2
    assert message in capsys.readouterr().err


def test_the_first_shots_of_each_class() -> None:
    y = torch.tensor([[1, 0, 1, 0, 1, 0], [0, 0, 0, 1, 1, 1]])
    support = Examples(torch.arange(12.0).view(2, 6, 1), y)
    one_shot = first_shots(support, 1, 2)
    assert one_shot.x.flatten().tolist() == [0, 1, 6, 9]
    assert one_shot.y.tolist() == [[1, 0], [0, 1]]
    two_shots = first_shots(support, 2, 2)
    assert two_shots.x[0].flatten().tolist() == [0, 1, 2, 3]
    assert torch.equal(first_shots(support, 3, 2).x, support.x)


def test_a_preset_named_after_a_data_set_sets_its_defaults(tmp_path: Path) -> None:
    path = tmp_path / "run"
    assert cli.run(["train", "maml", "sinusoid", "--run-dir", str(path), "--updates", "2", "--steps", "2", "--quiet"]) == 0
    config = json.loads((path / "config.json").read_text())
    assert (config["settings"]["inner_lr"], config["options"]["meta_batch"], config["options"]["shots"]) == (0.01, 25, 10)
    overrides = ["--preset", "default", "--inner-lr", "0.02", "--shots", "3"]
    assert (
        cli.run(
            ["train", "maml", "sinusoid", "--run-dir", str(path) + "2", "--updates", "2", "--steps", "2", "--quiet", *overrides]
        )
        == 0
    )
    config = json.loads((tmp_path / "run2" / "config.json").read_text())
    assert (config["settings"]["inner_lr"], config["options"]["meta_batch"], config["options"]["shots"]) == (0.02, 16, 3)
