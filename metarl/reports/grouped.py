"""The shared part of all comparisons: groups of seeds, and their tables and figures."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import combinations
from typing import Any

from matplotlib.figure import Figure

from metarl.evaluation.aggregates import probability_of_improvement
from metarl.evaluation.comparison import OPTIONS, Pairing, groups
from metarl.evaluation.intervals import Interval
from metarl.evaluation.measures import Measure
from metarl.evaluation.plots import band
from metarl.evaluation.schema import Content
from metarl.reports.curves import limits, whole_steps
from metarl.reports.drawing import FAINT, Picture, colored, legend_below, one_axis, picture
from metarl.reports.sections import Section
from metarl.reports.tables import Table
from metarl.system.counts import plural
from metarl.system.printable import legend, printable

_MOST_PAIRS = 15
Column = tuple[str, str, Callable[[Any], Any]]
"""Title, kind, and a function that gives the cell for a run's evaluation or for a group's evaluations."""


def evaluations(sections: Sequence[Section], training: str) -> list[Content]:
    """The evaluations, with the training settings that `groups` compares."""
    contents: list[Content] = []
    for section in sections:
        content, config = section.run.evaluation, section.run.config
        if content:
            options = {key: config["options"].get(key) for key in OPTIONS[training]}
            contents.append({**content, "settings": {**options, **config["settings"]}})
    return contents


def sentence(problem: str) -> str:
    """Turn an item of `Pairing.problems` into a sentence."""
    return f"{problem[0].upper()}{problem[1:]}."


def different_sides(contents: Sequence[Content], names: Sequence[str]) -> list[str]:
    """A sentence if the evaluations' sides, given by `names`, differ; else []."""
    if len(set(names)) == 1:
        return []
    each = ", ".join(f"{content['run']} on {name}" for content, name in zip(contents, names))
    return [f"They were evaluated on different sides: {each}."]


@dataclass(frozen=True)
class Grouped:
    """A set of runs to compare.

    Attributes:
        sections: the runs' sections of the page.
        contents: their evaluations, see `evaluations`.
        how: compares two of them.
        last: index of the largest amount of experience that all were measured with.
    """

    sections: Sequence[Section]
    contents: Sequence[Content]
    how: Pairing
    last: int = -1

    @cached_property
    def groups(self) -> dict[str, list[Content]]:
        """The evaluations, grouped by agent and settings, by label."""
        return {printable(label): group for label, group in groups(self.contents).items()}

    @cached_property
    def measure(self) -> Measure:
        """The measure to compare by."""
        return self.how.measures(self.contents)[0]

    def level(self, group: Sequence[Content], at: int) -> Interval:
        """The measure of a group after an amount of experience."""
        return self.how.level(group, self.measure, at)

    def sentences(self, after: str, before: str) -> list[str]:
        """A sentence on each group; `after` and `before` describe its experience."""
        show, name = self.measure.show, self.measure.name
        return [
            f"{label}, {plural(len(_seeds(group)), 'seed')}: {name} {show(self.level(group, self.last))} {after}, "
            f"{show(self.level(group, 0))} {before}."
            for label, group in self.groups.items()
        ]

    def group_table(self, caption: str, columns: Sequence[Column]) -> Table:
        """A table with a row per group."""
        heads = [("agent and settings", "text"), ("seeds", "text"), *((title, kind) for title, kind, _ in columns)]
        rows = [
            [label, ", ".join(map(str, _seeds(group))), *(cell(group) for _, _, cell in columns)]
            for label, group in self.groups.items()
        ]
        return Table("groups", caption, heads, rows)

    def pair_table(self, caption: str, least: int) -> list[Table]:
        """A table of pairs of groups: probability that a run is better, and the difference if each group has one run.

        Args:
            caption: the table's caption.
            least: number of runs that two groups need together for a probability.
        """
        rows: list[list[Any]] = []
        for (a, first), (b, second) in list(combinations(self.groups.items(), 2))[:_MOST_PAIRS]:
            scores = (self.measure.direction * self.how.scores(group, self.measure, self.last) for group in (second, first))
            probability = probability_of_improvement(*scores) if len(first) + len(second) >= least else None
            rows.append([a, b, probability, self._difference(first, second)])
        heads = [
            ("A", "text"),
            ("B", "text"),
            ("B better than A, probability", "percent"),
            (f"B minus A, {self.how.unit} by {self.how.unit}", self.measure.change),
        ]
        filled = [i for i in range(len(heads)) if any(row[i] is not None for row in rows)]
        table = Table("pairs", caption, [heads[i] for i in filled], [[row[i] for i in filled] for row in rows])
        return [table] if len(filled) > 2 else []

    def _difference(self, first: Sequence[Content], second: Sequence[Content]) -> Interval | None:
        if len(first) != 1 or len(second) != 1:
            return None
        paired = self.how.paired(first[0], second[0], self.measure)
        return paired.difference if paired.count else None

    def run_table(self, steps: str, columns: Sequence[Column]) -> Table:
        """A table with a row per run."""
        heads = [("run", "text"), ("agent", "text"), ("seed", "text"), (steps, "text")]
        rows = [
            [
                section.run.name,
                section.run.agent,
                str(content["run_seed"]),
                f"{content['step']:,}",
                *(cell(content) for _, _, cell in columns),
            ]
            for section, content in zip(self.sections, self.contents)
        ]
        caption = f"Results of each run, with 95 % intervals over {self.how.unit}s"
        links = [f"#{section.anchor}" for section in self.sections]
        return Table("runs", caption, [*heads, *((title, kind) for title, kind, _ in columns)], rows, links)

    def curves(
        self,
        name: str,
        x: str,
        caption: str,
        lengths: Callable[[Content], int],
        alt: Callable[[Sequence[Interval]], str],
        chance: float | None = None,
    ) -> Picture:
        """Plot the measure against experience, one line per group.

        Args:
            name: the name of its files.
            x: the unit of experience.
            caption: the figure's caption.
            lengths: gives the length of a run's curve.
            alt: describes a line in words.
            chance: the chance level.
        """
        lines = {label: [self.level(group, k) for k in range(min(map(lengths, group)))] for label, group in self.groups.items()}

        def draw(figure: Figure) -> None:
            axis = one_axis(figure, self.measure.title, x)
            for (label, color, style), rows in zip(colored(list(lines)), lines.values()):
                band(axis, rows, legend(label), color, style)
            if chance is not None:
                axis.axhline(chance, color=FAINT, lw=1.2, ls=":", label="chance")
            whole_steps(axis)
            limits(axis, self.measure)
            legend_below(figure, axis)

        said = " ".join(f"{label}: {alt(rows)}" for label, rows in lines.items())
        return picture(name, caption, f"{self.measure.title} against {x}. {said}", draw)


def _seeds(group: Sequence[Content]) -> list[int]:
    return sorted({content["run_seed"] for content in group})
