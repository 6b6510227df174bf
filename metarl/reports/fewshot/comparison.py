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
    found = [sentence(problem) for problem in unlike(contents)]
    return found or different_sides(contents, [side_name(content, main_side(content)) for content in contents])


def compared(sections: Sequence[Section], title: str) -> Comparison:
    """Make the comparison of these runs."""
    contents = evaluations(sections, FEW_SHOT)
    one, side = contents[0], main_side(contents[0])
    most = min(content["shots"] for content in contents)
    runs = Grouped(sections, contents, ByEpisode(side), last=most)
    measure, where = runs.measure, side_name(one, side)
    said = runs.sentences(f"with {experience(one, most)}", "without")
    if any(len(some) == 1 for some in runs.groups.values()):
        said.append("With 1 run the interval is over its episodes: another seed may well give another result.")
    classified = headline(one) == ACCURACY
    curves = runs.curves(
        "shots",
        "examples of each class" if classified else "points of the curve",
        f"{measure.title} on {where}. Bands: 95 % intervals over seeds, of 1 run over its episodes",
        lambda content: content["shots"] + 1,
        lambda rows: f"{measure.show(rows[0])} without any, {measure.show(rows[-1])} with {len(rows) - 1}.",
        1 / one["ways"] if classified else None,
    )
    ways = f", {one['ways']} ways" if classified else ""
    pairs = "In pairs: the probability is over runs, the difference over the same episodes of 1 run each"
    tables = [_groups(runs), *runs.pair_table(pairs, least=3), _runs(runs)]
    return Comparison(f"{title}: {where} of {one['suite']}{ways}", said, (), [curves], tables)


def _groups(runs: Grouped) -> Table:
    measure, most, one = runs.measure, runs.last, runs.contents[0]
    counts = runs.how.points(runs.contents).values()
    columns: list[Column] = [(experience(one, k), measure.level, partial(runs.level, at=k)) for k in counts]
    if all("train" in content["sides"] for content in runs.contents):
        trained = ByEpisode("train")
        name = f"{side_name(one, 'train')}, {experience(one, most)}"
        columns.append((name, measure.level, lambda some: trained.level(some, measure, most)))
    over = "Seeds together; 95 % intervals over seeds by bootstrap, of 1 run over its episodes"
    return runs.group_table(f"{measure.title}. {over}", columns)


def _runs(runs: Grouped) -> Table:
    level, side = runs.measure.level, runs.how.side
    columns = [
        ("shots", "text", lambda content: str(content["shots"])),
        ("before", level, lambda content: content["sides"][side]["by_shots"][0]),
        ("after", level, lambda content: content["sides"][side]["by_shots"][-1]),
    ]
    return runs.run_table("updates", columns)
