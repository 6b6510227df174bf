"""Few-shot learners beside each other in one plot and table, with the seeds of one agent together."""

from collections.abc import Sequence
from itertools import combinations
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from metarl.evaluation import comparison
from metarl.evaluation import intervals as statistics
from metarl.evaluation.formatting import Interval
from metarl.reports.control.sentences import main_side
from metarl.reports.drawing import FAINT, Picture, colored, one_axis, picture
from metarl.reports.fewshot import figures as fewshot_figures
from metarl.reports.fewshot.sentences import answers_of, experience, form_of, side_name
from metarl.reports.sections import Comparison, Section
from metarl.reports.tables import Table
from metarl.system.counts import plural
from metarl.system.printable import legend, printable

_MOST_PAIRS = 15
_OPTIONS = ("ways", "shots", "queries", "meta_batch", "rotations", "split_seed", "image_size", "sentence_encoder")
"""Options of training that make runs differ in more than their seed."""
_NEEDED = {"suite": "data set", "split": "split", "ways": "number of ways", "measure": "measure", "side": "side"}
_EPISODES = ("seed", "queries", "shots", "episodes")
"""Where these are equal too, the episodes are the same ones."""
Groups = dict[str, list[dict[str, Any]]]


def reasons(sections: Sequence[Section]) -> list[str]:
    """Why these are not to be compared; [] where they can be."""
    contents = _contents(sections)
    found = []
    for key, name in _NEEDED.items():
        runs: dict[Any, list[str]] = {}
        for content in contents:
            runs.setdefault(content[key], []).append(content["run"])
        if len(runs) > 1:
            each = [f"{value} ({', '.join(some)})" for value, some in runs.items()]
            found.append(f"The {name} differs: {'; '.join(each)}.")
    return found[:1] if len({content["suite"] for content in contents}) > 1 else found


def compared(sections: Sequence[Section], title: str) -> Comparison:
    """These runs beside each other."""
    contents = _contents(sections)
    groups = {printable(label): some for label, some in comparison.groups(contents).items()}
    one = contents[0]
    ways = f", {one['ways']} ways" if one["measure"] == "accuracy" else ""
    return Comparison(
        f"{title}: {side_name(one, one['side'])} of {one['suite']}{ways}",
        _sentences(groups),
        (),
        [_curves(groups)],
        [_group_table(groups), *_pair_table(groups), _run_table(sections, contents)],
    )


def _contents(sections: Sequence[Section]) -> list[dict[str, Any]]:
    """Evaluations with their main side, and the settings of training by which runs are grouped."""
    contents = []
    for section in sections:
        content, config = section.run.evaluation, section.run.config
        if content:
            options = {key: config["options"].get(key) for key in _OPTIONS}
            settings = {**options, **config["settings"]}
            contents.append(
                {**content, "side": main_side(content), "adapt_every": None, "trained_on": {}, "settings": settings}
            )
    return contents


def _level(some: list[dict[str, Any]], shots: int, side: str | None = None) -> Interval:
    """Over seeds; of a single run over its episodes."""
    rows = [content["sides"][side or content["side"]]["by_shots"][shots] for content in some]
    if len(rows) == 1:
        return rows[0]
    return comparison.aggregate(np.array([[row[0]] for row in rows]))["mean"]


def _shots(groups: Groups) -> int:
    """As many shots as all were measured with."""
    return min(content["shots"] for some in groups.values() for content in some)


def _seeds(some: list[dict[str, Any]]) -> list[int]:
    return sorted({content["run_seed"] for content in some})


def _sentences(groups: Groups) -> list[str]:
    first = next(iter(groups.values()))[0]
    form, most = form_of(first), _shots(groups)
    said = [
        f"{label}, {plural(len(_seeds(some)), 'seed')}: {form.name} {form.show(_level(some, most))} with "
        f"{experience(first, most)}, {form.show(_level(some, 0))} without."
        for label, some in groups.items()
    ]
    if any(len(some) == 1 for some in groups.values()):
        said.append("Where there is 1 run the interval is over its episodes: another seed may well come out elsewhere.")
    return said


