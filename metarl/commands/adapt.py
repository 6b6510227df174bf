"""`metarl adapt`: adapts a trained few-shot learner to the user's examples and predicts."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tyro
from rich.box import SIMPLE_HEAD
from rich.markup import escape
from rich.table import Table

from metarl.sharing.few_shot_prediction import predict
from metarl.sharing.opening import open_run
from metarl.system.console import console, say
from metarl.system.files import write_atomically, writing
from metarl.system.user_code import arguments, name_again


@dataclass(frozen=True)
class Adapt:
    """Adapt a trained few-shot learner to a few examples of your own, and predict.

    Prints the predicted class and its probability for each item, and writes the probabilities of all classes as CSV.
    """

    run: tyro.conf.Positional[Path]
    """A run directory of an image or text learner, or a checkpoint's folder in one."""
    support: Path
    """Your labelled examples: a folder of class/image files, or a CSV file with the columns text and label."""
    query: Path
    """The items to classify: a folder of images, or a CSV file with the column text."""
    out: Path = Path("predictions.csv")
    """The CSV file to write the probabilities to."""
    agent: str | None = None
    """If the learner is your own: its file, PATH.py:NAME. metarl runs only files that you name here."""
    invert: bool = False
    """Swap light and dark. Use it for photographs of ink on paper: Omniglot's strokes are light on dark."""
    device: str = "auto"
    """auto, cpu or cuda."""
    quiet: bool = False
    """Print nothing but errors."""
    debug: bool = False
    """Show a traceback with an error."""

    def main(self) -> int:
        """Run the command."""
        config = open_run(self.run)[0].config
        command = f"metarl adapt {self.run}{arguments(config, '')} --support {self.support} --query {self.query}"
        for change in name_again(config, self.agent, how=command, needed=("agent",)):
            say(f"Beware: {change}")
        predictions = predict(self.run, self.support, self.query, invert=self.invert, device=self.device)
        with writing(str(self.out)):
            write_atomically(self.out, predictions.csv().encode())
        if not self.quiet:
            grid = Table(box=SIMPLE_HEAD)
            for column in ("item", "predicted", "probability", "next", "probability"):
                grid.add_column(column)
            for item, row in zip(predictions.items, predictions.probabilities):
                first, second = np.argsort(-row, kind="stable")[:2]
                names = [escape(predictions.classes[i]) for i in (first, second)]
                grid.add_row(escape(item), names[0], f"{row[first]:.2f}", names[1], f"{row[second]:.2f}")
            console.print(grid)
            say(f"written: {self.out}")
        return 0
