"""Writes the tiles, sentences and warnings of a report on a few-shot learner, from the numbers of its evaluation."""

import numpy as np

from metarl.evaluation.comparison import answers_of
from metarl.evaluation.fewshot_schema import FewShotEvaluation, Steps
from metarl.evaluation.intervals import Interval, change_of_episodes
from metarl.evaluation.measures import ACCURACY, OF_EPISODES, Measure, headline
from metarl.evaluation.schema import Content
from metarl.evaluation.wording import TRANSDUCTIVE
from metarl.reports.reading import Reading
from metarl.reports.sections import Tile
from metarl.reports.sentences import Facts, gone_on, looked_at, main_side
from metarl.system.counts import plural

_SIDES = {"train": "training", "validation": "validation", "test": "held-out"}


def side_name(content: Content, side: str) -> str:
    """The side in words, such as "held-out classes" or "training tasks"."""
    return f"{_SIDES[side]} {'classes' if content['measure'] == 'accuracy' else 'tasks'}"


def experience(content: Content, shots: int | None = None) -> str:
    """The number of shots in words, such as "5 examples of each class" or "5 points"."""
    shots = content["shots"] if shots is None else shots
    return f"{plural(shots, 'example')} of each class" if content["measure"] == "accuracy" else plural(shots, "point")


def facts(content: FewShotEvaluation) -> Facts:
    """The evaluation's figures by its measure."""
    sides, side = content["sides"], main_side(content)
    figures = np.array(sides[side]["figures"], float)
    return Facts(
        headline(content),
        "episode",
        side,
        {name: side_name(content, name) for name in sides},
        {name: part["by_shots"] for name, part in sides.items()},
        change_of_episodes(content["measure"], figures[:, -1], figures[:, 0], answers_of(content)),
    )


def tiles(content: FewShotEvaluation) -> list[Tile]:
    """Tiles of the measure with all shots and without any, the change, and the measure on training classes."""
    main = facts(content)
    ways = f", {content['ways']} at a time" if main.measure == ACCURACY else ""
    after = f"{main.measure.name} on {main.names[main.side]}{ways}, from {experience(content)}"
    row_of_tiles = main.tiles(after, "before any example", "changed by adapting")
    if main.side != "train" and "train" in main.curves:
        row_of_tiles.append(main.tile(main.curves["train"][-1], f"on {main.names['train']}"))
    return row_of_tiles


def sentences(content: FewShotEvaluation) -> list[str]:
    """Sentences on the evaluation."""
    main = facts(content)
    measure, where = main.measure, main.names[main.side]
    after, before = measure.show(main.after), measure.show(main.before)
    if measure == ACCURACY:
        said = [
            f"With {experience(content)} it answers {after} of queries right, among {content['ways']} of the {where}; without "
            f"any example, {before} (chance: {measure.alone(1 / content['ways'])})."
        ]
    else:
        said = [
            f"With {experience(content)} of a curve its mean squared error on the rest of it is {after}, on {where}; without "
            f"any, {before}."
        ]
    said.append(main.gained())
    steps = content["sides"][main.side].get("by_steps")
    if steps:
        said.append(_steps(steps, measure))
    said += main.gaps("is")
    trained = content["trained_with"]
    if measure == ACCURACY and (trained["ways"], trained["shots"]) != (content["ways"], content["shots"]):
        said.append(
            f"It was trained with {trained['ways']} ways and {plural(trained['shots'], 'shot')}, and evaluated with "
            f"{content['ways']} ways and up to {plural(content['shots'], 'shot')}."
        )
    said.append(f"Split: {content['split']}.")
    if content.get("transductive"):
        said.append(TRANSDUCTIVE)
    queries = f" of {plural(content['queries'], 'query')}{' a class' if measure == ACCURACY else ''}"
    said.append(
        f"1 seed (seed {content['run_seed']}), {plural(content['episodes'], 'episode')}{queries}. Intervals are over "
        "episodes; other seeds may differ by more."
    )
    return said


def _steps(steps: Steps, measure: Measure) -> str:
    """The sentence on whether more gradient steps than the learner takes would help."""
    steps_taken, last = steps["taken"], max(steps["steps"])
    here = steps["steps"].index(steps_taken)
    said = f"It adapts by {plural(steps_taken, 'gradient step')}: {measure.show(steps['measured'][here])}"
    if last == steps_taken:
        return f"{said}, measured after as many as {last}."
    changed = steps["difference"][steps["steps"].index(last)]
    word = {1: "better", -1: "worse", 0: "no clear difference"}[measure.direction * (Interval(*changed).sign or 0)]
    return f"{said}. After {last} it would be {word}: {measure.show_change(changed)}."


def warnings(run: Reading) -> list[str]:
    """Warnings that a reader should know before trusting the figures."""
    content = run.evaluation
    said = [*run.problems, *looked_at(run, OF_EPISODES, "classes")]
    if content is None:
        said.append("No evaluation yet: metarl evaluate measures what it has learned. What follows shows training episodes.")
        return said
    sides = content["sides"]
    if "test" not in sides:
        said.append("Nothing held out was evaluated: the figures say nothing about new classes.")
    said += gone_on(run, content, "update")
    if content["left_out"]:
        said.append(f"Damaged in the file of the evaluation, and left out: {', '.join(content['left_out'])}.")
    elif not any("examples" in side for side in sides.values()):
        said.append(
            "The evaluation was made by an older metarl: run metarl evaluate again to add confusions, example "
            "episodes and, for gradient-based learners, their steps."
        )
    return said
