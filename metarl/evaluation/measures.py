"""The figures that evaluations measure: their names in files and in words, and how they are written."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from metarl.evaluation.formatting import FORMS
from metarl.evaluation.formatting import Interval as Row
from metarl.evaluation.intervals import Interval
from metarl.evaluation.schema import Content


@dataclass(frozen=True)
class Measure:
    """A figure of an evaluation.

    Attributes:
        key: its name in files.
        name: its name within a sentence.
        label: its name in a table of several measures.
        title: the heading of its plots.
        form: how a terminal writes it.
        level, change: how reports write it and its differences, kinds of `FORMS`.
        scale, unit: what a terminal multiplies it by, and what that is called.
        direction: 1 where more is better, -1 where less is.
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
        """The interval for a terminal; the sign "+" is for differences."""
        scaled = (x if x is None else x * self.scale for x in interval)
        return Interval(*scaled).text(sign + self.form)  # type: ignore[arg-type]

    def show(self, interval: Row) -> str:
        """The interval for a report."""
        return FORMS[self.level](interval)

    def show_change(self, interval: Row) -> str:
        """A difference with its interval, for a report."""
        return FORMS[self.change](interval)

    def alone(self, value: float | None) -> str:
        """A figure without its interval, for a report."""
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
"""Measures of agents that act; returns alone where the environments tell no success."""
OF_EPISODES = (ACCURACY, ERROR)
"""Measures of few-shot learners: of classification, of regression."""
MEASURES = {measure.key: measure for measure in (*OF_GOALS, *OF_EPISODES)}


def measured(*contents: Content) -> tuple[Measure, ...]:
    """What all of these evaluations of agents measured: returns always, success where the environments tell it.

    Returns that stand alone may be small, and have a decimal more.
    """
    found = [next(iter(next(iter(content["sides"].values()))["figures"].values())) for content in contents]
    both = tuple(measure for measure in OF_GOALS if all(measure.key in figures for figures in found))
    return both if len(both) > 1 else (replace(RETURN, form=",.1f"),)


def headline(*contents: Content) -> Measure:
    """The measure that a reader sees first: success, or the return where some environments tell no success; accuracy, error."""
    return MEASURES[contents[0]["measure"]] if "measure" in contents[0] else measured(*contents)[0]
