"""Load the user's own images from a folder of class/image files, of any size and format."""

import os
import unicodedata
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageOps

from metarl.datasets.episodes import PARTS, Part, Pool, Resident
from metarl.datasets.splits import split_by_share
from metarl.errors import UserError
from metarl.system.console import say
from metarl.system.counts import plural
from metarl.system.memory import refuse_beyond

SPLIT_FOLDERS: dict[Part, tuple[str, ...]] = {
    "train": ("train", "training"),
    "validation": ("validation", "valid", "val", "dev"),
    "test": ("test", "testing", "eval", "evaluation"),
}
"""Folder names that define a split; `eval` and `evaluation` mean validation if another folder is the test set."""
_SYSTEM_FILES = (".DS_Store", ".gitkeep", ".gitignore", ".git", ".ipynb_checkpoints")
"""Files that programs leave in folders. Other hidden files and folders are also skipped, but with a message."""


class Depth(NamedTuple):
    """Pixel values of deep grey images (16 or 32 bits) that are mapped to black and white."""

    black: int
    white: int


def folder_images(path: Path, seed: int, image_size: int) -> Resident:
    """Load PATH/class/image files, or PATH/train/class/image, PATH/validation/..., PATH/test/...

    Images have one channel if all of them are grey, else three.

    Raises:
        UserError: there are no images, too few classes to split, or a class in two parts.
    """
    name = f"folder:{path}"
    folders, depth = _split_folders(path), depth_of(path)
    if folders:
        skipped = [folder.name for folder in subfolders(path) if folder not in folders]
        _report_skipped(path, skipped, "folder", "is not part of its split", "are not part of its split")
        classes: dict[str, np.ndarray] = {}
        parts: dict[str, Part] = {}
        folder_of: dict[str, str] = {}
        for folder, part in folders.items():
            for label, images in read_classes(folder, image_size, depth).items():
                normalized = unicodedata.normalize("NFC", label).casefold()  # Cat and cat are the same class
                if normalized in folder_of:
                    raise UserError(f"{path}: class {label!r} is in both {folder_of[normalized]} and {folder.name}")
                classes[label], parts[label], folder_of[normalized] = images, part, folder.name
        split = "by its folders: " + ", ".join(
            f"{plural(list(parts.values()).count(part), 'class')} for {part}" for part in PARTS
        )
    else:
        classes = read_classes(path, image_size, depth)
        parts, split = split_by_share(list(classes), seed, name)
    if all(is_grey(images) for images in classes.values()):
        classes = {label: images[:, :1] for label, images in classes.items()}
    like = next(iter(classes.values()))
    pools = {part: Pool.of({label: classes[label] for label in parts if parts[label] == part}, like) for part in PARTS}
    return Resident(name, "image", split, pools, "images", "class")


def _split_folders(path: Path) -> dict[Path, Part]:
    """Return the folders that define the split with their parts, or none: needs training, another part, classes in each."""
    part_of = {
        folder: part for folder in subfolders(path) for part, names in SPLIT_FOLDERS.items() if folder.name.lower() in names
    }
    if len({part for part in part_of.values()}) < 2 or "train" not in part_of.values() or not all(map(subfolders, part_of)):
        return {}
    has_test = any(folder.name.lower().startswith("test") for folder in part_of)
    return {
        folder: "validation" if has_test and folder.name.lower().startswith("eval") else part
        for folder, part in part_of.items()
    }


