"""Compares runs of few-shot learners: a plot and tables, grouped by agent."""

from collections.abc import Sequence
from functools import partial

from metarl.agents import FEW_SHOT
from metarl.evaluation.comparison import ByEpisode, unlike
from metarl.evaluation.measures import ACCURACY, headline
from metarl.reports.fewshot.sentences import experience, side_name
from metarl.reports.grouped import Column, Grouped, different_sides, evaluations, sentence
from metarl.reports.sections import Comparison, Section
from metarl.reports.sentences import main_side
from metarl.reports.tables import Table


def reasons(sections: Sequence[Section]) -> list[str]:
    """Reasons why these runs cannot be compared; [] if they can."""
    contents = evaluations(sections, FEW_SHOT)
    problems = [sentence(problem) for problem in unlike(contents)]
    return problems or different_sides(contents, [side_name(content, main_side(content)) for content in contents])


def compared(sections: Sequence[Section], title: str) -> Comparison:
    """Make the comparison of these runs."""
    contents = evaluations(sections, FEW_SHOT)
    first, side = contents[0], main_side(contents[0])
    most = min(content["shots"] for content in contents)
    runs = Grouped(sections, contents, ByEpisode(side), last=most)
    measure, where = runs.measure, side_name(first, side)
    said = runs.sentences(f"with {experience(first, most)}", "without")
    if any(len(group) == 1 for group in runs.groups.values()):
        said.append("With 1 run the interval is over its episodes: another seed may well give another result.")
    classified = headline(first) == ACCURACY
    curves = runs.curves(
        "shots",
        "examples of each class" if classified else "points of the curve",
        f"{measure.title} on {where}. Bands: 95 % intervals over seeds; for a single run, over its episodes",
        lambda content: content["shots"] + 1,
        lambda rows: f"{measure.show(rows[0])} without any, {measure.show(rows[-1])} with {len(rows) - 1}.",
        1 / first["ways"] if classified else None,
    )
    ways = f", {first['ways']} ways" if classified else ""
    probability = "the probability that a run of B is better than one of A, over runs"
    pairs = f"Pairs by {measure.name}: {probability}; the difference over the same episodes, if A and B have 1 run each"
    tables = [_groups(runs), *runs.pair_table(pairs, least=3), _runs(runs)]
    return Comparison(f"{title}: {where} of {first['suite']}{ways}", said, (), [curves], tables)


def _groups(runs: Grouped) -> Table:
    measure, most, first = runs.measure, runs.last, runs.contents[0]
    counts = runs.how.points(runs.contents).values()
    columns: list[Column] = [(experience(first, k), measure.level, partial(runs.level, at=k)) for k in counts]
    if all("train" in content["sides"] for content in runs.contents):
        trained = ByEpisode("train")
        name = f"{side_name(first, 'train')}, {experience(first, most)}"
        columns.append((name, measure.level, lambda group: trained.level(group, measure, most)))
    intervals = "95 % bootstrap intervals over seeds (for a single run, over its episodes)"
    return runs.group_table(f"{measure.title} of runs that differ only in the seed, with {intervals}", columns)


def _runs(runs: Grouped) -> Table:
    level, side = runs.measure.level, runs.how.side
    columns = [
        ("shots", "text", lambda content: str(content["shots"])),
        ("before", level, lambda content: content["sides"][side]["by_shots"][0]),
        ("after", level, lambda content: content["sides"][side]["by_shots"][-1]),
    ]
    return runs.run_table("updates", columns)
