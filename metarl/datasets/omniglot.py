"""Load Omniglot (Lake et al. 2015): 1,623 handwritten characters of 50 alphabets, 20 drawings each.

The original 105 x 105 drawings are stored as numpy arrays, made from the archives of the data set's repository. Learners
receive them as is usual in the field: strokes are 1 on a background of 0, resized to 28 x 28 (PIL, Lanczos).
"""

import hashlib
import io
import itertools
import zipfile
import zlib
from collections.abc import Iterable
from functools import partial

import numpy as np
from PIL import Image

from metarl.datasets.download import File, obtain
from metarl.datasets.episodes import PARTS, Pool, Resident
from metarl.datasets.splits import shuffled, split_by_count
from metarl.system import files as cache
from metarl.system.memory import refuse_beyond

DRAWINGS, SIDE = 20, 105

BACKGROUND = {
    "Arcadian": 26, "Armenian": 41, "Asomtavruli_(Georgian)": 40, "Balinese": 24, "Bengali": 46,
    "Blackfoot_(Canadian_Aboriginal_Syllabics)": 14, "Braille": 26, "Cyrillic": 33, "Early_Aramaic": 22,
    "Syriac_(Estrangelo)": 23, "Anglo-Saxon_Futhorc": 29, "Futurama": 26, "Grantha": 43, "Greek": 24, "Gujarati": 48,
    "Hebrew": 22, "Japanese_(hiragana)": 52, "Inuktitut_(Canadian_Aboriginal_Syllabics)": 16, "Malay_(Jawi_-_Arabic)": 40,
    "Japanese_(katakana)": 47, "Korean": 40, "Latin": 26, "Alphabet_of_the_Magi": 20, "Mkhedruli_(Georgian)": 41,
    "Burmese_(Myanmar)": 34, "N_Ko": 33, "Ojibwe_(Canadian_Aboriginal_Syllabics)": 14, "Sanskrit": 42, "Tagalog": 17,
    "Tifinagh": 55,
}  # fmt: skip
EVALUATION = {
    "Angelic": 20, "Atemayar_Qelisayer": 26, "Atlantean": 26, "Aurek-Besh": 26, "Avesta": 26, "Ge_ez": 26, "Glagolitic": 45,
    "Gurmukhi": 45, "Kannada": 41, "Keble": 26, "Malayalam": 47, "Manipuri": 40, "Mongolian": 30,
    "Old_Church_Slavonic_(Cyrillic)": 45, "Oriya": 46, "Syriac_(Serto)": 23, "Sylheti": 28, "Tengwar": 25, "Tibetan": 42,
    "ULOG": 26,
}  # fmt: skip
"""Number of characters per alphabet, in the order of the arrays."""

ALPHABETS = {"background": BACKGROUND, "evaluation": EVALUATION}

DIGESTS = {
    "background": "37f4ebe6d0e6c1c1b2b9f943ed2e484ef7323211ab452bb92891ab31e9db252f",
    "evaluation": "3109670f55c43eb21c94414785084249e08fd6780ca8a625cb403a2c996f4ecf",
}
"""`digest` of the drawings of each set."""

DAMAGED = (OSError, ValueError, KeyError, TypeError, EOFError, NotImplementedError, zipfile.BadZipFile, zlib.error)
"""Errors that numpy, and zipfile below it, raise for a damaged npz file."""

SOURCE = "https://raw.githubusercontent.com/brendenlake/omniglot/master/python/"


def omniglot(*, background: bool, rotations: bool, seed: int, image_size: int) -> Resident:
    """Load Omniglot as images (1, image_size, image_size) with strokes 1.

    Args:
        background: train and validate on the background set and test on the evaluation set, as the data set's authors intended.
            Otherwise use the split of the papers on few-shot learning: all characters together in a random order (Vinyals et
            al. 2016; sizes of the parts as in the code of Finn et al. 2017).
        rotations: treat characters rotated by 90, 180 and 270 degrees as separate classes, in every part, as in both papers.
        seed: of the order of characters, or of alphabets.
        image_size: pixels.

    Raises:
        UserError: the files are missing and cannot be downloaded.
    """
    count = sum(sum(alphabets.values()) for alphabets in ALPHABETS.values()) * DRAWINGS
    required_bytes = {
        f"{count:,} images of {image_size} x {image_size} pixels": (6.0 if rotations else 3.0) * count * image_size**2
    }
    refuse_beyond(required_bytes, "a smaller --image-size needs less")
    archives = {subset: obtain(archive(subset, image_size)) for subset in ALPHABETS}
    names = {subset: characters(subset) for subset in ALPHABETS}
    all_names = [*names["background"], *names["evaluation"]]
    if background:
        order = shuffled(BACKGROUND, seed)
        part_of = split_by_count(order, 25, 5)
        parts = {name: part_of.get(name.split("/")[0], "test") for name in all_names}
        split = (
            f"background set: the characters of 25 alphabets for training, of 5 drawn with seed {seed} for validation "
            f"({', '.join(sorted(order[25:]))}); evaluation set: the 659 characters of its 20 alphabets for test"
        )
    else:
        parts = split_by_count(shuffled(all_names, seed), 1100, 100)
        split = (
            f"1,623 characters of all alphabets in an order drawn with seed {seed}: 1,100 for training, 100 for validation, "
            "423 for test"
        )
    split += ", each turned by 0, 90, 180 and 270 degrees as four classes" if rotations else ", not turned"
    images = np.concatenate(list(archives.values()))
    pools = {part: _pool(images, all_names, [parts[name] == part for name in all_names], rotations) for part in PARTS}
    return Resident("omniglot:background" if background else "omniglot", "image", split, pools, "drawings", "character")


