"""`metarl adapt`: adapt a trained few-shot learner to a few examples and predict the classes of others."""

import csv
import io
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from metarl.agents import FEW_SHOT
from metarl.agents.fewshot.base import FewShot
from metarl.datasets.episodes import Examples
from metarl.datasets.features import TEXTS
from metarl.datasets.images import depth_of, read_classes, read_folder
from metarl.datasets.sentences import check_size, embedding
from metarl.datasets.text import read_csv, report_truncated
from metarl.errors import UserError
from metarl.runs.options import FewShotOptions
from metarl.sharing.loading import restored
from metarl.sharing.opening import open_run
from metarl.system.counts import plural


@dataclass(frozen=True)
class Predictions:
    """Predictions of an adapted learner.

    Attributes:
        items: names of image files, or texts.
        classes: names of the support's classes.
        probabilities: class probabilities, (items, classes).
    """

    items: list[str]
    classes: list[str]
    probabilities: np.ndarray

    @property
    def best(self) -> list[str]:
        """The most probable class of each item."""
        return [self.classes[i] for i in self.probabilities.argmax(1)]

    def csv(self) -> str:
        """CSV text with one row per item: the item, its predicted class, and the probability of each class."""
        out = io.StringIO()
        writer = csv.writer(out, lineterminator="\n")
        writer.writerow(["item", "predicted", *self.classes])
        for item, best, row in zip(self.items, self.best, self.probabilities):
            writer.writerow([item, best, *(f"{p:.6f}" for p in row)])
        return out.getvalue()


@torch.no_grad()
def predict(
    run: Path | str, support: Path | str, query: Path | str, *, invert: bool = False, device: str = "auto"
) -> Predictions:
    """Adapt a trained learner to the examples in `support`, and predict the classes of those in `query`.

    Args:
        run: a run directory, or a checkpoint's folder in one, of a learner of images or texts.
        support: a folder of class/image files, or a CSV file with the columns text and label.
        query: a folder of image files, searched recursively, or a CSV file with the column text.
        invert: swap light and dark: Omniglot's strokes are light on dark.
        device: auto, cpu or cuda.

    Raises:
        UserError: the run is not a few-shot run on images or texts, its head has another number of classes, or the examples
            cannot be read.
    """
    opened, named = open_run(Path(run))
    checkpoint = opened.usable(named, "using")
    experiment = opened.experiment
    if experiment.training != FEW_SHOT:
        raise UserError(f"{opened.path} is a run of robots, not of a few-shot learner")
    learner, options = restored(opened, checkpoint, device), experiment.options
    assert isinstance(learner, FewShot)
    assert isinstance(options, FewShotOptions)
    if learner.kind.name == "image":
        size, depth = options.image_size, depth_of(Path(support), Path(query))
        by_class = {name: _pixels(images, learner, invert) for name, images in read_classes(Path(support), size, depth).items()}
        queries = read_folder(Path(query), size, depth)
        items, x = list(queries), _pixels(np.stack(list(queries.values())), learner, invert)
    elif learner.kind.name in TEXTS:
        rows = read_csv(Path(support), ("text", "label"))
        items = [text for (text,) in read_csv(Path(query), ("text",))]
        encoder = options.sentence_encoder
        if encoder is None:
            report_truncated(f"{support} and {query}", [*(text for text, _ in rows), *items])
        embedded = torch.from_numpy(embedding(encoder, learner.device)([*(text for text, _ in rows), *items]))
        if encoder is not None:
            check_size(encoder, embedded.shape[1:], learner.kind.shape)
        else:
            embedded = embedded.long()
        places: dict[str, list[int]] = {}
        for i, (_, label) in enumerate(rows):
            places.setdefault(label, []).append(i)
        by_class, x = {label: embedded[indices] for label, indices in places.items()}, embedded[len(rows) :]
    else:
        raise UserError(f"{run} learned {experiment.suite}: it cannot adapt to your own examples")
    if len(by_class) < 2:
        raise UserError(f"{support} has examples of {len(by_class)} class: at least 2 are needed")
    if len(by_class) != learner.ways and not learner.any_ways:
        raise UserError(
            f"{support} has {plural(len(by_class), 'class')}, and this learner's "
            f"head knows {learner.ways}: train one with --ways "
            f"{len(by_class)}, or a learner that takes any number (matching, proto)"
        )
    learner.ways = len(by_class)
    y = torch.cat([torch.full((len(examples),), i) for i, examples in enumerate(by_class.values())])
    labelled = Examples(torch.cat(list(by_class.values()))[None].to(learner.device), y[None].to(learner.device))
    state = learner.adapt(learner.initial_state(1), labelled)
    answer, _ = learner.predict(state, x[None].to(learner.device))
    return Predictions(items, list(by_class), torch.softmax(answer[0].double(), -1).cpu().numpy())


def _pixels(images: np.ndarray, learner: FewShot, invert: bool) -> Tensor:
    """Convert uint8 images (n, 3, size, size) to the learner's input: float32 in [0, 1], grey if it has one channel."""
    x = torch.from_numpy(images).float() / 255
    if learner.kind.shape[0] == 1:
        x = x.mean(1, keepdim=True)
    return 1 - x if invert else x
