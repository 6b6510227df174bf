"""Renders each figure of a report as SVG (which follows the page's light or dark theme) and as PNG."""

import base64
import io
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from matplotlib import rc_context
from matplotlib.figure import Figure

from metarl.evaluation.vocabulary import COLORS, PALETTE

INK, FAINT, BEFORE = "#24292f", "#8b939c", "#8a6d1d"
"""Colours of text and axes, of grid and raw data, and of figures before adaptation."""

_DARK = {
    INK: "#dfe3e8",
    FAINT: "#79828c",
    BEFORE: "#d9b64a",
    COLORS["train"]: "#b4b4b4",
    COLORS["validation"]: "#5cc387",
    COLORS["test"]: "#6fb4f0",
    COLORS["blind"]: "#f08c62",
    PALETTE[2]: "#c49be6",
    PALETTE[3]: "#dcb850",
    PALETTE[4]: "#c2c7cc",
    PALETTE[5]: "#ee86b8",
}
"""The replacement of each colour on a dark page."""

_FONTS = ["DejaVu Sans", "Helvetica", "Arial", "sans-serif"]
_STYLE: Any = {
    "font.family": "sans-serif",
    "font.sans-serif": _FONTS,
    "font.size": 9.5,
    "svg.fonttype": "none",
    "svg.hashsalt": "metarl",
    "text.color": INK,
    "axes.labelcolor": INK,
    "axes.edgecolor": FAINT,
    "xtick.color": INK,
    "ytick.color": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": FAINT,
    "grid.alpha": 0.25,
    "grid.linewidth": 0.6,
    "axes.axisbelow": True,
    "axes.titlesize": 10,
    "axes.titlelocation": "left",
    "axes.titleweight": "bold",
    "legend.frameon": False,
    "legend.fontsize": 8.5,
    "text.parse_math": False,
}


_ROW, _ROOM = 0.185, 52
"""Height of a legend's row in inches, and the most characters of two labels beside each other."""


@dataclass(frozen=True)
class Picture:
    """A figure.

    Attributes:
        name: the name of its files.
        caption: its caption.
        alt: a text alternative for readers who cannot see it.
        svg: a version for papers, with plain colours and text kept as text.
        png: the same on white.
    """

    name: str
    caption: str
    alt: str
    svg: str
    png: bytes

    @property
    def embedded(self) -> str:
        """The SVG as a data URL for the page; its colours follow the reader's light or dark theme."""
        text, names = self.svg, {color: f"--c{i}" for i, color in enumerate(_DARK)}
        for color, name in names.items():
            text = text.replace(color, f"var({name})")
        light = "".join(f"{name}:{color};" for color, name in names.items())
        dark = "".join(f"{name}:{_DARK[color]};" for color, name in names.items())
        style = f"<style>svg{{{light}}}@media (prefers-color-scheme:dark){{svg{{{dark}}}}}</style>"
        head, rest = text.split("<defs>", 1)
        return "data:image/svg+xml;base64," + base64.b64encode(f"{head}{style}<defs>{rest}".encode()).decode()


def picture(
    name: str, caption: str, alt: str, draw: Callable[[Figure], None], size: tuple[float, float] = (4.7, 3.1)
) -> Picture:
    """Draw a figure.

    Args:
        name: the name of its files.
        caption: its caption.
        alt: its text alternative.
        draw: draws the figure and sets its margins.
        size: inches of 72 points. Font sizes are fixed, so text in wide figures shrinks on narrow screens.
    """
    with rc_context(_STYLE), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*[Gg]lyph")  # the font may lack a name's script
        figure = Figure(figsize=size)
        draw(figure)
        svg, png = io.StringIO(), io.BytesIO()
        figure.savefig(svg, format="svg", transparent=True, metadata={"Date": None, "Creator": "metarl"})
        figure.savefig(
            png, format="png", dpi=160, facecolor="white", metadata={"Software": "metarl"}, pil_kwargs={"compress_level": 3}
        )
    return Picture(name, caption, alt, svg.getvalue(), png.getvalue())


def one_axis(figure: Figure, title: str, x: str, left: float = 0.13) -> Any:
    """Add one pair of axes with fixed margins, since measuring the text would take as long as drawing."""
    axis = figure.add_axes((left, 0.16, 0.97 - left, 0.73))
    axis.set_title(title, y=1.03)
    axis.set_xlabel(x)
    return axis


def legend_below(figure: Figure, axis: Any) -> None:
    """Put the legend of these axes below the figure's axes, where it covers nothing; the figure grows by the legend's rows."""
    handles, labels = axis.get_legend_handles_labels()
    columns = 2 if sum(sorted(map(len, labels))[-2:]) <= _ROOM else 1
    (width, before), rows = figure.get_size_inches(), -(-len(labels) // columns)
    added = _ROW * rows + 0.04
    height = before + added
    figure.set_size_inches(width, height)
    for each in figure.axes:
        left, bottom, w, h = each.get_position().bounds
        each.set_position((left, (bottom * before + added) / height, w, h * before / height))
    left = axis.get_position().x0
    figure.legend(handles, labels, loc="lower left", bbox_to_anchor=(left, 0), ncols=columns, borderaxespad=0.3)


def colored(names: Sequence[str]) -> list[tuple[str, str, str]]:
    """Give each name a colour and a line style; the style changes each time the colours repeat."""
    styles = ("-", "--", ":", "-.")
    return [(name, PALETTE[i % len(PALETTE)], styles[i // len(PALETTE) % len(styles)]) for i, name in enumerate(names)]
