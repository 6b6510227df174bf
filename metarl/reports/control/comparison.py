"""Runs of robots beside each other in one table, with the seeds of one agent together."""

from collections.abc import Sequence
from itertools import combinations
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from metarl.evaluation import comparison
from metarl.evaluation.formatting import Interval, number_of, percent_of
from metarl.evaluation.vocabulary import MODE, SIDES, headline
from metarl.reports.control import figures
from metarl.reports.control.sentences import main_side
from metarl.reports.drawing import Picture, colored, one_axis, picture
from metarl.reports.sections import Comparison, Section
from metarl.reports.tables import Table
from metarl.system.counts import plural
from metarl.system.printable import legend, printable

_MOST_PAIRS = 15
Groups = dict[str, list[dict[str, Any]]]


def _head(contents: Sequence[dict[str, Any]]) -> str:
    """The measure that is compared: success where all evaluations have it, else the return."""
    return "success" if all(headline(content) == "success" for content in contents) else "return"


def _contents(sections: Sequence[Section]) -> list[dict[str, Any]]:
    """Evaluations, of the side that their verdict is about, with the settings of training by which runs are grouped."""
    contents = []
    for section in sections:
        content, config = section.run.evaluation, section.run.config
        if content:
            side, options = main_side(content), {key: config["options"].get(key) for key in comparison.OPTIONS}
            contents.append({**content, "settings": {**options, **config["settings"]}, "sides": {side: content["sides"][side]}})
    return contents


def reasons(sections: Sequence[Section]) -> list[str]:
    """Why these are not to be compared; [] where they can be."""
    contents = _contents(sections)
    sides = [next(iter(content["sides"])) for content in contents]
    if len(set(sides)) == 1:
        return [f"{reason[0].upper()}{reason[1:]}." for reason in comparison.incomparable(contents)]
    each = ", ".join(f"{content['run']} on {SIDES.get(side, side)}" for content, side in zip(contents, sides))
    return [f"They were evaluated on different sides: {each}."]


def compared(sections: Sequence[Section], title: str) -> Comparison:
    """These runs beside each other."""
    contents = _contents(sections)
    groups = {printable(label): some for label, some in comparison.groups(contents).items()}
    side = next(iter(contents[0]["sides"]))
    goals = f"{SIDES.get(side, side)} of {contents[0]['suite']}"
    return Comparison(
        f"{title}: {goals}",
        _sentences(groups, side),
        (),
        [*_curves(groups, side), *_profiles(groups, side), *_learning(sections, contents, groups)],
        [_group_table(groups, side), *_pair_table(groups, side), _run_table(sections, contents, side)],
    )


def _mean(contents: list[dict[str, Any]], side: str, measure: str, episode: int) -> Interval:
    """Over seeds and tasks."""
    return comparison.aggregate(comparison.scores(contents, side, MODE, measure, episode))["mean"]


def _sentences(groups: Groups, side: str) -> list[str]:
    said, head = [], _head_of(groups)
    for label, some in groups.items():
        before, after = (_SHOWN[head](_mean(some, side, head, e)) for e in (0, -1))
        said.append(f"{label}, {plural(len(_seeds(some)), 'seed')}: {head} {after} after adapting, {before} before.")
    if any(len(_seeds(some)) == 1 for some in groups.values()):
        said.append("Where there is 1 seed there is no interval over seeds: another seed may well come out elsewhere.")
    return said


_SHOWN = {"success": percent_of, "return": number_of}
_KINDS = {"success": ("percent", "points"), "return": ("number", "change")}
"""Of a value and of a difference."""


def _head_of(groups: Groups) -> str:
    return _head([content for some in groups.values() for content in some])


def _seeds(contents: list[dict[str, Any]]) -> list[int]:
    return sorted({content["run_seed"] for content in contents})


def _group_table(groups: Groups, side: str) -> Table:
    head = _head_of(groups)
    kind, _ = _KINDS[head]
    columns = [
        ("agent and settings", "text"),
        ("seeds", "text"),
        (f"{head} before", kind),
        (f"{head} after", kind),
        ("interquartile mean", kind),
        ("median", kind),
    ]
    columns += [("last step after", "percent"), ("return after", "number")] if head == "success" else []
    rows = []
    for label, some in groups.items():
        after = comparison.aggregate(comparison.scores(some, side, MODE, head, -1))
        more = [("last_success", -1), ("return", -1)] if head == "success" else []
        others = [_mean(some, side, measure, e) for measure, e in ((head, 0), *more)]
        seeds = ", ".join(map(str, _seeds(some)))
        rows.append([label, seeds, others[0], after["mean"], after["iqm"], after["median"], *others[1:]])
    return Table("groups", "Seeds together; 95 % intervals over seeds by bootstrap, tasks fixed", columns, rows)


def _pair_table(groups: Groups, side: str) -> list[Table]:
    """Each pair of agents: how probable it is that a run of the second is better, and the difference on equal goals."""
    rows: list[list[Any]] = []
    head = _head_of(groups)
    for (a, first), (b, second) in list(combinations(groups.items(), 2))[:_MOST_PAIRS]:
        scores = (comparison.scores(some, side, MODE, head) for some in (second, first))
        paired = comparison.paired(first[0], second[0], side, MODE, head) if len(first) == len(second) == 1 else None
        rows.append([a, b, comparison.probability_of_improvement(*scores), paired and paired.difference])
    columns = [
        ("A", "text"),
        ("B", "text"),
        ("B better than A, probability", "percent"),
        ("B minus A, goal by goal", _KINDS[head][1]),
    ]
    if all(row[-1] is None for row in rows):
        rows, columns = [row[:-1] for row in rows], columns[:-1]
    caption = (
        f"In pairs: {head} after adapting; the probability is over seeds and tasks, the difference over goals of 1 seed each"
    )
    return [Table("pairs", caption, columns, rows)] if rows else []


