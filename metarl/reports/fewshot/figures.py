"""Draws the figures of a few-shot learner: gains from examples and gradient steps, confusions, example episodes."""

from textwrap import wrap
from typing import Any

import numpy as np
from matplotlib.colors import LinearSegmentedColormap, PowerNorm, to_rgba
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from metarl.evaluation.fewshot_schema import FewShotEvaluation, Steps, tiles
from metarl.evaluation.formatting import share_of
from metarl.evaluation.measures import ACCURACY, ERROR, OF_EPISODES, Measure, headline
from metarl.evaluation.plots import band
from metarl.evaluation.vocabulary import COLORS
from metarl.reports import curves as shared
from metarl.reports.drawing import BEFORE, FAINT, INK, Picture, legend_below, one_axis, picture
from metarl.reports.fewshot.sentences import experience, side_name
from metarl.reports.reading import Reading
from metarl.system.counts import plural
from metarl.system.printable import short

RIGHT, WRONG = COLORS["test"], COLORS["blind"]
"""Blue and orange, which colour-blind readers can tell apart; wrong answers also get a thicker frame and a mark."""
_PAIRS, _BARS, _ENOUGH = 8, 20, 60
_HEAT = LinearSegmentedColormap.from_list("confused", [to_rgba(COLORS["blind"], alpha) for alpha in (0.06, 1.0)])
"""One colour in varying opacity, so that it works on light and dark pages."""


def by_shots(content: FewShotEvaluation) -> Picture:
    """Draw the measure against examples per class, for each side."""
    measure = headline(content)

    def draw(figure: Figure) -> None:
        unit = "examples of each class" if measure == ACCURACY else "points of the curve"
        axis = one_axis(figure, measure.title, unit)
        for side, results in content["sides"].items():
            band(axis, results["by_shots"], side_name(content, side), COLORS[side])
        if measure == ACCURACY:
            axis.axhline(1 / content["ways"], color=FAINT, lw=1.2, ls=":", label="chance")
        shared.whole_steps(axis)
        shared.limits(axis, measure)
        legend_below(figure, axis)

    alt = f"{measure.title} against examples. " + " ".join(
        f"{side_name(content, side).capitalize()}: {measure.show(results['by_shots'][0])} without any, "
        f"{measure.show(results['by_shots'][-1])} with {experience(content)}."
        for side, results in content["sides"].items()
    )
    caption = f"{measure.title} by number of examples, with 95 % intervals over episodes"
    return picture("shots", caption, alt, draw)


def by_steps(content: FewShotEvaluation, steps: Steps, side: str) -> Picture:
    """Draw the measure against gradient steps on all shots."""
    measure = headline(content)

    def draw(figure: Figure) -> None:
        axis = one_axis(figure, measure.title, f"gradient steps on {experience(content)}")
        band(axis, steps["measured"], side_name(content, side), COLORS["test"], x=steps["steps"])
        axis.axvline(steps["taken"], color=BEFORE, lw=1.2, ls="--", label=f"steps that it takes: {steps['taken']}")
        shared.whole_steps(axis)
        shared.limits(axis, measure)
        legend_below(figure, axis)

    each = "; ".join(f"{n}: {measure.show(row)}" for n, row in zip(steps["steps"], steps["measured"]))
    alt = f"{measure.title} against gradient steps. {each}."
    caption = f"{measure.title} by number of gradient steps, with 95 % intervals over episodes"
    return picture("steps", caption, alt, draw)


def learning(run: Reading) -> list[Picture]:
    """Draw the measure and the loss over training, and evaluations during training."""
    drawn = []
    for key, measure in (*((measure.key, measure) for measure in OF_EPISODES), ("loss", None)):
        kinds = [
            (key, ("queries of training episodes", COLORS["test"], "-")),
            (f"training_{key}", ("all training classes at once", COLORS["test"], "-")),
            (f"validation_{key}", ("validation part", COLORS["validation"], "o")),
            (f"test_{key}", ("TEST part", COLORS["blind"], "s")),
        ]
        lines = [(line, xy) for name, line in kinds if (xy := shared.series(run.lines, name)).size]
        # in regression the loss is the error
        if not lines or (measure is None and any(ERROR.key in line for line in run.lines)):
            continue
        title, length = measure.title if measure else "Loss", plural(run.step, "update")
        caption, show = f"{title} during training", "{:.3g}".format
        drawn.append(shared.learning(f"learning_{key}", title, lines, run.unit, show, length, caption, measure))
    return drawn


