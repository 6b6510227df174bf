"""Texts as vectors of a frozen sentence encoder that the user has, by the library sentence-transformers."""

from collections.abc import Sequence
from functools import partial
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import torch

from metarl.datasets.text import Embed, feature_ids
from metarl.errors import UserError

_SINCE = 6
"""Version of the library. Earlier ones run code that lies in an encoder's folder, whether it is trusted or not; and which
encoder is loaded, a run directory says, which may come from someone else."""


def embedding(encoder: str | None, device: torch.device | str) -> Embed:
    """How texts become examples: feature ids (texts, LENGTH) int16, or vectors (texts, size) float32 of a sentence encoder.

    Args:
        encoder: a name that sentence-transformers knows, or a folder of its; None: feature ids. It is loaded at each call.
        device: where it computes.

    Raises:
        UserError: sentence-transformers is not installed, or is too old; in a call: the encoder cannot be loaded.
    """
    if encoder is None:
        return feature_ids
    there = find_spec("sentence_transformers") is not None
    if not there or int(version("sentence_transformers").partition(".")[0]) < _SINCE:
        raise UserError(f'a sentence encoder needs sentence-transformers, {_SINCE} or newer: pip install "metarl[text]"')
    return partial(_encoded, encoder, str(device))


def _encoded(encoder: str, device: str, texts: Sequence[str]) -> np.ndarray:
    try:
        from sentence_transformers import SentenceTransformer
        from transformers.utils.logging import disable_progress_bar

        disable_progress_bar()
        here = Path(encoder).expanduser()  # of a folder nothing is asked of the hub
        name, local = (str(here), True) if here.is_dir() else (encoder, False)
        model = SentenceTransformer(name, device=device, trust_remote_code=False, local_files_only=local)
    except Exception as error:  # the library's loaders raise whatever they meet
        reason = " ".join(str(error).split()).partition(". ")[0] or type(error).__name__
        raise UserError(f"the sentence encoder {encoder!r} cannot be loaded: {reason}") from None
    return np.asarray(model.encode(list(texts), show_progress_bar=False), np.float32)


def check_size(encoder: str | None, found: Sequence[int], wanted: Sequence[int]) -> None:
    """That an encoder's vectors are as long as those that a run was trained with.

    Raises:
        UserError: they are not.
    """
    if list(found) != list(wanted):
        raise UserError(
            f"the sentence encoder {encoder!r} gives vectors of {found[0]} numbers, and the run was trained with {wanted[0]}"
        )