def read_classes(path: Path, image_size: int, depth: Depth | None) -> dict[str, np.ndarray]:
    """Read the images of each class in a folder of class/image files, uint8 (n, 3, image_size, image_size).

    A class folder may contain subfolders. Skipped files are counted and named in a message.

    Args:
        path: the folder.
        image_size: height and width, pixels.
        depth: range of deep grey images, see `depth_of`.

    Raises:
        UserError: there are no images, or all images are in subfolders of class folders, as in a split with unknown names.
    """
    classes: dict[str, np.ndarray] = {}
    unreadable, empty, nested = list[str](), list[str](), list[str]()
    total = 0
    count = sum(len(files(folder)) for folder in subfolders(path))
    required_bytes = {f"{count:,} images of {image_size} x {image_size} pixels": 3.0 * count * image_size**2}
    refuse_beyond(required_bytes, "a smaller --image-size needs less")
    for folder in subfolders(path):
        images, unreadable_here = read_images(path, files(folder), image_size, depth)
        total += len(images) + len(unreadable_here)
        unreadable += unreadable_here
        if images:
            classes[folder.name] = np.stack(list(images.values()))
            nested += [folder.name] if all(name.count(os.sep) > 1 for name in images) else []
        else:
            empty += [folder.name]
    if not classes:
        reason = (
            f"{plural(total, 'file')}, none of which can be read: {unreadable[0]}"
            if unreadable
            else "there are no class/image files in it"
        )
        raise UserError(f"{path}: {reason}")
    if len(nested) == len(classes):
        known_names = "; ".join(f"{part}: {' or '.join(names)}" for part, names in SPLIT_FOLDERS.items())
        raise UserError(
            f"{path} holds nested folders ({_first_names(nested)}) instead of class/image files. Folders with these "
            f"names make a split: {known_names}"
        )
    _report_skipped(path, empty, "class folder", "holds no images", "hold no images")
    _report_skipped(
        path,
        [entry.name for entry in _entries(path) if entry.is_file()],
        "file",
        "lies next to the class folders",
        "lie next to the class folders",
    )
    _report_unreadable(path, unreadable, total)
    if nested:
        say(f"{path}: the images of {plural(len(nested), 'class')} lie in subfolders: {_first_names(nested)}")
    return classes


def read_images(
    root: Path, paths: Sequence[Path], image_size: int, depth: Depth | None
) -> tuple[dict[str, np.ndarray], list[str]]:
    """Read images, by path below `root`, see `read_image`; for unreadable files, return their path and the reason."""
    images, unreadable = {}, []
    for file in paths:
        name = str(file.relative_to(root))
        try:
            images[name] = read_image(file, image_size, depth)
        except Exception as error:  # PIL raises many kinds of errors; the file is unusable in any case
            unreadable.append(f"{name} ({error})")
    return images, unreadable


def read_folder(folder: Path, image_size: int, depth: Depth | None) -> dict[str, np.ndarray]:
    """Read the images in a folder and its subfolders, by path below it; unreadable files are skipped with a message.

    Raises:
        UserError: there are no images.
    """
    paths = files(folder)
    images, unreadable = read_images(folder, paths, image_size, depth)
    if not images:
        reason = (
            f"{plural(len(unreadable), 'file')}, none of which can be read: {unreadable[0]}"
            if unreadable
            else "there are no images"
        )
        raise UserError(f"{folder}: {reason}")
    _report_unreadable(folder, unreadable, len(paths))
    return images


def read_image(file: Path, image_size: int, depth: Depth | None = None) -> np.ndarray:
    """Read an image as uint8 (3, image_size, image_size), ignoring its aspect ratio; transparency becomes white.

    Args:
        file: the image file; if it contains several images, the first is used.
        image_size: height and width, pixels.
        depth: black and white levels of a deep grey image; None: derived from this image alone.

    Raises:
        Exception: of many kinds, if the file is not an image.
    """
    with Image.open(file) as source:
        image = ImageOps.exif_transpose(source)
        if image.mode == "F":
            raise ValueError("pixels of unknown range")
        if image.mode.startswith("I"):
            black, white = depth or _depth(*_value_range(image))
            levels = (np.asarray(image).astype(np.float64) - black) / (white - black)
            image = Image.fromarray(np.uint8(255 * levels.clip(0, 1) + 0.5))
        if image.has_transparency_data:
            image = image.convert("RGBA")
            image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
        resized = image.convert("RGB").resize((image_size, image_size), Image.Resampling.LANCZOS)
    return np.asarray(resized).transpose(2, 0, 1)