def _group_table(groups: Groups) -> Table:
    first = next(iter(groups.values()))[0]
    form, most = form_of(first), _shots(groups)
    counts = [k for k in dict.fromkeys((0, 1, most)) if k <= most]
    trained = all("train" in content["sides"] for some in groups.values() for content in some)
    columns = [("agent and settings", "text"), ("seeds", "text"), *((experience(first, k), form.level) for k in counts)]
    columns += [(f"{side_name(first, 'train')}, {experience(first, most)}", form.level)] if trained else []
    rows = []
    for label, some in groups.items():
        cells = [_level(some, k) for k in counts]
        cells += [_level(some, most, "train")] if trained else []
        rows.append([label, ", ".join(map(str, _seeds(some))), *cells])
    caption = "Seeds together; 95 % intervals over seeds by bootstrap, of 1 run over its episodes"
    return Table("groups", f"{form.name.capitalize()}. {caption}", columns, rows)


def _pair_table(groups: Groups) -> list[Table]:
    """Each pair of agents: differences on the same episodes where there is a run of each, else how often a run is better."""
    form, most = form_of(next(iter(groups.values()))[0]), _shots(groups)
    rows: list[list[Any]] = []
    for (a, first), (b, second) in list(combinations(groups.items(), 2))[:_MOST_PAIRS]:
        scores = (
            form.better * np.array([[content["sides"][content["side"]]["by_shots"][most][0]] for content in some])
            for some in (second, first)
        )
        probability = comparison.probability_of_improvement(*scores) if len(first) + len(second) > 2 else None
        rows.append([a, b, probability, _paired(first, second)])
    columns = [
        ("A", "text"),
        ("B", "text"),
        ("B better than A, probability", "percent"),
        ("B minus A, episode by episode", form.change),
    ]
    kept = [i for i in range(len(columns)) if any(row[i] is not None for row in rows)]
    caption = "In pairs: the probability is over runs, the difference over the same episodes of 1 run each"
    made = Table("pairs", caption, [columns[i] for i in kept], [[row[i] for i in kept] for row in rows])
    return [made] if len(kept) > 2 else []


def _paired(first: list[dict[str, Any]], second: list[dict[str, Any]]) -> Interval | None:
    if len(first) != 1 or len(second) != 1 or any(first[0].get(key) != second[0].get(key) for key in _EPISODES):
        return None
    a, b = (np.array(content["sides"][content["side"]]["figures"], float)[:, -1] for content in (first[0], second[0]))
    return statistics.change_of_episodes(first[0]["measure"], b, a, answers_of(first[0]))


def _run_table(sections: Sequence[Section], contents: list[dict[str, Any]]) -> Table:
    form = form_of(contents[0])
    columns = [
        ("run", "text"),
        ("agent", "text"),
        ("seed", "text"),
        ("updates", "text"),
        ("shots", "text"),
        ("before", form.level),
        ("after", form.level),
    ]
    rows = []
    for section, content in zip(sections, contents):
        curve = content["sides"][content["side"]]["by_shots"]
        rows.append(
            [
                section.run.name,
                section.run.agent,
                str(content["run_seed"]),
                f"{content['step']:,}",
                str(content["shots"]),
                curve[0],
                curve[-1],
            ]
        )
    return Table(
        "runs", "Run by run; 95 % intervals over episodes", columns, rows, [f"#{section.anchor}" for section in sections]
    )


def _curves(groups: Groups) -> Picture:
    """The measure against shots, a line for each group."""
    first = next(iter(groups.values()))[0]
    form = form_of(first)
    lines = {
        label: [_level(some, k) for k in range(min(content["shots"] for content in some) + 1)] for label, some in groups.items()
    }

    def draw(figure: Figure) -> None:
        unit = "examples of each class" if first["measure"] == "accuracy" else "points of the curve"
        axis = one_axis(figure, form.name.capitalize(), unit)
        for (label, color, style), rows in zip(colored(list(lines)), lines.values()):
            fewshot_figures.band(axis, range(len(rows)), rows, color, legend(label), style)
        if first["measure"] == "accuracy":
            axis.axhline(1 / first["ways"], color=FAINT, lw=1.2, ls=":", label="chance")
        axis.xaxis.get_major_locator().set_params(integer=True)
        fewshot_figures.limits(axis, first["measure"])
        axis.legend(loc="best")

    alt = f"{form.name.capitalize()} against examples. " + " ".join(
        f"{label}: {form.show(rows[0])} without any, {form.show(rows[-1])} with {len(rows) - 1}."
        for label, rows in lines.items()
    )
    caption = "Bands: 95 % intervals over seeds, of 1 run over its episodes"
    return picture("shots", f"{form.name.capitalize()} on {side_name(first, first['side'])}. {caption}", alt, draw)
