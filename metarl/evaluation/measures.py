"""Defines the measures of evaluations: their names in files and in words, and how to format them."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from metarl.evaluation.formatting import FORMS
from metarl.evaluation.formatting import Interval as Row
from metarl.evaluation.intervals import Interval
from metarl.evaluation.schema import Content


@dataclass(frozen=True)
class Measure:
    """A measure of an evaluation.

    Attributes:
        key: its name in files.
        name: its name within a sentence.
        label: its name in a table of several measures.
        title: the heading of its plots.
        form: its format in the terminal.
        level, change: keys of `FORMS` that format it and its differences in reports.
        scale, unit: the terminal's factor for it, and the resulting unit.
        direction: 1 if more is better, -1 if less is.
    """

    key: str
    name: str
    label: str
    title: str
    form: str
    level: str
    change: str
    scale: int = 1
    unit: str = ""
    direction: int = 1

    @property
    def heading(self) -> str:
        """Its label with its unit."""
        return f"{self.label}, {self.unit}" if self.unit else self.label

    @property
    def bounded(self) -> bool:
        """Whether it lies between 0 and 1."""
        return self.key not in ("return", "mse")

    def text(self, interval: Sequence[float | None], sign: str = "") -> str:
        """Format the interval for the terminal; use the sign "+" for differences."""
        scaled = (x if x is None else x * self.scale for x in interval)
        return Interval(*scaled).text(sign + self.form)  # type: ignore[arg-type]

    def show(self, interval: Row) -> str:
        """Format the interval for a report."""
        return FORMS[self.level](interval)

    def show_change(self, interval: Row) -> str:
        """Format a difference with its interval for a report."""
        return FORMS[self.change](interval)

    def alone(self, value: float | None) -> str:
        """Format a figure without its interval for a report."""
        return self.show((value, None, None))


SUCCESS = Measure("success", "success", "success (any step)", "Success at any step", ".2f", "percent", "points")
LAST_SUCCESS = Measure(
    "last_success", "at the last step", "success (last step)", "Success at the last step", ".2f", "percent", "points"
)
RETURN = Measure("return", "return", "return", "Return of an episode", ",.0f", "number", "change")
ACCURACY = Measure("accuracy", "accuracy", "accuracy", "Accuracy", ".2f", "share", "tenths", scale=100, unit="percent")
ERROR = Measure(
    "mse", "mean squared error", "mean squared error", "Mean squared error", ".4f", "error", "error change", direction=-1
)
OF_GOALS = (SUCCESS, LAST_SUCCESS, RETURN)
"""Measures of acting agents; only the return if the environments report no success."""
OF_EPISODES = (ACCURACY, ERROR)
"""Measures of few-shot learners, for classification and for regression."""
MEASURES = {measure.key: measure for measure in (*OF_GOALS, *OF_EPISODES)}


def measured(*contents: Content) -> tuple[Measure, ...]:
    """The measures that all these evaluations of acting agents have: the return, and success if all report it.

    If the return is the only measure it may be small, so it gets one more decimal.
    """
    by_measure = [next(iter(next(iter(content["sides"].values()))["figures"].values())) for content in contents]
    shared = tuple(measure for measure in OF_GOALS if all(measure.key in figures for figures in by_measure))
    return shared if len(shared) > 1 else (replace(RETURN, form=",.1f"),)


def headline(*contents: Content) -> Measure:
    """The main measure: success, or the return if some environments report no success; accuracy or error for few-shot."""
    return MEASURES[contents[0]["measure"]] if "measure" in contents[0] else measured(*contents)[0]
