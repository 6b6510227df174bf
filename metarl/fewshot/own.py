"""`metarl adapt`: a trained few-shot learner, adapted to the user's own few examples."""

import csv
import io
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import tyro
from rich.box import SIMPLE_HEAD
from rich.markup import escape
from rich.table import Table
from torch import Tensor

from metarl.agents import EXAMPLES, entry
from metarl.cache import write_atomically, writing
from metarl.console import console, say
from metarl.counts import plural
from metarl.errors import UserError
from metarl.fewshot.episodes import Examples
from metarl.fewshot.images import depth_of, read_classes, read_folder
from metarl.fewshot.learner import FewShot
from metarl.fewshot.networks import TEXTS
from metarl.fewshot.sentences import check_size, embedding
from metarl.fewshot.text import read_csv, say_cut
from metarl.loading import restored
from metarl.run import open_run
from metarl.userfiles import arguments, name_again


@dataclass(frozen=True)
class Predictions:
    """What a learner says of some items after it adapted.

    Attributes:
        items: names of image files, or texts.
        classes: names of the support's classes.
        probabilities: (items, classes).
    """

    items: list[str]
    classes: list[str]
    probabilities: np.ndarray

    @property
    def best(self) -> list[str]:
        """The most probable class of each item."""
        return [self.classes[i] for i in self.probabilities.argmax(1)]

    def csv(self) -> str:
        """A row for each item: the item, its class, the probability of every class."""
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
    """Adapt a trained learner to the examples in `support`, and answer what is in `query`.

    Args:
        run: a run directory, or a checkpoint's folder in one, of a learner of images or texts.
        support: a folder of class/image files, or a CSV file with the columns text and label.
        query: a folder of image files (in folders too), or a CSV file with the column text.
        invert: exchange light and dark: Omniglot's strokes are light on dark.
        device: auto, cpu or cuda.

    Raises:
        UserError: the run is not a few-shot one of images or texts, its head has another number of classes, or the examples
            cannot be read.
    """
    opened, named = open_run(Path(run))
    checkpoint = opened.usable(named, "using")
    if entry(opened.config["agent"]).training != EXAMPLES:
        raise UserError(f"{opened.path} is a run of robots, not of a few-shot learner")
    learner, options = restored(opened, checkpoint, device), opened.config["options"]
    assert isinstance(learner, FewShot)
    if learner.kind.name == "image":
        size, depth = options["image_size"], depth_of(Path(support), Path(query))
        values = {name: _pixels(some, learner, invert) for name, some in read_classes(Path(support), size, depth).items()}
        images = read_folder(Path(query), size, depth)
        items, x = list(images), _pixels(np.stack(list(images.values())), learner, invert)
    elif learner.kind.name in TEXTS:
        rows = read_csv(Path(support), ("text", "label"))
        items = [text for (text,) in read_csv(Path(query), ("text",))]
        encoder = options.get("sentence_encoder")
        if encoder is None:
            say_cut(f"{support} and {query}", [*(text for text, _ in rows), *items])
        every = torch.from_numpy(embedding(encoder, learner.device)([*(text for text, _ in rows), *items]))
        if encoder is not None:
            check_size(encoder, every.shape[1:], learner.kind.shape)
        else:
            every = every.long()
        places: dict[str, list[int]] = {}
        for i, (_, label) in enumerate(rows):
            places.setdefault(label, []).append(i)
        values, x = {label: every[found] for label, found in places.items()}, every[len(rows) :]
    else:
        raise UserError(f"{run} learned {opened.config['suite']}: there are no own examples to adapt to")
    if len(values) < 2:
        raise UserError(f"{support} has examples of {len(values)} class: at least 2 are needed to tell apart")
    if len(values) != learner.ways and not learner.any_ways:
        raise UserError(
            f"{support} has {plural(len(values), 'class')}, and this learner's "
            f"head knows {learner.ways}: train one with --ways "
            f"{len(values)}, or a learner that takes any number (matching, proto)"
        )
    learner.ways = len(values)
    y = torch.cat([torch.full((len(some),), i) for i, some in enumerate(values.values())])
    examples = Examples(torch.cat(list(values.values()))[None].to(learner.device), y[None].to(learner.device))
    state = learner.adapt(learner.begin(1), examples)
    answer, _ = learner.predict(state, x[None].to(learner.device))
    return Predictions(items, list(values), torch.softmax(answer[0].double(), -1).cpu().numpy())


def _pixels(images: np.ndarray, learner: FewShot, invert: bool) -> Tensor:
    """uint8 (n, 3, size, size) as the learner sees images: float32 in [0, 1], grey where it has one channel."""
    x = torch.from_numpy(images).float() / 255
    if learner.kind.shape[0] == 1:
        x = x.mean(1, keepdim=True)
    return 1 - x if invert else x


@dataclass(frozen=True)
class Adapt:
    """Adapt a trained few-shot learner to your own few examples, and predict.

    Prints each item's class and its probability, and writes the probabilities of all classes as CSV.
    """

    run: tyro.conf.Positional[Path]
    """A run directory of a learner of images or texts, or a checkpoint's folder in one."""
    support: Path
    """The few examples: a folder of class/image files, or a CSV file with the columns text and label."""
    query: Path
    """What to predict: a folder of images, or a CSV file with the column text."""
    out: Path = Path("predictions.csv")
    """Where the probabilities are written."""
    agent: str | None = None
    """Of a run of a learner of your own: its file, PATH.py:NAME. Files are run only where they are named here."""
    invert: bool = False
    """Exchange light and dark, for photographs of ink on paper: Omniglot's strokes are light on dark."""
    device: str = "auto"
    """auto, cpu or cuda."""
    quiet: bool = False
    """Print nothing but errors."""
    debug: bool = False
    """Show a traceback with an error."""

    def main(self) -> int:
        """Run the command."""
        config = open_run(self.run)[0].config
        how = f"metarl adapt {self.run}{arguments(config, '')} --support {self.support} --query {self.query}"
        for change in name_again(config, self.agent, how=how, needed=("agent",)):
            say(f"Beware: {change}")
        found = predict(self.run, self.support, self.query, invert=self.invert, device=self.device)
        with writing(str(self.out)):
            write_atomically(self.out, found.csv().encode())
        if not self.quiet:
            grid = Table(box=SIMPLE_HEAD)
            for column in ("item", "predicted", "probability", "next", "probability"):
                grid.add_column(column)
            for item, row in zip(found.items, found.probabilities):
                first, second = np.argsort(-row, kind="stable")[:2]
                names = [escape(found.classes[i]) for i in (first, second)]
                grid.add_row(escape(item), names[0], f"{row[first]:.2f}", names[1], f"{row[second]:.2f}")
            console.print(grid)
            say(f"written: {self.out}")
        return 0
