"""Texts as vectors of a tiny sentence encoder that the tests create; errors of encoders."""

import csv
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn import functional

import metarl
from metarl import cli
from metarl.agents.fewshot.base import FewShot
from metarl.agents.fewshot.baselines import Nearest, NearestSettings
from metarl.agents.fewshot.maml import MAML, MAMLSettings
from metarl.agents.fewshot.matching import Matching, MatchingSettings
from metarl.agents.fewshot.networks import Kind, encoder
from metarl.datasets import sentences
from metarl.datasets.catalog import data_set
from metarl.datasets.text import Texts
from metarl.errors import UserError
from metarl.sharing.few_shot_prediction import predict
from metarl.sharing.onnx_export import to_onnx

SIZE = 12
VECTOR = Kind("vector", (SIZE,), 3)
SMALL = "--ways 3 --shots 2 --queries 2 --meta-batch 2 --updates 2 --steps 2 --device cpu --quiet".split()
COMMON: dict[str, Any] = {"seed": 0, "device": torch.device("cpu"), "classes": 9, "total_updates": 1}


@pytest.fixture(scope="module")
def texts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A CSV file of 20 labels with 6 texts each."""
    path = tmp_path_factory.mktemp("texts") / "texts.csv"
    path.write_text("\n".join(["text,label", *(f"word{c} and number {i},label{c}" for c in range(20) for i in range(6))]))
    return path


def make_encoder(path: Path, size: int) -> str:
    """Write an encoder whose vectors are means of random word vectors."""
    pytest.importorskip("sentence_transformers", reason="sentence-transformers is not installed")
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.modules import StaticEmbedding
    from tokenizers import Tokenizer, models, pre_tokenizers

    words = ["?", "and", "number", *(f"word{c}" for c in range(20)), *"012345"]
    tokenizer = Tokenizer(models.WordLevel({word: i for i, word in enumerate(words)}, unk_token="?"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    weights = np.random.default_rng(0).standard_normal((len(words), size)).astype(np.float32)
    SentenceTransformer(modules=[StaticEmbedding(tokenizer, embedding_weights=weights)], device="cpu").save(
        str(path), create_model_card=False
    )
    return str(path)


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The folder of a sentence encoder."""
    return make_encoder(tmp_path_factory.mktemp("encoder") / "tiny", SIZE)


