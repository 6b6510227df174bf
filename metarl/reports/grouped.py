"""What comparisons of all kinds of runs have in common: groups of seeds, and the tables and figures of them."""

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
from metarl.reports.drawing import FAINT, Picture, colored, one_axis, picture
from metarl.reports.sections import Section
from metarl.reports.tables import Table
from metarl.system.counts import plural
from metarl.system.printable import legend, printable

_MOST_PAIRS = 15
Column = tuple[str, str, Callable[[Any], Any]]
"""Title, kind, and the cell of a run's evaluation, or of those of a group."""


def evaluations(sections: Sequence[Section], training: str) -> list[Content]:
    """The evaluations, with the settings of training by which runs are grouped."""
    found: list[Content] = []
    for section in sections:
        content, config = section.run.evaluation, section.run.config
        if content:
            options = {key: config["options"].get(key) for key in OPTIONS[training]}
            found.append({**content, "settings": {**options, **config["settings"]}})
    return found


def sentence(problem: str) -> str:
    """A problem of `Pairing.problems` as a sentence."""
    return f"{problem[0].upper()}{problem[1:]}."


def different_sides(contents: Sequence[Content], names: Sequence[str]) -> list[str]:
    """The sentence on evaluations whose sides, called so, are not the same; [] where they are."""
    if len(set(names)) == 1:
        return []
    each = ", ".join(f"{content['run']} on {name}" for content, name in zip(contents, names))
    return [f"They were evaluated on different sides: {each}."]


@dataclass(frozen=True)
class Grouped:
    """Runs that are compared.

    Attributes:
        sections: what the page shows of each.
        contents: their evaluations, see `evaluations`.
        how: how two of them are compared.
        last: the place of the most experience that all were measured with.
    """

    sections: Sequence[Section]
    contents: Sequence[Content]
    how: Pairing
    last: int = -1

    @cached_property
    def groups(self) -> dict[str, list[Content]]:
        """The evaluations of one agent and its settings together, by label."""
        return {printable(label): some for label, some in groups(self.contents).items()}

    @cached_property
    def measure(self) -> Measure:
        """What is compared."""
        return self.how.measures(self.contents)[0]

    def level(self, some: Sequence[Content], at: int) -> Interval:
        """The measure of a group after an amount of experience."""
        return self.how.level(some, self.measure, at)

    def sentences(self, after: str, before: str) -> list[str]:
        """A sentence on each group; `after` and `before` say how it had adapted."""
        show, name = self.measure.show, self.measure.name
        return [
            f"{label}, {plural(len(_seeds(some)), 'seed')}: {name} {show(self.level(some, self.last))} {after}, "
            f"{show(self.level(some, 0))} {before}."
            for label, some in self.groups.items()
        ]

    def group_table(self, caption: str, columns: Sequence[Column]) -> Table:
        """A row for each group."""
        heads = [("agent and settings", "text"), ("seeds", "text"), *((title, kind) for title, kind, _ in columns)]
        rows = [
            [label, ", ".join(map(str, _seeds(some))), *(cell(some) for _, _, cell in columns)]
            for label, some in self.groups.items()
        ]
        return Table("groups", caption, heads, rows)

    def pair_table(self, caption: str, least: int) -> list[Table]:
        """Each pair of groups: differences where there is a run of each, and how probable it is that a run is better.

        Args:
            caption: what it shows.
            least: how many runs two groups need for a probability.
        """
        rows: list[list[Any]] = []
        for (a, first), (b, second) in list(combinations(self.groups.items(), 2))[:_MOST_PAIRS]:
            scores = (self.measure.direction * self.how.scores(some, self.measure, self.last) for some in (second, first))
            probability = probability_of_improvement(*scores) if len(first) + len(second) >= least else None
            rows.append([a, b, probability, self._difference(first, second)])
        heads = [
            ("A", "text"),
            ("B", "text"),
            ("B better than A, probability", "percent"),
            (f"B minus A, {self.how.unit} by {self.how.unit}", self.measure.change),
        ]
        kept = [i for i in range(len(heads)) if any(row[i] is not None for row in rows)]
        made = Table("pairs", caption, [heads[i] for i in kept], [[row[i] for i in kept] for row in rows])
        return [made] if len(kept) > 2 else []

    def _difference(self, first: Sequence[Content], second: Sequence[Content]) -> Interval | None:
        if len(first) != 1 or len(second) != 1:
            return None
        paired = self.how.paired(first[0], second[0], self.measure)
        return paired.difference if paired.count else None

    def run_table(self, steps: str, columns: Sequence[Column]) -> Table:
        """A row for each run."""
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
        caption = f"Run by run; 95 % intervals over {self.how.unit}s"
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
        """The measure against experience, a line for each group.

        Args:
            name: of its files.
            x: what experience is.
            caption: what it shows.
            lengths: the length of a run's curve.
            alt: what a line says.
            chance: where an agent that knows nothing is.
        """
        lines = {label: [self.level(some, k) for k in range(min(map(lengths, some)))] for label, some in self.groups.items()}

        def draw(figure: Figure) -> None:
            axis = one_axis(figure, self.measure.title, x)
            for (label, color, style), rows in zip(colored(list(lines)), lines.values()):
                band(axis, rows, legend(label), color, style)
            if chance is not None:
                axis.axhline(chance, color=FAINT, lw=1.2, ls=":", label="chance")
            whole_steps(axis)
            limits(axis, self.measure)
            axis.legend(loc="best")

        said = " ".join(f"{label}: {alt(rows)}" for label, rows in lines.items())
        return picture(name, caption, f"{self.measure.title} against {x}. {said}", draw)


def _seeds(some: Sequence[Content]) -> list[int]:
    return sorted({content["run_seed"] for content in some})
