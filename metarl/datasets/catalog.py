"""Load data sets by name."""

from pathlib import Path

import torch

from metarl.datasets.episodes import Data
from metarl.datasets.images import folder_images
from metarl.datasets.omniglot import omniglot
from metarl.datasets.sentences import embedding
from metarl.datasets.sinusoid import Sinusoid
from metarl.datasets.text import clinc150, csv_texts
from metarl.errors import UserError, unknown

DATA_SETS = {
    "omniglot": "1,623 handwritten characters, all alphabets mixed (the split of the papers)",
    "omniglot:background": "trained on its background alphabets, tested on the 20 evaluation alphabets",
    "clinc150": "texts of 150 intents, tested on domains never trained on",
    "sinusoid": "regression of sine curves (the MAML paper's)",
    "folder:PATH": "your own images: PATH/class/image files",
    "csv:PATH": "your own texts: a CSV file with the columns text and label",
}


def data_set(
    name: str,
    *,
    rotations: bool = True,
    seed: int = 1,
    image_size: int = 28,
    sentence_encoder: str | None = None,
    device: torch.device | str = "cpu",
) -> Data:
    """Load a data set into memory; missing files are downloaded first.

    Args:
        name: one of `DATA_SETS`.
        rotations: Omniglot: treat characters rotated by 90, 180 and 270 degrees as separate classes, in every part.
        seed: of the split into classes for training, validation and test. Not the run's seed: all runs share the split.
        image_size: height and width of images in pixels.
        sentence_encoder: encoder for texts, see `metarl.datasets.sentences.embedding`.
        device: device of the encoder.

    Raises:
        UserError: the data set does not exist, is not available or cannot be used.
    """
    if image_size < 1:
        raise UserError(f"image_size must be at least 1, not {image_size}")
    kind, _, path = name.partition(":")
    if sentence_encoder is not None and kind in ("omniglot", "sinusoid", "folder"):
        raise UserError(f"{name} has no texts for a sentence encoder to embed: clinc150 and csv:PATH have")
    if name in ("omniglot", "omniglot:background"):
        return omniglot(background=bool(path), rotations=rotations, seed=seed, image_size=image_size)
    if name == "clinc150":
        return clinc150(embedding(sentence_encoder, device))
    if name == "sinusoid":
        return Sinusoid()
    if kind == "folder" and path:
        return folder_images(Path(path).expanduser(), seed, image_size)
    if kind == "csv" and path:
        return csv_texts(Path(path).expanduser(), seed, embedding(sentence_encoder, device))
    raise unknown("data set", name, DATA_SETS)
