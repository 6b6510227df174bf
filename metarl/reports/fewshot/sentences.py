"""The sentences of a report on a few-shot learner, computed from the numbers of its evaluation."""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from metarl.evaluation import intervals as statistics
from metarl.evaluation.formatting import Interval, error_change_of, error_of, share_of, tenths_of
from metarl.evaluation.wording import TRANSDUCTIVE
from metarl.reports.control.sentences import main_side
from metarl.reports.reading import Reading
from metarl.reports.sections import Tile
from metarl.system.counts import plural


class Form(NamedTuple):
    """How figures are written.

    Attributes:
        name: of the measure.
        level, change: kinds of columns in a `Table`.
        better: 1 where more is better, -1 where less is.
        show, show_change: a figure, a difference of figures.
    """

    name: str
    level: str
    change: str
    better: int
    show: Callable[[Interval], str]
    show_change: Callable[[Interval], str]


FORMS = {
    "accuracy": Form("accuracy", "share", "tenths", 1, share_of, tenths_of),
    "mse": Form("mean squared error", "error", "error change", -1, error_of, error_change_of),
}
_SIDES = {"train": "training", "validation": "validation", "test": "held-out"}


def form_of(content: dict[str, Any]) -> Form:
    """How its figures are written."""
    return FORMS[content["measure"]]


def side_name(content: dict[str, Any], side: str) -> str:
    """held-out classes, training tasks"""
    return f"{_SIDES.get(side, side)} {'classes' if content['measure'] == 'accuracy' else 'tasks'}"


def experience(content: dict[str, Any], shots: int | None = None) -> str:
    """5 examples of each class"""
    shots = content["shots"] if shots is None else shots
    return f"{plural(shots, 'example')} of each class" if content["measure"] == "accuracy" else plural(shots, "point")


def gain(content: dict[str, Any], side: str) -> statistics.Interval:
    """What the whole support changes, paired by episode."""
    figures = np.array(content["sides"][side]["figures"], float)
    return statistics.change_of_episodes(content["measure"], figures[:, -1], figures[:, 0], answers_of(content))


def answers_of(content: dict[str, Any]) -> int:
    """How many queries an episode has."""
    return content["queries"] * content["ways"]


def gap_of(content: dict[str, Any], shots: int = -1) -> Interval:
    """Train minus held-out with so many shots; default: all."""
    train, test = (content["sides"][side]["by_shots"][shots] for side in ("train", "test"))
    return statistics.recovered(train, test)


def _sign(interval: Interval) -> int:
    _, low, high = interval
    return 0 if low is None or high is None else int(low > 0) - int(high < 0)


def tiles(content: dict[str, Any]) -> list[Tile]:
    """The measure with all shots, without any, the change, and on training classes."""
    side, form = main_side(content), form_of(content)
    curve, where = content["sides"][side]["by_shots"], side_name(content, side)
    ways = f", {content['ways']} at a time" if content["measure"] == "accuracy" else ""
    made = [
        Tile(
            _alone(form.show, curve[-1]), f"{form.name} on {where}{ways}, from {experience(content)}. {_ends(curve[-1], form)}"
        ),
        Tile(_alone(form.show, curve[0]), f"before any example. {_ends(curve[0], form)}"),
        Tile(
            _alone(form.show_change, gain(content, side)),
            f"changed by adapting, episode by episode. {_ends(gain(content, side), form, change=True)}",
        ),
    ]
    if side != "train" and "train" in content["sides"]:
        on_train = content["sides"]["train"]["by_shots"][-1]
        made.append(Tile(_alone(form.show, on_train), f"on {side_name(content, 'train')}. {_ends(on_train, form)}"))
    return made


def _alone(show: Callable[[Interval], str], interval: Interval) -> str:
    return show([interval[0], None, None])


def _ends(interval: Interval, form: Form, change: bool = False) -> str:
    _, low, high = interval
    if low is None or high is None:
        return "A single episode: no interval."
    both = (form.show_change if change else form.show)(interval).partition("[")[2].removesuffix("]")
    return "95 % interval {} to {}.".format(*both.split(",\N{NO-BREAK SPACE}"))


