"""Episodes: correct classes, labels and examples, drawn evenly. Data sets: splits, unusual files, wrong input."""

import io
import os
import runpy
import zipfile
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from scipy.stats import chi2

from metarl.datasets import omniglot as og
from metarl.datasets.catalog import data_set
from metarl.datasets.episodes import PARTS, Episode, Pool, Resident
from metarl.datasets.text import LENGTH, clinc150, features, read_csv
from metarl.errors import UserError

DATA = os.environ.get("METARL_DATA", "")
real = pytest.mark.skipif(
    not (Path(DATA, "omniglot").is_dir() and Path(DATA, "clinc150").is_dir()), reason="METARL_DATA does not hold the data sets"
)


def numbered(counts: list[int], kind: str = "text") -> Resident:
    """Example e of class c is the number 100 c + e, in every part."""
    classes = {f"c{c}": 100 * c + np.arange(n, dtype=np.int16)[:, None] for c, n in enumerate(counts)}
    return Resident("numbers", kind, "", dict.fromkeys(PARTS, Pool.of(classes, np.zeros((0, 1), np.int16))))


def draw(data: Any, seed: int = 0, part: Any = "train", **sizes: int) -> Episode:
    return data.draw(part, np.random.default_rng(seed), **{"tasks": 3, "ways": 2, "shots": 1, "queries": 1, **sizes})


