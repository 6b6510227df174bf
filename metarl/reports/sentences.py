"""Writes the tiles and sentences that reports of all kinds of runs share, from the figures of a measure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from metarl.evaluation.intervals import Interval, recovered
from metarl.evaluation.measures import Measure
from metarl.evaluation.schema import Content, Row
from metarl.evaluation.wording import said_of_looks
from metarl.reports.reading import Reading
from metarl.reports.sections import Tile


def main_side(content: Content) -> str:
    """The side that the verdict is about: the held-out one if it was evaluated."""
    return next(side for side in ("test", "validation", "train") if side in content["sides"])


@dataclass(frozen=True)
class Facts:
    """An evaluation's figures by one measure.

    Attributes:
        measure: the measure.
        unit: the unit that intervals are over: goal or episode.
        side: the side that the verdict is about.
        names: the sides in words.
        curves: by side, a row for each amount of experience.
        gain: all experience minus none on the main side, paired by unit.
    """

    measure: Measure
    unit: str
    side: str
    names: Mapping[str, str]
    curves: Mapping[str, Sequence[Row]]
    gain: Row | Interval

    @property
    def before(self) -> Row:
        """The figure without experience."""
        return self.curves[self.side][0]

    @property
    def after(self) -> Row:
        """The figure after all experience."""
        return self.curves[self.side][-1]

    def tile(self, row: Row, label: str) -> Tile:
        """A tile of a figure, with its interval below."""
        return Tile(self.measure.alone(row[0]), f"{label}. {self._ends(self.measure.show(row))}")

    def tiles(self, after: str, before: str, gained: str) -> list[Tile]:
        """Tiles of the figures after and before adapting, and of the gain, with these labels."""
        gain = Tile(
            self.measure.show_change((self.gain[0], None, None)),
            f"{gained}, {self.unit} by {self.unit}. {self._ends(self.measure.show_change(self.gain))}",
        )
        return [self.tile(self.after, after), self.tile(self.before, before), gain]

    def _ends(self, text: str) -> str:
        """Extract the interval from a number that is formatted with its interval in brackets."""
        both = text.partition("[")[2].removesuffix("]")
        if not both:
            return f"A single {self.unit}: no interval."
        return "95 % interval {} to {}.".format(*both.split(",\N{NO-BREAK SPACE}"))

    def gained(self) -> str:
        """The sentence on whether adapting helped."""
        gain, name = Interval(*self.gain), self.measure.name
        if gain.sign is None:
            return (
                f"Adapting changes {name} by {self.measure.show_change(gain)}; with a single {self.unit} there is no interval."
            )
        if gain.low == gain.high == 0:
            return f"Adapting changes {name} on no {self.unit}."
        return f"{_GAINED[self.measure.direction * gain.sign]}: {self.measure.show_change(gain)}, {self.unit} by {self.unit}."

    def gap(self, at: int = -1) -> Interval:
        """Train minus held-out after an amount of experience."""
        return recovered(self.curves["train"][at], self.curves["test"][at])

    def gaps(self, verb: str) -> list[str]:
        """The sentence on the generalisation gap, if both train and held-out sides were evaluated.

        Args:
            verb: the verb between the agent and its figure.
        """
        if self.side != "test" or "train" not in self.curves:
            return []
        gap, on_train = self.gap(), self.measure.show(self.curves["train"][-1])
        word = "a generalisation gap of" if gap.sign else "no clear generalisation gap:"
        change = self.measure.show_change(gap)
        return [f"On {self.names['train']} it {verb} {on_train}: {word} {change} (train minus held-out)."]


_GAINED = {1: "Adapting helps", -1: "Adapting makes it WORSE", 0: "Adapting makes no clear difference"}


def looked_at(run: Reading, measures: Sequence[Measure], what: str) -> list[str]:
    """The warning that test goals or classes were evaluated during training."""
    options = run.config["options"]
    tested = any(f"test_{measure.key}" in line for line in run.lines for measure in measures)
    if not tested and not (options.get("evaluate_on") == "test" and options.get("evaluate_every")):
        return []
    return [
        f"The test {what} were evaluated during training (--evaluate-on test): choices based on them make "
        f"figures on held-out {what} better than on new ones."
    ]


def looks(run: Reading, what: str, step: str) -> list[str]:
    """Sentences on how often held-out goals or classes (`what`) were evaluated; `step` is the word for a training step."""
    evaluations = [*([run.evaluation] if run.evaluation else []), *run.others, *run.upstream]
    return said_of_looks(run.looks, evaluations, run.suite, run.config["options"], what, step)


def gone_on(run: Reading, content: Content, step: str) -> list[str]:
    """The warning that the evaluation is of an older checkpoint."""
    if run.step <= content["step"]:
        return []
    return [f"The evaluation is of {step} {content['step']:,}; the run has trained for {run.step:,}."]