def matrix(answers: dict[str, Any]) -> list[Picture]:
    """Draw the confusion matrix of classes or groups: how often a class is taken for another, if both are choices."""
    table = answers["matrix"]
    names = table["names"]
    counts, possible = (np.array(table[key], dtype=float) for key in ("counts", "asked"))
    shares = np.divide(counts, possible, out=np.full_like(counts, np.nan), where=possible >= _ENOUGH)
    if not table["grouped"]:
        np.fill_diagonal(shares, np.nan)
    if np.isnan(shares).all():
        return []
    top = max(float(np.nanmax(shares)), 0.01)
    labels = [short(name, 22) for name in names]
    margin = 0.2 + 0.06 * max(12, *map(len, labels))
    size = margin + 0.4 + min(max(0.2 * len(names), 2.5), 4.8)

    def draw(figure: Figure) -> None:
        axis = figure.add_axes((margin / size, margin / size, 1 - (margin + 0.05) / size, 1 - (margin + 0.35) / size))
        axis.grid(visible=False)
        image = axis.pcolormesh(np.ma.masked_invalid(shares), cmap=_HEAT, norm=PowerNorm(0.5, 0, top), edgecolors="none")
        for i in range(len(names)) if not table["grouped"] else ():
            axis.add_patch(Rectangle((i, i), 1, 1, fc=FAINT, alpha=0.35, lw=0))
        places = np.arange(len(names)) + 0.5
        axis.set_yticks(places, labels, fontsize=7)
        axis.set_xticks(places, labels, fontsize=7, rotation=90)
        axis.tick_params(length=0)
        axis.set(ylim=(len(names), 0), xlim=(0, len(names)))
        axis.set_aspect("equal", anchor="NW")
        axis.set_title("true (row) and predicted (column)", fontsize=8.5, fontweight="normal")
        scale = figure.add_axes((0.1 / size, 0.3 / size, 0.6 / size, 0.1 / size))
        bar = figure.colorbar(image, cax=scale, orientation="horizontal", ticks=[0, top / 4, top])
        bar.ax.set_xticklabels(["0", f"{25 * top:.2g}", f"{100 * top:.2g} %"], fontsize=7)
        bar.outline.set_visible(False)

    row, column = np.unravel_index(int(np.nanargmax(shares)), shares.shape)
    alt = (
        f"Confusion matrix of {len(names)} {'groups' if table['grouped'] else 'classes'}. Largest share: {names[row]} taken "
        f"for {names[column]}, {share_of([float(shares[row, column]), None, None])}."
    )
    if table["grouped"]:
        caption = (
            "Share of the queries of the row's group that were answered with a wrong class of the column's group, for each "
            "such class among the choices. Groups are the names before the slash"
        )
    else:
        caption = (
            "Share of the queries of the row's class that were answered with the column's class, in episodes with both; right "
            "answers (grey) are left out"
        )
    more = f"; the {len(names)} of {table['all']} with the most wrong answers" if table["all"] > len(names) else ""
    few = f"; blank: fewer than {_ENOUGH} such queries" if (possible < _ENOUGH).any() else ""
    return [picture("confusion", caption + more + few, alt, draw, (size, size))]


def hardest(name: str, title: str, rows: list[list[Any]], total: int) -> Picture:
    """Draw bars with the accuracy of the hardest of `total` classes or groups."""
    rows = rows[:_BARS]
    selection = f"; the {len(rows)} hardest of {total:,}" if len(rows) < total else ""
    height = 0.9 + 0.24 * len(rows)

    def draw(figure: Figure) -> None:
        axis = figure.add_axes((0.4, 0.36 / height, 0.56, 1 - 0.8 / height))
        axis.set_title(title, x=-0.7, y=1.0, pad=10)
        shared.bars(axis, [short(row[0], 28) for row in rows], [(0, [row[1:4] for row in rows], COLORS["test"], None)], 0.62)
        axis.tick_params(axis="y", labelsize=8)

    alt = f"{title}: " + "; ".join(f"{row[0]} {share_of(row[1:4])}" for row in rows)
    return picture(name, f"{title}, with 95 % intervals over episodes{selection}", alt, draw, (4.7, height))