def depth_of(*folders: Path) -> Depth | None:
    """Find one common black and white level for the deep grey images of some folders; None: there are no such images.

    Files do not state how many of their 16 or 32 bits are used. White is the highest value with as many bits as the largest
    pixel, at least 8: 255, 1,023, 4,095, ... This choice and files with several images are reported in messages.
    """
    ranges, multiple = list[tuple[int, int]](), list[str]()
    for folder in folders:
        for file in files(folder):
            try:
                with Image.open(file) as image:
                    multiple += [str(file.relative_to(folder))] if getattr(image, "n_frames", 1) > 1 else []
                    ranges += [_value_range(image)] if image.mode.startswith("I") else []
            except Exception:  # reported when the images are read
                continue
    location = " and ".join(map(str, folders))
    if multiple:
        listed = _first_names(multiple)
        say(f"{location}: of {plural(len(multiple), 'file')} with several images the first one is taken: {listed}")
    if not ranges:
        return None
    depth = _depth(min(low for low, _ in ranges), max(high for _, high in ranges))
    count = plural(len(ranges), "image")
    say(f"{location}: {count} of 16 or 32 bits: {depth.black:,} is taken for black, {depth.white:,} for white")
    return depth


def _value_range(image: Image.Image) -> tuple[int, int]:
    values = np.asarray(image)
    return int(values.min()), int(values.max())


def _depth(low: int, high: int) -> Depth:
    return Depth(low, max(high, low + 1)) if low < 0 else Depth(0, 2 ** max(8, high.bit_length()) - 1)


def is_grey(images: np.ndarray) -> bool:
    """Whether all channels (n, channels, height, width) are equal."""
    return bool((images == images[:, :1]).all())


def subfolders(path: Path) -> list[Path]:
    """Return the visible folders in a folder, sorted by name.

    Raises:
        UserError: the path is not a folder or is unreadable.
    """
    return [entry for entry in _entries(path) if entry.is_dir()]


def files(path: Path) -> list[Path]:
    """Return the visible files in a folder and its visible subfolders, sorted by name.

    Raises:
        UserError: the path is not a folder or is unreadable.
    """
    entries = _entries(path)
    folders = [entry for entry in entries if entry.is_dir() and not path.resolve().is_relative_to(entry.resolve())]  # no cycles
    nested = [file for folder in folders for file in files(folder)]
    return [*(entry for entry in entries if entry.is_file()), *nested]


def _entries(path: Path) -> list[Path]:
    try:
        return sorted(entry for entry in path.iterdir() if not entry.name.startswith("."))
    except OSError as error:
        raise UserError(f"{path} cannot be read as a folder: {error.strerror}") from None


def hidden(path: Path) -> list[str]:
    """Return hidden files and folders below a folder, by relative path, except those that programs commonly leave there."""
    paths = []
    for folder, folders, names in os.walk(path):
        hidden_names = [name for name in (*folders, *names) if name.startswith(".")]
        paths += [
            str(Path(folder, name).relative_to(path))
            for name in hidden_names
            if name not in _SYSTEM_FILES and not name.startswith("._")
        ]
        folders[:] = [name for name in folders if not name.startswith(".")]
    return sorted(paths)


def _report_skipped(path: Path, names: Sequence[str], noun: str, singular: str, plural_form: str) -> None:
    if names:
        predicate = singular if len(names) == 1 else plural_form
        say(f"{path}: {plural(len(names), noun)} {predicate}, left out: {_first_names(names)}")


def _report_unreadable(path: Path, unreadable: Sequence[str], total: int) -> None:
    if unreadable:
        listed = _first_names(unreadable)
        say(f"{path}: {len(unreadable)} of {plural(total, 'file')} cannot be read as images and are left out: {listed}")
    names = hidden(path)
    _report_skipped(path, names, "entry", "is hidden", "are hidden")


def _first_names(names: Iterable[str]) -> str:
    """List the first three names, with an ellipsis if there are more."""
    first, *remaining = [", ".join(list(names)[:3]), *list(names)[3:4]]
    return first + (", ..." if remaining else "")