def sentences(content: dict[str, Any]) -> list[str]:
    """What the evaluation says in words."""
    side, form = main_side(content), form_of(content)
    curve, changed = content["sides"][side]["by_shots"], gain(content, side)
    where = side_name(content, side)
    if content["measure"] == "accuracy":
        said = [
            f"With {experience(content)} it answers {form.show(curve[-1])} of queries right, among {content['ways']} of the "
            f"{where}; without any example, {form.show(curve[0])} (chance: {share_of([1 / content['ways'], None, None])})."
        ]
    else:
        said = [
            f"With {experience(content)} of a curve its mean squared error on the rest of it is {form.show(curve[-1])}, on "
            f"{where}; without any, {form.show(curve[0])}."
        ]
    word = {1: "Adapting helps", -1: "Adapting makes it WORSE", 0: "Adapting makes no clear difference"}
    said.append(f"{word[form.better * _sign(changed)]}: {form.show_change(changed)}, episode by episode.")
    steps = content["sides"][side].get("by_steps")
    if steps:
        said.append(_steps(steps, form))
    if side == "test" and "train" in content["sides"]:
        gap, on_train = gap_of(content), content["sides"]["train"]["by_shots"][-1]
        word_of_gap = "a generalisation gap of" if _sign(gap) else "no clear generalisation gap:"
        said.append(
            f"On {side_name(content, 'train')} it is {form.show(on_train)}: {word_of_gap} {form.show_change(gap)} "
            "(train minus held-out)."
        )
    trained = content["trained_with"]
    if content["measure"] == "accuracy" and (trained["ways"], trained["shots"]) != (content["ways"], content["shots"]):
        said.append(
            f"It was trained with {trained['ways']} ways and {plural(trained['shots'], 'shot')}, and evaluated with "
            f"{content['ways']} ways and up to {plural(content['shots'], 'shot')}."
        )
    said.append(f"Split: {content['split']}.")
    if content.get("transductive"):
        said.append(TRANSDUCTIVE)
    queries = f" of {plural(content['queries'], 'query')}{' a class' if content['measure'] == 'accuracy' else ''}"
    said.append(
        f"1 seed (seed {content['run_seed']}), {plural(content['episodes'], 'episode')}{queries}. Intervals are over "
        "episodes; other seeds may differ by more."
    )
    return said


def _steps(steps: dict[str, Any], form: Form) -> str:
    """Whether more gradient steps than the learner takes would help."""
    taken, last = steps["taken"], max(steps["steps"])
    here = steps["steps"].index(taken)
    said = f"It adapts by {plural(taken, 'gradient step')}: {form.show(steps['measured'][here])}"
    if last == taken:
        return f"{said}, measured after as many as {last}."
    changed = steps["difference"][steps["steps"].index(last)]
    word = {1: "better", -1: "worse", 0: "no clear difference"}[form.better * _sign(changed)]
    return f"{said}. After {last} it would be {word}: {form.show_change(changed)}."


def warnings(run: Reading) -> list[str]:
    """What a reader should know before believing the figures."""
    options, content = run.config["options"], run.evaluation
    said = list(run.problems)
    tested = any(f"test_{measure}" in line for line in run.lines for measure in FORMS)
    if tested or (options.get("evaluate_on") == "test" and options.get("evaluate_every")):
        said.append(
            "The test classes were looked at during training (--evaluate-on test): choices made on them make figures on "
            "held-out classes better than they would be on new ones."
        )
    if content is None:
        said.append("No evaluation yet: metarl evaluate measures what it has learned. What follows is of training episodes.")
        return said
    sides = content["sides"]
    if "test" not in sides:
        said.append("Nothing held out was evaluated: the figures say nothing of new classes.")
    if run.step > content["step"]:
        said.append(f"The evaluation is of update {content['step']:,}; the run has trained for {run.step:,}.")
    if content["left_out"]:
        said.append(f"Damaged in the file of the evaluation, and left out: {', '.join(content['left_out'])}.")
    elif not any("examples" in side for side in sides.values()):
        said.append(
            "The evaluation was made by an older metarl: metarl evaluate, once more, adds which classes are taken for which, "
            "example episodes and, of learners by gradients, their steps."
        )
    return said