def _pool(images: np.ndarray, names: list[str], mask: list[bool], rotations: bool) -> Pool:
    chosen, chosen_names = images[mask], list(itertools.compress(names, mask))
    quarter_turns = range(4 if rotations else 1)
    values = np.concatenate([np.rot90(chosen, k, (2, 3)) for k in quarter_turns]).reshape(-1, 1, *images.shape[2:])
    rotated_names = [name + (f" turned by {90 * k}" if k else "") for k in quarter_turns for name in chosen_names]
    return Pool(rotated_names, values, np.full(len(rotated_names), DRAWINGS))


def characters(subset: str) -> list[str]:
    """Return the names of the characters in the background or evaluation set, such as Greek/character01."""
    return [f"{alphabet}/character{i + 1:02d}" for alphabet, count in ALPHABETS[subset].items() for i in range(count)]


def archive(subset: str, image_size: int) -> File[np.ndarray]:
    """Return the file of the background or evaluation set; its value is uint8 (characters, 20, image_size, image_size)."""
    return File(
        f"omniglot/images_{subset}.npz",
        f"{SOURCE}images_{subset}.zip",
        partial(_resized, subset, image_size),
        partial(arrays, subset),
    )


def arrays(subset: str, archived: bytes) -> bytes:
    """Convert an archive with members images_<subset>/<alphabet>/<character>/<drawing>.png to an npz file of arrays.

    Nothing is unpacked to disk, and members with other names are ignored.

    Raises:
        ValueError: a character has the wrong number of drawings.
    """
    with zipfile.ZipFile(io.BytesIO(archived)) as members:
        drawings: dict[str, list[str]] = {}
        for name in sorted(members.namelist()):
            drawings.setdefault(name.rpartition("/")[0], []).append(name)
        images = np.empty((len(characters(subset)), DRAWINGS, SIDE, SIDE), bool)
        for c, character in enumerate(characters(subset)):
            pngs = [n for n in drawings.get(f"images_{subset}/{character}", []) if n.endswith(".png")]
            if len(pngs) != DRAWINGS:
                raise ValueError(f"{character} has {len(pngs)} drawings, not {DRAWINGS}")
            for d, name in enumerate(pngs):
                images[c, d] = drawing(members.read(name))
    buffer = io.BytesIO()
    np.savez_compressed(buffer, images=images, labels=np.repeat(np.arange(len(images))[:, None], DRAWINGS, 1))
    return buffer.getvalue()


def drawing(png: bytes) -> np.ndarray:
    """Decode a drawing: paper is True, strokes are False."""
    return np.asarray(Image.open(io.BytesIO(png)).convert("1"))


def digest(images: np.ndarray) -> str:
    """Compute the SHA-256 of a set of drawings grouped by character, independent of their order."""
    return _combined_hash(
        _combined_hash(hashlib.sha256(drawing.tobytes()).digest() for drawing in character).digest() for character in images
    ).hexdigest()


def _combined_hash(digests: Iterable[bytes]) -> "hashlib._Hash":
    return hashlib.sha256(b"".join(sorted(digests)))


def _resized(subset: str, image_size: int, content: bytes) -> np.ndarray:
    """Check and resize the drawings of an npz file once, then cache them under the file's hash."""
    shape = (len(characters(subset)), DRAWINGS, image_size, image_size)
    path = cache.directory("omniglot", f"{hashlib.sha256(content).hexdigest()}-{image_size}")
    if (stored := cache.load(path)) is None:
        try:
            images = np.load(io.BytesIO(content))["images"]
            content_description = f"some of {digest(images)}"
        except DAMAGED:
            content_description = "no npz file"
        if DIGESTS[subset] not in content_description:
            raise ValueError(f"expected an npz file with drawings of SHA-256 {DIGESTS[subset]}, found {content_description}")
        stored = b"".join(resize(~drawing, image_size).tobytes() for drawing in images.reshape(-1, SIDE, SIDE))
        cache.store(path, stored)
    return np.frombuffer(stored, np.uint8).reshape(shape)


def resize(strokes: np.ndarray, image_size: int) -> np.ndarray:
    """Resize bool (height, width) to uint8 (image_size, image_size), with antialiasing."""
    image = Image.fromarray(strokes.astype(np.uint8) * 255)
    return np.asarray(image.resize((image_size, image_size), Image.Resampling.LANCZOS))
