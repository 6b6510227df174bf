"""Tables of a report, written from one content to the page, to CSV (full precision) and to Markdown."""

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from metarl.evaluation.formatting import FORMS


@dataclass(frozen=True)
class Table:
    """A table.

    Attributes:
        name: the name of its files.
        caption: its caption.
        columns: title and kind of each: text, or a kind of interval, see `FORMS`.
        rows: cells; an interval is (mean, low, high), and None is an empty cell.
        links: addresses of the rows' first cells; () for none.
        folded: whether the page shows it collapsed.
    """

    name: str
    caption: str
    columns: Sequence[tuple[str, str]]
    rows: Sequence[Sequence[Any]]
    links: Sequence[str] = ()
    folded: bool = False

    @property
    def texts(self) -> list[list[str]]:
        """The cells as formatted text."""
        return [["" if x is None else FORMS[kind](x) for x, (_, kind) in zip(row, self.columns)] for row in self.rows]

    def csv(self) -> str:
        """The table as CSV; each interval takes three columns."""
        file = io.StringIO()
        writer = csv.writer(file, lineterminator="\n")
        heads = [[title] if kind == "text" else [title, f"{title} low", f"{title} high"] for title, kind in self.columns]
        writer.writerow([title for head in heads for title in head])
        for row in self.rows:
            cells = [[x] if kind == "text" else x or (None, None, None) for x, (_, kind) in zip(row, self.columns)]
            writer.writerow([x for cell in cells for x in cell])
        return file.getvalue()

    def markdown(self) -> str:
        """The table as Markdown; markup characters in cells are escaped."""
        lines = [[title for title, _ in self.columns], ["---" if k == "text" else "---:" for _, k in self.columns], *self.texts]
        text = "\n".join("| " + " | ".join(_escaped(cell) for cell in line) + " |" for line in lines)
        return f"{_escaped(self.caption)}\n\n{text}\n"


def _escaped(cell: str) -> str:
    return "".join("\\" + c if c in "\\|<>`*_[]" else c for c in cell)
