"""Embed texts by a frozen sentence encoder that the user provides, with the library sentence-transformers."""

from collections.abc import Sequence
from functools import partial
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import torch

from metarl.datasets.text import Embed, feature_ids
from metarl.errors import UserError

_MIN_VERSION = 6
"""Oldest accepted major version. Earlier ones run code from an encoder's folder even if it is not trusted, and the encoder's
name may come from someone else's run directory."""


def embedding(encoder: str | None, device: torch.device | str) -> Embed:
    """Return the embedding of texts: feature ids (texts, LENGTH) int16, or sentence vectors (texts, size) float32.

    Args:
        encoder: a name known to sentence-transformers, or a folder with its files; None: feature ids. Loaded at each call.
        device: device of the encoder.

    Raises:
        UserError: sentence-transformers is missing or too old; when called: the encoder cannot be loaded.
    """
    if encoder is None:
        return feature_ids
    installed = find_spec("sentence_transformers") is not None
    if not installed or int(version("sentence_transformers").partition(".")[0]) < _MIN_VERSION:
        raise UserError(f'a sentence encoder needs sentence-transformers, {_MIN_VERSION} or newer: pip install "metarl[text]"')
    return partial(_encode, encoder, str(device))


def _encode(encoder: str, device: str, texts: Sequence[str]) -> np.ndarray:
    try:
        from sentence_transformers import SentenceTransformer
        from transformers.utils.logging import disable_progress_bar

        disable_progress_bar()
        folder = Path(encoder).expanduser()  # a local folder is loaded without contacting the hub
        name, local = (str(folder), True) if folder.is_dir() else (encoder, False)
        model = SentenceTransformer(name, device=device, trust_remote_code=False, local_files_only=local)
    except Exception as error:  # the library's loaders raise many kinds of errors
        reason = " ".join(str(error).split()).partition(". ")[0] or type(error).__name__
        raise UserError(f"the sentence encoder {encoder!r} cannot be loaded: {reason}") from None
    return np.asarray(model.encode(list(texts), show_progress_bar=False), np.float32)


def check_size(encoder: str | None, size: Sequence[int], expected: Sequence[int]) -> None:
    """Check that an encoder's vectors have the size that a run was trained with.

    Raises:
        UserError: the sizes differ.
    """
    if list(size) != list(expected):
        raise UserError(
            f"the sentence encoder {encoder!r} gives vectors of {size[0]} numbers, but the run was trained with {expected[0]}"
        )
