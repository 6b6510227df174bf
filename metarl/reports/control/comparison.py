"""Compares runs of acting agents: adaptation curves, profiles over tasks, learning curves and tables, grouped by agent."""

from collections.abc import Sequence
from functools import partial

from matplotlib.figure import Figure

from metarl.agents import CONTROL
from metarl.evaluation.aggregates import aggregate
from metarl.evaluation.comparison import ByGoal
from metarl.evaluation.measures import LAST_SUCCESS, RETURN, SUCCESS
from metarl.evaluation.plots import profile
from metarl.evaluation.vocabulary import MODE, SIDES
from metarl.reports.curves import count_steps, limits, series
from metarl.reports.drawing import Picture, colored, legend_below, one_axis, picture
from metarl.reports.grouped import Column, Grouped, different_sides, evaluations, sentence
from metarl.reports.sections import Comparison, Section
from metarl.reports.sentences import main_side
from metarl.reports.tables import Table
from metarl.system.counts import plural
from metarl.system.printable import legend


def reasons(sections: Sequence[Section]) -> list[str]:
    """Reasons why these runs cannot be compared; [] if they can."""
    contents = evaluations(sections, CONTROL)
    sides = [main_side(content) for content in contents]
    sides_differ = different_sides(contents, [SIDES[side] for side in sides])
    return sides_differ or [sentence(problem) for problem in ByGoal(sides[0]).problems(contents)]


def compared(sections: Sequence[Section], title: str) -> Comparison:
    """Make the comparison of these runs."""
    contents = evaluations(sections, CONTROL)
    runs = Grouped(sections, contents, ByGoal(main_side(contents[0])))
    where = SIDES[runs.how.side]
    said = runs.sentences("after adapting", "before")
    if any(len({content["run_seed"] for content in group}) == 1 for group in runs.groups.values()):
        said.append("With 1 seed there is no interval over seeds: another seed may well give another result.")
    show = runs.measure.alone
    curves = runs.curves(
        "adaptation",
        "episodes of experience with the goal",
        f"Adaptation on {where}; bands: 95 % intervals over seeds, if there are several",
        lambda content: content["episodes"],
        lambda rows: f"{show(rows[0][0])} at first, {show(rows[-1][0])} in the last episode.",
    )
    return Comparison(
        f"{title}: {where} of {contents[0]['suite']}",
        said,
        (),
        [curves, *_profiles(runs), *_learning(runs)],
        [_groups(runs), *_pairs(runs), _runs(runs)],
    )


def _groups(runs: Grouped) -> Table:
    head = runs.measure
    columns: list[Column] = [
        (f"{head.name} before", head.level, lambda group: runs.level(group, 0)),
        (f"{head.name} after", head.level, lambda group: runs.level(group, -1)),
        ("interquartile mean after", head.level, lambda group: aggregate(runs.how.scores(group, head))["iqm"]),
        ("median of tasks after", head.level, lambda group: aggregate(runs.how.scores(group, head))["median"]),
    ]
    more = [("success at the last step after", LAST_SUCCESS), ("return after", RETURN)] if head == SUCCESS else []
    columns += [(name, measure.level, partial(runs.how.level, measure=measure)) for name, measure in more]
    caption = "Before and after adaptation: runs that differ only in the seed, with 95 % bootstrap intervals over seeds"
    return runs.group_table(caption, columns)


def _pairs(runs: Grouped) -> list[Table]:
    probability = "the probability that a run of B is better than one of A, over seeds and tasks"
    difference = "the difference over goals, if A and B have 1 seed each"
    return runs.pair_table(f"Pairs by {runs.measure.name} after adaptation: {probability}; {difference}", least=2)


def _runs(runs: Grouped) -> Table:
    head, side = runs.measure, runs.how.side
    columns = [
        (f"{head.name} before", head.level, lambda content: content["sides"][side]["by_episode"][MODE][head.key][0]),
        (f"{head.name} after", head.level, lambda content: content["sides"][side]["by_episode"][MODE][head.key][-1]),
        ("gain", head.change, lambda content: content["sides"][side]["gain"][MODE][head.key]),
    ]
    if head == SUCCESS:
        returned = RETURN.key
        columns.append(("return after", RETURN.level, lambda c: c["sides"][side]["by_episode"][MODE][returned][-1]))
    return runs.run_table("steps", columns)


def _profiles(runs: Grouped) -> list[Picture]:
    """Draw performance profiles (the share of runs and tasks above each success rate), if there are several tasks."""
    if runs.measure != SUCCESS:
        return []
    scores = {label: runs.how.scores(group, SUCCESS) for label, group in runs.groups.items()}
    if all(array.shape[1] == 1 for array in scores.values()):
        return []

    def draw(figure: Figure) -> None:
        axis = one_axis(figure, "Share of runs and tasks above", "success after adapting")
        for (label, color, style), array in zip(colored(list(scores)), scores.values()):
            profile(axis, array, legend(label), color, style)
        limits(axis, SUCCESS)
        legend_below(figure, axis)

    alt = "Performance profiles. " + " ".join(
        f"{label}: {100 * (array > 0.5).mean():.0f} % of runs and tasks above 50 % success." for label, array in scores.items()
    )
    return [picture("profiles", "Performance profiles (Agarwal et al. 2021), with 95 % intervals over runs", alt, draw)]


def _learning(runs: Grouped) -> list[Picture]:
    """Draw the last episode of each run over training, coloured by group."""
    looks = {id(content): look for look, group in zip(colored(list(runs.groups)), runs.groups.values()) for content in group}
    head = runs.measure
    key = f"{head.key}_last_episode"
    lines = [(looks[id(c)], series(section.run.lines, key)) for section, c in zip(runs.sections, runs.contents)]
    if not any(xy.size for _, xy in lines):
        return []

    def draw(figure: Figure) -> None:
        axis = one_axis(figure, f"{head.name.capitalize()} of the last episode", "environment steps")
        named: set[str] = set()
        for (label, color, style), (x, y) in lines:
            axis.plot(x, y, style, color=color, lw=1.2, alpha=0.8, label=None if label in named else legend(label))
            named.add(label)
        count_steps(axis)
        limits(axis, head)
        legend_below(figure, axis)

    caption = f"{head.name.capitalize()} during training, on train goals with sampled actions; one line per run"
    return [picture("learning", caption, f"Learning curves of {plural(len(lines), 'run')}.", draw)]