def _run_table(sections: Sequence[Section], contents: list[dict[str, Any]], side: str) -> Table:
    head = _head(contents)
    kind, change = _KINDS[head]
    columns = [
        ("run", "text"),
        ("agent", "text"),
        ("seed", "text"),
        ("steps", "text"),
        (f"{head} before", kind),
        (f"{head} after", kind),
        ("gain", change),
    ]
    columns += [("return after", "number")] if head == "success" else []
    rows = []
    for section, content in zip(sections, contents):
        by, gain = (content["sides"][side][key][MODE] for key in ("by_episode", "gain"))
        rows.append(
            [
                section.run.name,
                section.run.agent,
                str(content["run_seed"]),
                f"{content['step']:,}",
                by[head][0],
                by[head][-1],
                gain[head],
                *([by["return"][-1]] if head == "success" else []),
            ]
        )
    return Table("runs", "Run by run; 95 % intervals over goals", columns, rows, [f"#{section.anchor}" for section in sections])


def _curves(groups: Groups, side: str) -> list[Picture]:
    """Success against experience, a line for each group; returns where the environments tell no success."""
    head = _head_of(groups)
    title = {"success": "Success at any step", "return": "Return of an episode"}[head]
    curves = {
        label: np.array([_mean(some, side, head, e) for e in range(min(c["episodes"] for c in some))], dtype=float)
        for label, some in groups.items()
    }

    def draw(figure: Figure) -> None:
        axis = one_axis(figure, title, "episodes of experience with the goal")
        for (label, color, style), curve in zip(colored(list(curves)), curves.values()):
            mean, low, high = curve.T
            axis.plot(range(len(mean)), mean, style, marker="o", color=color, lw=1.8, ms=3.5, label=legend(label))
            axis.fill_between(range(len(mean)), low, high, color=color, alpha=0.14, lw=0)
        axis.xaxis.get_major_locator().set_params(integer=True)
        figures.limits(axis, head)
        axis.legend(loc="best")

    alt = "Adaptation curves. " + " ".join(
        f"{label}: {_SHOWN[head](tuple(curve[0, :1]) + (None, None))} at first, "
        f"{_SHOWN[head](tuple(curve[-1, :1]) + (None, None))} in the last episode."
        for label, curve in curves.items()
    )
    caption = f"Adaptation on {SIDES.get(side, side)}; bands: 95 % intervals over seeds, where there are several"
    return [picture("adaptation", caption, alt, draw)]


def _profiles(groups: Groups, side: str) -> list[Picture]:
    """Performance profiles, where there are several tasks: the share of runs and tasks above each success rate."""
    if _head_of(groups) != "success":
        return []
    scores = {label: comparison.scores(some, side, MODE, "success") for label, some in groups.items()}
    if all(array.shape[1] == 1 for array in scores.values()):
        return []
    thresholds = np.linspace(0, 1, 51)
    profiles = {label: np.array(comparison.performance_profile(array, thresholds), float) for label, array in scores.items()}

    def draw(figure: Figure) -> None:
        axis = one_axis(figure, "Share of runs and tasks above", "success after adapting")
        for (label, color, style), profile in zip(colored(list(profiles)), profiles.values()):
            axis.step(thresholds, profile[:, 0], style, where="post", color=color, lw=1.8, label=legend(label))
            axis.fill_between(thresholds, profile[:, 1], profile[:, 2], step="post", color=color, alpha=0.14, lw=0)
        figures.limits(axis, "success")
        axis.legend(loc="best")

    alt = "Performance profiles. " + " ".join(
        f"{label}: {100 * profile[25, 0]:.0f} % of runs and tasks above 50 % success." for label, profile in profiles.items()
    )
    return [picture("profiles", "Performance profiles (Agarwal et al. 2021), with 95 % bands", alt, draw)]


def _learning(sections: Sequence[Section], contents: list[dict[str, Any]], groups: Groups) -> list[Picture]:
    """Each run's last episode over training, coloured by group."""
    looks = {id(content): look for look, some in zip(colored(list(groups)), groups.values()) for content in some}
    head = _head(contents)
    key = f"{head}_last_episode"
    lines = [(looks[id(content)], figures.series(s.run.lines, key)) for s, content in zip(sections, contents)]
    if not any(xy.size for _, xy in lines):
        return []

    def draw(figure: Figure) -> None:
        axis = one_axis(figure, f"{head.capitalize()} of the last episode", "environment steps")
        named: set[str] = set()
        for (label, color, style), (x, y) in lines:
            axis.plot(x, y, style, color=color, lw=1.2, alpha=0.8, label=None if label in named else legend(label))
            named.add(label)
        figures.count_steps(axis)
        figures.limits(axis, head)
        axis.legend(loc="best")

    return [
        picture(
            "learning",
            "Learning, on train goals while exploring; a line for each run",
            f"Learning curves of {plural(len(lines), 'run')}.",
            draw,
        )
    ]
