"""The user's own images: a folder of class/image files, of any size and kind."""

from collections.abc import Iterable
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from metarl.console import say
from metarl.errors import UserError
from metarl.fewshot.episodes import PARTS, Part, Pool, Resident
from metarl.fewshot.splits import by_share
from metarl.memory import refuse_beyond

SPLIT_FOLDERS: dict[str, Part] = {"train": "train", "validation": "validation", "val": "validation", "test": "test"}


def folder_images(path: Path, seed: int, image_size: int) -> Resident:
    """The user's own images: PATH/class/image files, or PATH/train/class/image, PATH/validation/..., PATH/test/...

    Images have one channel where all of them are grey, else three.

    Raises:
        UserError: there are no images, too few classes to split, or a class is in two parts.
    """
    name = f"folder:{path}"
    folders = subfolders(path)
    if folders and all(folder.name in SPLIT_FOLDERS for folder in folders):
        classes: dict[str, np.ndarray] = {}
        parts: dict[str, Part] = {}
        for folder in folders:
            for label, images in read_classes(folder, image_size).items():
                if label in classes:
                    raise UserError(f"{path}: class {label!r} is in both {parts[label]} and {SPLIT_FOLDERS[folder.name]}")
                classes[label], parts[label] = images, SPLIT_FOLDERS[folder.name]
        split = "by its folders: " + ", ".join(f"{list(parts.values()).count(part)} classes for {part}" for part in PARTS)
    else:
        classes = read_classes(path, image_size)
        parts, split = by_share(list(classes), seed, name)
    if all(is_grey(images) for images in classes.values()):
        classes = {label: images[:, :1] for label, images in classes.items()}
    like = next(iter(classes.values()))
    pools = {part: Pool.of({label: classes[label] for label in parts if parts[label] == part}, like) for part in PARTS}
    return Resident(name, "image", split, pools, "images", "class")


def read_classes(path: Path, image_size: int) -> dict[str, np.ndarray]:
    """The images of each class of a folder of class/image files, uint8 (n, 3, image_size, image_size).

    Files that are no images are left out, and it is said how many.

    Raises:
        UserError: there is no image at all.
    """
    classes: dict[str, np.ndarray] = {}
    bad: list[str] = []
    total = 0
    count = sum(len(files(folder)) for folder in subfolders(path))
    needs = {f"{count:,} images of {image_size} x {image_size} pixels": 3.0 * count * image_size**2}
    refuse_beyond(needs, "a smaller --image-size needs less")
    for folder in subfolders(path):
        found, unreadable = read_images(path, files(folder), image_size)
        total += len(found) + len(unreadable)
        bad += unreadable
        if found:
            classes[folder.name] = np.stack(list(found.values()))
    if not classes:
        why = f"none of its {total} files can be read: {bad[0]}" if bad else "there are no class/image files in it"
        raise UserError(f"{path}: {why}")
    if bad:
        say(
            f"{path}: {len(bad)} of {total} files cannot be read as images and are left out: {', '.join(bad[:3])}"
            + (", ..." if len(bad) > 3 else "")
        )
    return classes


def read_images(root: Path, some: Iterable[Path], image_size: int) -> tuple[dict[str, np.ndarray], list[str]]:
    """Images by their path below `root`, see `read_image`; and of what is none the path and the reason."""
    images, bad = {}, []
    for file in some:
        name = str(file.relative_to(root))
        try:
            images[name] = read_image(file, image_size)
        except Exception as error:  # PIL raises many kinds; whatever it is, the file is no image to learn from
            bad.append(f"{name} ({error})")
    return images, bad


def read_image(file: Path, image_size: int) -> np.ndarray:
    """An image as uint8 (3, image_size, image_size), whatever its shape was; what is transparent is white.

    Raises:
        Exception: of many kinds, where the file is no image.
    """
    with Image.open(file) as opened:
        image = ImageOps.exif_transpose(opened)
        if image.mode == "F":
            raise ValueError("pixels of unknown range")
        if image.mode.startswith("I"):  # 16 bits
            image = Image.fromarray((np.asarray(image).astype(np.int64).clip(0, 65535) >> 8).astype(np.uint8))
        if image.has_transparency_data:
            image = image.convert("RGBA")
            image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
        resized = image.convert("RGB").resize((image_size, image_size), Image.Resampling.LANCZOS)
    return np.asarray(resized).transpose(2, 0, 1)


def is_grey(images: np.ndarray) -> bool:
    """Whether all channels (n, channels, height, width) are equal."""
    return bool((images == images[:, :1]).all())


def subfolders(path: Path) -> list[Path]:
    """The folders in a folder, by name, but for hidden ones.

    Raises:
        UserError: it is no folder, or cannot be read.
    """
    return [entry for entry in _entries(path) if entry.is_dir()]


def files(path: Path) -> list[Path]:
    """The files in a folder, by name, but for hidden ones.

    Raises:
        UserError: it is no folder, or cannot be read.
    """
    return [entry for entry in _entries(path) if entry.is_file()]


def _entries(path: Path) -> list[Path]:
    try:
        return sorted(entry for entry in path.iterdir() if not entry.name.startswith("."))
    except OSError as error:
        raise UserError(f"{path} cannot be read as a folder: {error.strerror}") from None