def pairs(answers: dict[str, Any]) -> list[Picture]:
    """Draw the most frequent confusions with an example of each class, if examples are images."""
    seen, rows = answers["seen"], []
    if not isinstance(seen["items"], dict):
        return []
    image = dict(zip(seen["classes"], tiles(seen["items"])))
    rows = [row for row in answers["confusions"] if row[0] in image and row[1] in image][:_PAIRS]
    if not rows:
        return []
    size = seen["items"]["size"]

    def draw(figure: Figure) -> None:
        step, width = 1.25 * size, 8.6 * size
        canvas = _Canvas(figure, width, step * len(rows), size)
        for i, (a, b, times, together) in enumerate(rows):
            canvas.tile(0, i * step, image[a])
            canvas.tile(1.6 * size, i * step, image[b])
            canvas.text(1.3 * size, (i + 0.4) * step, "→", ha="center")
            canvas.text(2.85 * size, i * step + 0.2 * size, short(a, 46), fontsize=7.5)
            canvas.text(2.85 * size, i * step + 0.5 * size, f"taken for {short(b, 37)}", fontsize=7.5)
            canvas.text(2.85 * size, i * step + 0.8 * size, f"in {times} of {plural(together, 'query')}", fontsize=7.5)
        canvas.finish()

    alt = "; ".join(f"{a} taken for {b} in {times} of {plural(together, 'query')}" for a, b, times, together in rows)
    caption = f"The most frequent confusions, with an example of each {answers['class']}: left the true one, right the answer"
    return [picture("confused", caption, alt, draw, (4.7, 0.68 * len(rows) + 0.1))]


def episode(number: int, example: dict[str, Any]) -> Picture:
    """Draw an example episode of images: per class, a row with its support and some queries with answers."""
    images, size = tiles(example["items"]), example["items"]["size"]
    rows = list(zip(example["classes"], example["support"], example["query"]))
    most_support, most_queries = (max((len(row[i]) for row in rows), default=0) for i in (1, 2))
    step = 1.42 * size
    first, apart = 2.35 * size, 1.09 * size
    queries = first + most_support * apart + 0.35 * size
    width = queries + max(most_queries, 1) * apart
    height = step * len(rows) + 0.6 * size

    def draw(figure: Figure) -> None:
        canvas = _Canvas(figure, width, height, size)
        canvas.text(first, 0.25 * size, "support", fontsize=8, color=FAINT)
        canvas.text(queries, 0.25 * size, "queries and answers", fontsize=8, color=FAINT)
        for i, (name, support, query) in enumerate(rows):
            y = i * step + 0.55 * size
            canvas.text(0, y, f"{i + 1}", fontsize=8, fontweight="bold", va="top")
            lines = wrap(name.replace("/", "/ ").replace("_", " "), 13, max_lines=4, placeholder="…")
            canvas.text(0.4 * size, y, "\n".join(lines), fontsize=6, va="top")
            for j, item in enumerate(support):
                canvas.tile(first + j * apart, y, images[item])
            for j, (item, best, chance, _) in enumerate(query):
                x = queries + j * apart
                right = best == i
                canvas.tile(x, y, images[item])
                canvas.frame(x, y, RIGHT if right else WRONG, 1.4 if right else 2.6)
                said = f"✓ {100 * chance:.0f}%" if right else f"✗{best + 1}: {100 * chance:.0f}%"
                canvas.text(x, y + 1.2 * size, said, fontsize=6, color=INK if right else WRONG)
        canvas.finish()

    drawn = sum(len(query) for _, _, query in rows)
    right = sum(best == i for i, (_, _, query) in enumerate(rows) for _, best, _, _ in query)
    alt = (
        f"Episode {number}: {plural(len(example['classes']), 'class')}. Of {plural(drawn, 'query')} shown {right} are answered "
        f"right; of all {example['asked']}, {example['right']}."
    )
    selection = f", of which the first {len(rows)} are shown" if len(rows) < len(example["classes"]) else ""
    caption = (
        f"Episode {number}: {example['right']} of {plural(example['asked'], 'query')} "
        f"of {plural(len(example['classes']), 'class')} right{selection}. "
        "✓ right, with the probability of the answer; ✗ wrong, with the class answered"
    )
    return picture(f"episode_{number}", caption, alt, draw, (4.7, 4.7 * height / width))


