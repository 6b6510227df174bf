"""Data sets by name."""

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
    """A data set, loaded into memory; its files are fetched first where they are missing.

    Args:
        name: one of `DATA_SETS`.
        rotations: Omniglot: characters turned by 90, 180 and 270 degrees are classes of their own, in every part.
        seed: of the split into classes for training, validation and test. Not the run's seed: all runs share the split.
        image_size: height and width of images in pixels.
        sentence_encoder: what embeds texts: see `metarl.datasets.sentences.embedding`.
        device: where it does so.

    Raises:
        UserError: there is no such data set, or it cannot be had or used.
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