@pytest.fixture(scope="module")
def runs(texts: Path, tiny: str, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A run of each learner, by its name."""
    paths = {}
    for agent in ("proto", "maml", "nearest"):
        paths[agent] = tmp_path_factory.mktemp("runs") / agent
        options = [] if agent == "nearest" else ["--channels", "4"]
        args = ["train", agent, f"csv:{texts}", *SMALL, *options, "--sentence-encoder", tiny, "--run-dir", str(paths[agent])]
        assert cli.run(args) == 0
    return paths


# ---------------------------------------------------------------------------------------------------------------------
# without the library


def test_the_untrained_encoder_returns_the_sentence_vectors() -> None:
    x = torch.randn(4, SIZE)
    net = encoder(VECTOR, 5)
    length = SIZE**0.5
    torch.testing.assert_close(net(x), functional.normalize(x, dim=1) * length)
    assert {name: tuple(value.shape) for name, value in net.state_dict().items() if "weight" in name} == {
        "layers.linear.0.weight": (5, SIZE),
        "layers.linear.1.weight": (SIZE, 5),
    }
    maml = MAML(MAMLSettings(channels=5), VECTOR, **COMMON)
    shared = maml.net.shared(x, maml.meta)
    head = maml.meta["head.weight"], maml.meta["head.bias"]
    torch.testing.assert_close(maml.net(maml.meta, shared)[0], functional.linear(net(x), *head))
    nearest = Nearest(NearestSettings(), VECTOR, **COMMON)
    torch.testing.assert_close(nearest.features(x[None])[0], functional.normalize(x, dim=1))


def test_the_exported_graph_takes_vectors() -> None:
    graph = Matching(MatchingSettings(channels=4), VECTOR, **COMMON).graph(None)
    assert graph.inputs["support"].example.shape[2:] == (SIZE,)
    assert graph.inputs["support"].example.dtype == torch.float32
    assert "float32 embeddings" in graph.inputs["support"].meaning
    pytest.importorskip("onnx")
    assert to_onnx(graph, {"agent": "matching", "suite": "csv"})


def test_a_missing_library_is_reported_with_the_install_command(texts: Path, monkeypatch: Any) -> None:
    monkeypatch.setitem(sys.modules, "sentence_transformers", None)
    with pytest.raises(UserError, match=r'pip install "metarl\[text\]"'):
        data_set(f"csv:{texts}", sentence_encoder="any")
    assert data_set(f"csv:{texts}").kind == "text"


def test_an_old_version_of_the_library_is_refused(monkeypatch: Any) -> None:
    """Before version 6 it runs code from the folders that it loads."""
    monkeypatch.setattr(sentences, "find_spec", lambda name: object())
    monkeypatch.setattr(sentences, "version", lambda name: "5.9.1")
    with pytest.raises(UserError, match="6 or newer"):
        sentences.embedding("any", "cpu")


@pytest.mark.parametrize("name", ["sinusoid", "omniglot", "folder:images"])
def test_only_texts_are_embedded(name: str) -> None:
    with pytest.raises(UserError, match=f"{name} has no texts for a sentence encoder"):
        data_set(name, sentence_encoder="any")


# ---------------------------------------------------------------------------------------------------------------------
# with the library


def test_data_holds_sentence_vectors_and_returns_the_original_texts(texts: Path, tiny: str) -> None:
    from sentence_transformers import SentenceTransformer

    data = data_set(f"csv:{texts}", sentence_encoder=tiny)
    assert isinstance(data, Texts)
    assert (data.kind, data.example_shape) == ("vector", (SIZE,))
    episode = data.draw("train", np.random.default_rng(0), tasks=2, ways=3, shots=2, queries=1)
    assert episode.support.x.dtype == torch.float32
    texts_of_episode = data.texts(episode.support.x[0])
    expected = SentenceTransformer(tiny, device="cpu", local_files_only=True).encode(
        texts_of_episode, convert_to_tensor=True, show_progress_bar=False
    )
    torch.testing.assert_close(episode.support.x[0], expected)
    assert len(set(texts_of_episode)) == 6
    plain = data_set(f"csv:{texts}")
    assert [data.parts[part].counts.tolist() for part in data.parts] == [
        plain.parts[part].counts.tolist() for part in data.parts
    ]


@pytest.mark.parametrize("agent", ["proto", "maml", "nearest"])
def test_runs_evaluate_report_adapt_and_load(agent: str, runs: dict[str, Path], tiny: str, tmp_path: Path) -> None:
    path = runs[agent]
    assert json.loads((path / "config.json").read_text())["options"]["sentence_encoder"] == tiny
    assert cli.run(["evaluate", str(path), "--episodes", "20", "--queries", "2", "--device", "cpu", "--quiet"]) == 0
    content = json.loads((path / "evaluation.json").read_text())
    items = content["sides"]["test"]["examples"][0]["items"]
    assert all(" and number " in text for text in items)
    assert cli.run(["report", str(path), "--quiet"]) == 0
    for name, labelled in (("support", True), ("query", False)):
        with (tmp_path / f"{name}.csv").open("w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(["text", "label"] if labelled else ["text"])
            for c in (3, 8, 15):
                for i in (1, 2):
                    writer.writerow([f"word{c} number {i}", f"label{c}"] if labelled else [f"word{c} number {i}"])
    predictions = predict(path, tmp_path / "support.csv", tmp_path / "query.csv", device="cpu")
    assert predictions.classes == ["label3", "label8", "label15"]
    if agent != "maml":  # maml is not trained enough
        assert predictions.best == ["label3"] * 2 + ["label8"] * 2 + ["label15"] * 2
    learner = metarl.load(path, device="cpu")
    assert isinstance(learner, FewShot)
    assert learner.kind == VECTOR


def test_loading_needs_no_library(runs: dict[str, Path], monkeypatch: Any) -> None:
    monkeypatch.setitem(sys.modules, "sentence_transformers", None)
    assert metarl.load(runs["proto"], device="cpu")


def test_packed_and_exported_files_contain_no_local_paths(runs: dict[str, Path], tmp_path: Path) -> None:
    assert cli.run(["pack", str(runs["proto"]), "--out", str(tmp_path / "packed"), "--quiet"]) == 0
    assert json.loads((tmp_path / "packed" / "config.json").read_text())["options"]["sentence_encoder"] == "tiny"
    assert "sentence encoder `tiny`" in (tmp_path / "packed" / "README.md").read_text()
    onnx = pytest.importorskip("onnx")
    out = tmp_path / "a.onnx"
    assert cli.run(["export", str(runs["proto"]), "--out", str(out), "--quiet"]) == 0
    assert {entry.key: entry.value for entry in onnx.load(out).metadata_props}["sentence_encoder"] == "tiny"


def test_an_encoder_with_vectors_of_another_length_is_refused(runs: dict[str, Path], tmp_path: Path, capsys: Any) -> None:
    path = tmp_path / "run"
    path.mkdir()
    for file in ("config.json", "checkpoints"):
        (path / file).symlink_to(runs["proto"] / file)
    config = json.loads((path / "config.json").read_text())
    config["options"]["sentence_encoder"] = make_encoder(tmp_path / "longer", 2 * SIZE)
    (path / "config.json").unlink()
    (path / "config.json").write_text(json.dumps(config))
    message = f"gives vectors of {2 * SIZE} numbers, but the run was trained with {SIZE}"
    (tmp_path / "few.csv").write_text("text,label\nword1,a\nword2,b\n")
    with pytest.raises(UserError, match=message):
        predict(path, tmp_path / "few.csv", tmp_path / "few.csv", device="cpu")
    assert cli.run(["evaluate", str(path), "--episodes", "20", "--queries", "2", "--device", "cpu", "--quiet"]) == 2
    assert message in " ".join(capsys.readouterr().err.split())


def test_an_encoder_that_cannot_be_loaded_is_refused(texts: Path, tiny: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="cannot be loaded"):
        data_set(f"csv:{texts}", sentence_encoder=str(tmp_path))


def test_code_in_an_encoders_folder_is_not_run(texts: Path, tiny: str, tmp_path: Path) -> None:
    folder = tmp_path / "encoder"
    folder.mkdir()
    for file in Path(tiny).iterdir():
        (folder / file.name).write_bytes(file.read_bytes())
    (folder / "modeling_mine.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\nclass Mine: pass\n")
    modules = json.loads((folder / "modules.json").read_text())
    modules[0]["type"] = "modeling_mine.Mine"
    (folder / "modules.json").write_text(json.dumps(modules))
    with pytest.raises(UserError, match="cannot be loaded"):
        data_set(f"csv:{texts}", sentence_encoder=str(folder))
    assert not (tmp_path / "ran").exists()