class _Canvas:
    """Places images and text at pixel coordinates from the upper left; merges all images into one, which draws fast."""

    def __init__(self, figure: Figure, width: float, height: float, size: int) -> None:
        self.axis = figure.add_axes((0.01, 0.01, 0.98, 0.98))
        self.axis.set_axis_off()
        self.axis.set(xlim=(0, width), ylim=(height, 0))
        self.size, self.pixels = size, np.zeros((int(np.ceil(height)), int(np.ceil(width)), 4), np.uint8)

    def tile(self, x: float, y: float, image: np.ndarray) -> None:
        a, b = round(y), round(x)
        self.pixels[a : a + self.size, b : b + self.size] = np.dstack([image, np.full(image.shape[:2], 255, np.uint8)])

    def frame(self, x: float, y: float, color: str, width: float) -> None:
        box = Rectangle((round(x), round(y)), self.size, self.size, fill=False, ec=color, lw=width)
        self.axis.add_patch(box)

    def text(self, x: float, y: float, text: str, **look: Any) -> None:
        self.axis.text(x, y, text, va=look.pop("va", "center"), **look)

    def finish(self) -> None:
        height, width = self.pixels.shape[:2]
        limits = self.axis.get_xlim(), self.axis.get_ylim()
        self.axis.imshow(self.pixels, extent=(0, width, height, 0), interpolation="none", aspect="auto", zorder=0)
        self.axis.set(xlim=limits[0], ylim=limits[1])


def curves(number: int, example: dict[str, Any], measure: Measure) -> Picture:
    """Draw a regression task: true curve, support, and predictions before and after adapting, or after each step."""
    x, steps = np.array(example["x"], float), example["steps"]
    lines = np.array(example["curves"], float)
    labels = ["before", "after"] if steps is None else [_after(n) for n in steps]

    def draw(figure: Figure) -> None:
        axis = one_axis(figure, "", "x")
        if example["true"] is not None:
            axis.plot(x, example["true"], "--", color=INK, lw=1.4, label="true")
        named = {0, 1, len(lines) - 1}
        for i, (line, label) in enumerate(zip(lines, labels)):
            share = i / max(len(lines) - 1, 1)
            look: dict[str, Any] = {
                "color": BEFORE if i == 0 else COLORS["test"],
                "alpha": 1.0 if i == 0 else 0.25 + 0.75 * share,
            }
            axis.plot(
                x, line, ":" if i == 0 else "-", lw=1.9 if i in named else 0.9, label=label if i in named else None, **look
            )
        if example["support"]:
            points = np.array(example["support"], float)
            axis.plot(*points.T, "^", color=INK, ms=5, label="support", zorder=5)
        axis.legend(loc="lower right", bbox_to_anchor=(1.03, 0.99), ncols=5, fontsize=7.5, handlelength=1.4, columnspacing=0.9)

    error = ""
    if example["true"] is not None:
        each = ((lines - np.array(example["true"], float)) ** 2).mean(1)
        error = f" Mean squared error over the range: {measure.show([each[0], None, None])} {labels[0]}, " + (
            f"{measure.show([each[-1], None, None])} {labels[-1]}."
        )
    alt = f"Task {number}: the true curve, {plural(len(example['support']), 'point')} of support and the answers.{error}"
    return picture(f"task_{number}", f"Task {number}.{error}", alt, draw)


def _after(n: int) -> str:
    return "before" if n == 0 else f"after {plural(n, 'step')}"
