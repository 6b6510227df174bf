"""User-defined images and texts: files that are skipped or changed are counted and reported."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from builders.fewshot_runs import make_pictures
from PIL import Image

from metarl import cli
from metarl.datasets.catalog import data_set
from metarl.datasets.episodes import PARTS
from metarl.datasets.images import read_image
from metarl.datasets.text import LENGTH
from metarl.errors import UserError
from metarl.sharing.few_shot_prediction import predict

SMALL = "--steps 1 --updates 1 --meta-batch 1 --channels 4 --device cpu".split()


def train(data: str, run: Path, *arguments: str, agent: str = "proto") -> int:
    options = "--ways 2 --shots 1 --queries 2".split()
    return cli.run(["train", agent, data, *SMALL, *options, *arguments, "--run-dir", str(run)])


def printed(capsys: Any) -> str:
    return " ".join("".join(capsys.readouterr()).split())


def classes(data: Any) -> dict[str, np.ndarray]:
    """The images of each class."""
    images = {}
    for part in PARTS:
        pool = data.parts[part]
        images |= dict(zip(pool.names, np.split(pool.values, pool.counts.cumsum()[:-1])))
    return images


@pytest.mark.parametrize(
    ("kind", "dtype", "factor", "white"),
    [
        ("png", np.uint8, 1, None),
        ("tif", np.int32, 1, 255),
        ("png", np.uint16, 16, 4095),
        ("tif", np.uint16, 16, 4095),
        ("png", np.uint16, 257, 65535),
        ("tif", np.int32, 2**20, 2**28 - 1),
    ],
)
def test_deep_grey_images_are_scaled_by_the_range_of_the_data_set(
    kind: str, dtype: Any, factor: int, white: int | None, tmp_path: Path, capsys: Any
) -> None:
    """Pictures in 8, 12, 16 and 28 bits, in any file format, give the same input; one is much darker."""
    for c in range(4):
        (tmp_path / f"class{c}").mkdir()
        pixels = np.full((20, 20), 10 + 40 * c)
        pixels[5:15, 5:15] = 255 - 60 * c
        Image.fromarray((pixels * factor).astype(dtype)).save(tmp_path / f"class{c}" / f"0.{kind}")
    images = classes(data_set(f"folder:{tmp_path}", image_size=20))
    for c in range(4):
        image = images[f"class{c}"][0, 0].astype(int)
        assert abs(image[0, 0] - (10 + 40 * c)) <= 1
        assert abs(image[10, 10] - (255 - 60 * c)) <= 1
    expected = f"4 images of 16 or 32 bits: 0 is taken for black, {white:,} for white" if white else ""
    assert expected in printed(capsys)


def test_negative_values_are_dark_and_float_images_are_refused(tmp_path: Path) -> None:
    Image.fromarray(np.array([[-1000, 0], [500, 1000]], np.int32)).save(tmp_path / "x.tif")
    assert read_image(tmp_path / "x.tif", 2)[0].tolist() == [[0, 128], [191, 255]]
    Image.fromarray(np.ones((2, 2), np.float32)).save(tmp_path / "f.tif")
    with pytest.raises(ValueError, match="unknown range"):
        read_image(tmp_path / "f.tif", 2)


def test_support_and_query_share_one_range(tmp_path: Path, capsys: Any) -> None:
    make_pictures(tmp_path / "eight", map(str, range(8)), 6)
    assert train(f"folder:{tmp_path / 'eight'}", tmp_path / "run", "--quiet") == 0
    for folder, name, value in (("support/dark", "a", 100), ("support/light", "a", 4000), ("query", "dark", 100)):
        (tmp_path / folder).mkdir(parents=True)
        Image.fromarray(np.full((16, 16), value, np.uint16)).save(tmp_path / folder / f"{name}.png")
    predictions = predict(tmp_path / "run", tmp_path / "support", tmp_path / "query")
    assert predictions.best == ["dark"]
    assert "3 images of 16 or 32 bits: 0 is taken for black, 4,095 for white" in printed(capsys)


def test_nested_and_empty_class_folders(tmp_path: Path, capsys: Any) -> None:
    make_pictures(tmp_path, map(str, range(6)), 5)
    for name in ("species6", "species7"):
        make_pictures(tmp_path / name, ["2024", "2025"], 2)
    (tmp_path / "nothing").mkdir()
    (tmp_path / "labels.csv").write_text("x")
    (tmp_path / ".cats").mkdir()
    (tmp_path / "0" / ".DS_Store").touch()
    (tmp_path / "0" / "deeper").symlink_to(tmp_path / "0")  # a cycle is followed once
    images_by_class = classes(data_set(f"folder:{tmp_path}"))
    assert {name: len(images) for name, images in images_by_class.items()} == {
        **{str(c): 5 for c in range(6)},
        "species6": 4,
        "species7": 4,
    }
    text = printed(capsys)
    assert "2 classes lie in subfolders: species6, species7" in text
    assert "1 class folder holds no images, left out: nothing" in text
    assert "1 file lies next to the class folders, left out: labels.csv" in text
    assert "1 entry is hidden, left out: .cats" in text


def test_the_first_of_several_images_in_a_file_is_used(tmp_path: Path, capsys: Any) -> None:
    make_pictures(tmp_path, "abc", 2)
    frames = [Image.new("L", (9, 9), shade) for shade in (50, 200)]
    frames[0].save(tmp_path / "a" / "film.gif", save_all=True, append_images=frames[1:])
    assert len(classes(data_set(f"folder:{tmp_path}"))["a"]) == 3
    assert "of 1 file with several images the first one is taken: a/film.gif" in printed(capsys)


@pytest.mark.parametrize(
    ("names", "counts"),
    [
        (("train", "valid", "test"), (4, 3, 3)),
        (("Training", "dev", "testing"), (4, 3, 3)),
        (("train", "val", "eval"), (4, 3, 3)),
        (("train", "eval", "test"), (4, 3, 3)),
        (("train", "validation", "evaluation"), (4, 3, 3)),
    ],
)
def test_folder_names_that_define_a_split(names: tuple[str, ...], counts: tuple[int, ...], tmp_path: Path, capsys: Any) -> None:
    first = 0
    for name, count in zip(names, counts):
        make_pictures(tmp_path / name, (f"k{c}" for c in range(first, first + count)), 2)
        first += count
    (tmp_path / "annotations").mkdir()
    (tmp_path / "annotations" / "a.json").write_text("{}")
    data = data_set(f"folder:{tmp_path}")
    assert tuple(len(data.classes(part)) for part in PARTS) == counts
    assert "1 folder is not part of its split, left out: annotations" in printed(capsys)


def test_nested_folders_are_not_classes(tmp_path: Path) -> None:
    for name in ("learn", "check"):
        make_pictures(tmp_path / name, "abc", 2)
    with pytest.raises(UserError, match=r"nested folders \(check, learn\).* validation: validation or valid or val or dev"):
        data_set(f"folder:{tmp_path}")


def test_class_names_are_compared_without_case(tmp_path: Path) -> None:
    for part, label in (("train", "Cat"), ("train", "dog"), ("val", "cow"), ("test", "cat")):
        make_pictures(tmp_path / part, [label], 2)
    with pytest.raises(UserError, match="class 'Cat' is in both test and train"):
        data_set(f"folder:{tmp_path}")


def test_a_class_called_train_is_a_class(tmp_path: Path) -> None:
    make_pictures(tmp_path, ["train", "bus", "test"], 2)
    assert set(classes(data_set(f"folder:{tmp_path}"))) == {"train", "bus", "test"}


@pytest.mark.parametrize("agent", ["proto", "maml"])
@pytest.mark.parametrize(("count", "fits"), [(3, False), (6, False), (7, False), (8, True)])
def test_data_too_small_to_evaluate_is_refused_before_training(
    agent: str, count: int, fits: bool, tmp_path: Path, capsys: Any
) -> None:
    make_pictures(tmp_path / "few", map(str, range(count)), 8)
    data = f"folder:{tmp_path / 'few'}"
    assert train(data, tmp_path / "run", agent=agent) == (0 if fits else 2)
    text = printed(capsys)
    if fits:
        assert "metarl evaluate RUN --queries 7." in text
        assert cli.run(["evaluate", str(tmp_path / "run"), "--queries", "7", "--episodes", "5", "--quiet"]) == 0
    elif count > 3:
        assert "has 1 test class" in text
        assert "A split by share holds out 2 of 8 classes." in text
        assert "Or add folders train, validation and test for a split." in text
    assert (tmp_path / "run").exists() == fits


def test_learners_with_any_ways_are_trained_with_a_hint(tmp_path: Path, capsys: Any) -> None:
    make_pictures(tmp_path / "some", map(str, range(9)), 20)
    data = f"folder:{tmp_path / 'some'}"
    assert train(data, tmp_path / "run", "--ways", "4") == 0
    assert "metarl evaluate RUN --ways 2." in printed(capsys)
    assert train(data, tmp_path / "other", "--ways", "4", agent="maml") == 2
    assert "4 ways need 4: it could be trained, but not evaluated" in printed(capsys)


def test_evaluation_during_training_must_fit_the_data(tmp_path: Path, capsys: Any) -> None:
    for part, count, images in (("train", 4, 6), ("valid", 1, 6), ("test", 3, 6)):
        make_pictures(tmp_path / "data" / part, (f"{part}{c}" for c in range(count)), images)
    data = f"folder:{tmp_path / 'data'}"
    assert train(data, tmp_path / "run", "--evaluate-every", "1") == 2
    assert "has 1 validation class: 2 ways do not fit" in printed(capsys)
    assert not (tmp_path / "run").exists()
    assert train(data, tmp_path / "run") == 0


def test_truncated_and_ambiguous_texts_are_reported(tmp_path: Path, capsys: Any) -> None:
    rows = [f"{label} number {i},{label}" for label in "abcde" for i in range(3)]
    long = " ".join(f"w{i}" for i in range(LENGTH + 5))
    rows += [
        f"{long},a",
        "antidisestablishmentarianism pneumonoultramicroscopicsilicovolcanoconiosis,b",
        "the same,a",
        "the same,b",
    ]
    file = tmp_path / "texts.csv"
    file.write_text("\n".join(["text,label", *rows]))
    data_set(f"csv:{file}")
    text = printed(capsys)
    assert f"2 of 18 texts have more than {LENGTH} words and parts of words" in text
    assert f"words beyond {LENGTH} are left out, of 1 text" in text
    assert "1 text with more than one label, such as 'the same'" in text