@settings(max_examples=60, deadline=None)
@given(
    counts=st.lists(st.integers(6, 20), min_size=2, max_size=9),
    ways=st.integers(2, 9),
    shots=st.integers(0, 3),
    queries=st.integers(1, 3),
    tasks=st.integers(1, 5),
    seed=st.integers(0, 2**32),
)
def test_an_episode_has_its_classes_and_labels(
    counts: list[int], ways: int, shots: int, queries: int, tasks: int, seed: int
) -> None:
    ways, data = min(ways, len(counts)), numbered(counts)
    episode = draw(data, seed, tasks=tasks, ways=ways, shots=shots, queries=queries)
    assert episode.classes is not None
    assert episode.support.x.shape == (tasks, ways * shots, 1)
    assert episode.query.x.shape == (tasks, ways * queries, 1)
    for t in range(tasks):
        classes = episode.classes[t].tolist()
        assert len(set(classes)) == ways
        for examples, n in ((episode.support, shots), (episode.query, queries)):
            assert Counter(examples.y[t].tolist()) == (dict.fromkeys(range(ways), n) if n else {})
            numbers = examples.x[t, :, 0]
            assert (numbers // 100).tolist() == [classes[y] for y in examples.y[t].tolist()]
            assert all(number % 100 < counts[number // 100] for number in numbers.tolist())
        all_examples = torch.cat([episode.support.x[t], episode.query.x[t]]).flatten().tolist()
        assert len(set(all_examples)) == len(all_examples)  # no example occurs twice, and support and query are disjoint
    repeated = draw(data, seed, tasks=tasks, ways=ways, shots=shots, queries=queries)
    assert all(
        torch.equal(a, b)
        for examples, repeated_examples in zip(episode[:2], repeated[:2])
        for a, b in zip(examples, repeated_examples)
    )


@pytest.mark.parametrize("ways", [2, 4])
def test_classes_labels_and_examples_are_drawn_evenly(ways: int) -> None:
    """Outcomes are as frequent as if classes and examples were shuffled in a loop (chi-squared, 0.1 %)."""
    tasks = 20_000
    episode = draw(numbered([3, 3, 3, 3]), tasks=tasks, ways=ways)
    assert episode.classes is not None
    support_examples = torch.take_along_dim(
        episode.support.x[..., 0], (episode.support.y == 0).int().argmax(1, keepdim=True), 1
    )
    query_examples = torch.take_along_dim(episode.query.x[..., 0], (episode.query.y == 0).int().argmax(1, keepdim=True), 1)
    for outcomes, number in (
        (episode.classes[:, :2], 12),
        (torch.cat([support_examples, query_examples], 1), 24),
        (episode.support.y[:, :1], ways),
        (episode.support.x[:, 0], 12),
        (episode.query.y[:, -1:], ways),
    ):
        counts = np.unique(outcomes.numpy(), axis=0, return_counts=True)[1]
        expected = tasks / number
        assert len(counts) == number
        assert ((counts - expected) ** 2 / expected).sum() < chi2.ppf(0.999, number - 1)


def test_images_become_numbers_from_0_to_1() -> None:
    images = {label: np.full((3, 1, 2, 2), value, np.uint8) for label, value in (("black", 0), ("white", 255), ("grey", 51))}
    data = Resident("images", "image", "", dict.fromkeys(PARTS, Pool.of(images, images["black"])))
    episode = draw(data, ways=3)
    assert episode.support.x.dtype == torch.float32
    assert episode.support.x.shape == (3, 3, 1, 2, 2)
    assert set(episode.support.x.flatten().tolist()) == {0.0, 1.0, float(np.float32(51) / np.float32(255))}


@pytest.mark.parametrize(
    ("counts", "sizes", "message"),
    [
        ([20] * 30, {"shots": 10, "queries": 15}, r"20 examples a class: 10 shots \+ 15 queries do not fit"),
        ([20, 7], {"shots": 5, "queries": 3}, r"7 examples of class 'c1': 5 shots \+ 3 queries"),
        ([20] * 4, {"ways": 5}, "has 4 train classes: 5 ways do not fit"),
        ([20] * 4, {"ways": 1}, "2 ways"),
        ([20] * 4, {"queries": 0}, "1 query"),
        ([], {}, "has 0 train classes"),
    ],
)
def test_episodes_that_do_not_fit_are_refused_with_the_numbers(counts: list[int], sizes: dict[str, int], message: str) -> None:
    with pytest.raises(UserError, match=message):
        draw(numbered(counts), **sizes)


def test_a_task_of_sinusoid_is_one_curve() -> None:
    episode = draw(data_set("sinusoid"), tasks=500, shots=10, queries=30)
    x, y = (torch.cat(halves, 1)[..., 0] for halves in zip(episode.support, episode.query))
    assert x.shape == y.shape == (500, 40)
    assert episode.classes is None
    basis = torch.stack([x.sin(), x.cos()], -1).double()  # A sin(x - p) = A cos p sin x - A sin p cos x
    coefficients = torch.linalg.lstsq(basis, y[..., None].double()).solution[..., 0]
    amplitude, phase = coefficients.norm(dim=1), torch.atan2(-coefficients[:, 1], coefficients[:, 0])
    assert (basis @ coefficients[..., None])[..., 0].sub(y).abs().max() < 1e-4
    assert 0.1 <= amplitude.min() < 0.3
    assert 4.8 < amplitude.max() <= 5
    assert -0.01 <= phase.min() < 0.1
    assert 3 < phase.max() < 3.15
    assert -5 <= x.min() < -4.9
    assert 4.9 < x.max() <= 5


def test_features_of_a_text_are_its_words_and_their_n_grams() -> None:
    ids = features("Go, go!")
    assert ids[:6].tolist() == [6578, 2214, 3407, 3923, 4658, 0]  # <go> <,> <!> <go go>
    assert np.array_equal(ids, features("GO,  go!"))
    shared = set(features("cancelling").tolist()) & set(features("cancellation").tolist())
    assert len(shared - {0}) > 10
    assert np.count_nonzero(features("a longer text with many words " * 3 + " ".join(map(str, range(300))))) == LENGTH


def csv_file(folder: Path, content: bytes | str) -> Path:
    path = folder / "own.csv"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("text,kind\na,b\n", "line 1: no column label; the header has 'text', 'kind'"),
        ("", "no column text and no column label"),
        ("text,label\n", "no rows"),
        ("text,label,text\na,b,c\n", "'text' occurs twice"),
        ("text,label\nhi,greeting\n  ,greeting\n", "line 3: empty text"),
        ("text,label\nhi,\n", "line 2: empty label"),
        ("text,label\nhi, there,greeting\n", "line 2: 3 values for 2 columns"),
        ('text,label\n"two\nlines",a\nhi\n', "line 4: 1 value for"),
        ('text,label\n"hi,a\n', "unexpected end"),
        (b"text,label\nhi,a\ncaf\xe9,b\n", "line 3: byte 0xe9 is not UTF-8"),
        ("text,label\nhi,a\nho,b\n", "has 2 classes"),
    ],
)
def test_a_wrong_csv_is_refused_with_its_line(tmp_path: Path, content: bytes | str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        data_set(f"csv:{csv_file(tmp_path, content)}")


def test_user_texts_are_split_by_label(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = [f'"{word}, number {i}",{word}\r\n' for word in ("one", "two", "three", "four", "fünf") for i in range(4)]
    path = csv_file(tmp_path, "\ufefftext,label\r\n" + "".join(rows) + "\r\n" + rows[0])
    data: Any = data_set(f"csv:{path}")
    assert "1 of 21 texts repeat another" in " ".join(capsys.readouterr().out.split())
    assert [len(data.classes(part)) for part in PARTS] == [3, 1, 1]
    assert len({name for part in PARTS for name in data.classes(part)}) == 5
    assert "3 for training" in data.split
    episode = draw(data, shots=2, queries=2)
    assert episode.classes is not None
    assert episode.query.x.dtype == torch.int64
    for text, y in zip(data.texts(episode.query.x[0]), episode.query.y[0].tolist()):
        assert text.startswith(data.classes("train")[episode.classes[0, y]] + ", number ")
    assert read_csv(path, ("text",))[0] == ("one, number 0",)
    orders = {data_set(f"csv:{path}", seed=seed).classes("test") for seed in range(6)}  # type: ignore[type-var]
    assert len(orders) > 1


def image(path: Path, mode: str = "L", size: tuple[int, int] = (40, 30), color: Any = 0) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new(mode, size, color).save(path)
    return path


def test_images_of_all_kinds_are_read_and_unreadable_files_counted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for label in ("a", "b", "c"):
        image(tmp_path / label / "grey.png", color=128)
        image(tmp_path / label / "sixteen.png", "I;16", color=128 << 8)
        image(tmp_path / label / "clear.png", "RGBA", (9, 50), (0, 0, 0, 0))
        image(tmp_path / label / "half.png", "LA", (1, 1), (0, 127))
        image(tmp_path / label / "one.png", "1", (300, 2), 1)
        image(tmp_path / label / ".hidden.png")
    (tmp_path / "a" / "empty.png").touch()
    (tmp_path / "b" / "text.png").write_text("not a picture")
    (tmp_path / "c" / "cut.png").write_bytes(image(tmp_path / "c" / "x.png", "L", (500, 500)).read_bytes()[:-40])
    (tmp_path / "c" / "x.png").unlink()
    data: Any = data_set(f"folder:{tmp_path}", image_size=20)
    output = " ".join(capsys.readouterr().out.split())
    assert "3 of 18 files cannot be read as images and are left out: a/empty.png" in output
    assert data.example_shape == (1, 20, 20)
    assert [len(data.classes(part)) for part in PARTS] == [1, 1, 1]
    for part in PARTS:
        assert sorted(data.parts[part].values.reshape(5, -1).mean(1)) == [128, 128, 128, 255, 255]
    image(tmp_path / "a" / "colour.png", "P").write_bytes(image(tmp_path / "x.png", "RGB", color="red").read_bytes())
    assert data_set(f"folder:{tmp_path}", image_size=20).example_shape == (3, 20, 20)


def test_folders_that_are_refused(tmp_path: Path) -> None:
    for name, message in (("none", "cannot be read as a folder"), ("", "no class/image files")):
        with pytest.raises(UserError, match=message):
            data_set(f"folder:{tmp_path / name}")
    (tmp_path / "bad" / "a").mkdir(parents=True)
    (tmp_path / "bad" / "a" / "x.png").touch()
    with pytest.raises(UserError, match="1 file, none of which can be read"):
        data_set(f"folder:{tmp_path / 'bad'}")
    image(tmp_path / "few" / "a" / "x.png")
    with pytest.raises(UserError, match="has 1 class:"):
        data_set(f"folder:{tmp_path / 'few'}")


def test_a_folder_may_define_a_split_without_shared_classes(tmp_path: Path) -> None:
    for part, label in (("train", "a"), ("train", "b"), ("val", "c"), ("test", "d")):
        image(tmp_path / part / label / "x.png")
    data = data_set(f"folder:{tmp_path}")
    assert [list(data.classes(part)) for part in PARTS] == [["a", "b"], ["c"], ["d"]]
    assert data.split == "by its folders: 2 classes for train, 1 class for validation, 1 class for test"
    image(tmp_path / "test" / "a" / "x.png")
    with pytest.raises(UserError, match="class 'a' is in both test and train"):
        data_set(f"folder:{tmp_path}")


@pytest.mark.parametrize("name", ["omniglt", "omniglot:foreground", "folder:", "csv", ""])
def test_unknown_names_are_answered_with_known_ones(name: str) -> None:
    with pytest.raises(UserError, match=r"unknown data set .*(omniglot|folder:PATH|csv:PATH)"):
        data_set(name)


def test_an_archive_is_converted_to_arrays_in_order(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(og, "ALPHABETS", {"background": {"B": 1, "A": 2}})
    drawings = np.random.default_rng(0).random((3, 20, 105, 105)) < 0.9
    pictures = {
        f"images_background/{name}/{d:02d}.png": drawings[c, d]
        for c, name in enumerate(("B/character01", "A/character01", "A/character02"))
        for d in range(20)
    }

    def archive(excluded: str = "") -> bytes:
        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, "w") as members:
            members.writestr("../../climbs/out.png", b"")
            members.writestr("images_background/B/notes.txt", b"")
            for name, picture in reversed(pictures.items()):
                if name != excluded:
                    png = io.BytesIO()
                    Image.fromarray(picture).save(png, "PNG")
                    members.writestr(name, png.getvalue())
        return buffer.getvalue()

    stored = np.load(io.BytesIO(og.arrays("background", archive())))
    assert np.array_equal(stored["images"], drawings)
    assert stored["labels"].tolist() == [[c] * 20 for c in range(3)]
    with pytest.raises(ValueError, match="A/character02 has 19 drawings, not 20"):
        og.arrays("background", archive("images_background/A/character02/07.png"))
    assert og.digest(drawings[::-1, ::-1]) == og.digest(drawings)
    mixed = drawings.copy()
    mixed[0, 0], mixed[1, 0] = drawings[1, 0], drawings[0, 0]
    assert og.digest(mixed) != og.digest(drawings)


@real
@pytest.mark.parametrize(("name", "sizes"), [("omniglot", [1100, 100, 423]), ("omniglot:background", None)])
def test_omniglot(name: str, sizes: list[int] | None) -> None:
    turned, plain = data_set(name), data_set(name, rotations=False)
    classes = [list(plain.classes(part)) for part in PARTS]
    assert sizes in (None, [len(c) for c in classes])
    assert len({c for part in classes for c in part}) == 1623
    if name == "omniglot:background":
        assert classes[2] == og.characters("evaluation")
        assert not {c.split("/")[0] for c in classes[0]} & {c.split("/")[0] for c in classes[1]}
    episode = draw(turned, part="test", tasks=1, ways=100, shots=15, queries=5)  # all 20 drawings
    assert episode.classes is not None
    assert 0.05 < episode.support.x.mean() < 0.15  # strokes are 1
    class_indices, label = episode.classes[0].tolist(), turned.classes("test")
    k = next(i for i, c in enumerate(class_indices) if label[c].endswith("turned by 90"))
    images = torch.cat([e.x[0][e.y[0] == k] for e in episode[:2]])
    upright: Any = plain
    start = 20 * list(plain.classes("test")).index(label[class_indices[k]].removesuffix(" turned by 90"))
    original = torch.from_numpy(upright.parts["test"].values[start : start + 20]).float() / 255
    assert {i.numpy().tobytes() for i in torch.rot90(original, 1, (2, 3)).contiguous()} == {i.numpy().tobytes() for i in images}
    with pytest.raises(UserError, match=r"omniglot.* has 20 drawings a character: 10 shots \+ 15 queries do not fit"):
        draw(turned, shots=10, queries=15)


@real
def test_the_one_shot_trials_are_as_hard_for_pixels_as_published() -> None:
    """The nearest neighbour on pixels has 21.7 % accuracy in Koch et al. 2015, table 2, on images of another size."""
    script = Path(__file__).parents[2] / "scripts" / "fewshot_table"
    support, query, _ = runpy.run_path(str(script))["one_shot_trials"]()
    assert support.x.shape == query.x.shape == (20, 20, 1, 28, 28)
    assert all(sorted(y) == list(range(20)) for part in (support, query) for y in part.y.tolist())
    nearest = torch.cdist(query.x.flatten(2), support.x.flatten(2)).argmin(2)
    right = torch.take_along_dim(support.y, nearest, 1).eq(query.y).double().mean()
    assert 0.17 < right < 0.26


@real
def test_clinc150_is_split_by_domain() -> None:
    data = clinc150()
    assert [len(data.classes(part)) for part in PARTS] == [90, 30, 30]
    assert len({c for part in PARTS for c in data.classes(part)}) == 150
    assert {"translate", "w2"} < set(data.classes("test"))
    assert {len(pool.values) for pool in data.parts.values()} <= {*range(4470, 4501), *range(13470, 13501)}
    episode = draw(data, part="test", shots=5, queries=15)
    assert episode.query.x.shape == (3, 30, LENGTH)
    assert all(data.texts(episode.query.x[0]))
