"""Builds the report section of a run of a few-shot learner."""

from typing import Any

from metarl.evaluation.fewshot_schema import FewShotEvaluation
from metarl.evaluation.measures import headline
from metarl.evaluation.shown import extent
from metarl.reports.fewshot import figures
from metarl.reports.fewshot.sentences import facts, sentences, side_name, tiles, warnings
from metarl.reports.provenance import details, status
from metarl.reports.reading import Reading
from metarl.reports.sections import Part, Section
from metarl.reports.sentences import looks, main_side
from metarl.reports.tables import Table
from metarl.system.counts import plural

_PROTOCOL = ("protocol", "checkpoint", "suite", "split", "ways", "shots", "queries", "episodes", "seed", "device", "git_commit")
_TEXTS = 3
"""Queries shown per class if the examples are texts."""


def section(anchor: str, run: Reading) -> Section:
    """Make the section of a run; without an evaluation it has fewer parts."""
    content: FewShotEvaluation | None = run.evaluation
    parts = _parts(content) if content else []
    learned = figures.learning(run)
    return Section(
        anchor,
        run,
        status(run),
        tiles(content) if content else (),
        [*(sentences(content) if content else ()), *looks(run, "classes", "update")],
        warnings(run),
        [*parts, *([Part("Learning curves", learned)] if learned else [])],
        _results(run),
        details(run, _PROTOCOL),
    )


def _parts(content: FewShotEvaluation) -> list[Part]:
    side = main_side(content)
    results = content["sides"][side]
    steps, answers, examples = results.get("by_steps"), results.get("answers"), results.get("examples")
    adaptation = [figures.by_shots(content), *([figures.by_steps(content, steps, side)] if steps else [])]
    parts = [Part("Adaptation curves", adaptation)]
    if answers:
        parts.append(_confusion(answers))
    if examples and content["measure"] == "mse":
        curves = [figures.curves(i, example, headline(content)) for i, example in enumerate(examples, 1)]
        each = "each gradient step" if steps else "adapting"
        note = f"The first {plural(len(examples), 'task')} of the evaluation; none was selected."
        parts.append(Part(f"Example tasks before and after {each}", curves, note=note))
    elif examples:
        parts.append(_examples(examples))
    return parts


def _confusion(answers: dict[str, Any]) -> Part:
    what = answers["class"]
    wrong = answers["asked"] - answers["right"]
    note = (
        f"{plural(answers['asked'], 'query')} of {plural(answers['classes'], what)} answered, {wrong:,} of them wrong, in "
        f"{plural(answers['confused'], 'pair')} of one {what} taken for another. "
        "The pairs named here are the extremes of many: in new episodes they would be less extreme."
    )
    if not wrong:
        note = f"All of {plural(answers['asked'], 'query')} of {plural(answers['classes'], what)} were answered right."
    drawn = figures.matrix(answers) if wrong else []
    if answers["by_group"]:
        title = "Accuracy by group (the name before /)"
        drawn.append(figures.hardest("hardest_groups", title, answers["by_group"], answers["matrix"]["all"]))
    else:
        drawn.append(figures.hardest("hardest", f"Accuracy by {what}", answers["by_class"], answers["classes"]))
    columns = [(f"true {what}", "text"), ("taken for", "text"), ("times", "text"), ("queries with both as choices", "text")]
    rows = [[a, b, str(times), str(together)] for a, b, times, together in answers["confusions"]]
    tables = []
    if rows:
        caption = f"The {len(rows)} most frequent confusions, and how many queries had both among the choices"
        tables.append(Table("confusions", caption, columns, rows, folded=len(rows) > 12))
    drawn += figures.pairs(answers)
    return Part("Confused classes", drawn, tables, note)


def _examples(examples: list[dict[str, Any]]) -> Part:
    note = (
        f"The first {plural(len(examples), 'episode')} of the evaluation and the first examples and queries of each class; "
        "none was selected. Classes are numbered within their episode."
    )
    if isinstance(examples[0]["items"], dict):
        return Part("Example episodes", [figures.episode(i, example) for i, example in enumerate(examples, 1)], note=note)
    tables = [table for i, example in enumerate(examples, 1) for table in _texts(i, example)]
    return Part("Example episodes", tables=tables, note=note)


def _texts(number: int, example: dict[str, Any]) -> list[Table]:
    """Tables of an episode of texts: its support, and the answers to some queries."""
    items, names = example["items"], example["classes"]
    support = [[names[i], " · ".join(items[j] for j in of_class)] for i, of_class in enumerate(example["support"])]
    answered = [
        [items[item], names[i], f"{'✓' if best == i else '✗'} {names[best]}", f"{100 * chance:.0f} %"]
        for i, of_class in enumerate(example["query"])
        for item, best, chance, _ in of_class[:_TEXTS]
    ]
    columns = [("query", "text"), ("true class", "text"), ("answer", "text"), ("probability of the answer", "text")]
    caption = f"Episode {number}: {example['right']} of {plural(example['asked'], 'query')} right"
    return [
        Table(
            f"episode_{number}_support",
            f"Episode {number}: support, the examples that it learned from",
            [("class", "text"), ("support", "text")],
            support,
            folded=number > 1,
        ),
        Table(f"episode_{number}", caption, columns, answered, folded=number > 1),
    ]


def _results(run: Reading) -> list[Table]:
    """Tables of the evaluation by shots, by steps and by class, and of other evaluations."""
    content: FewShotEvaluation | None = run.evaluation
    tables: list[Table] = []
    if content:
        measure, side = headline(content), main_side(content)
        first = "examples of each class" if content["measure"] == "accuracy" else "points"
        columns = [(first, "text"), *((side_name(content, name), measure.level) for name in content["sides"])]
        rows = [[str(k), *(part["by_shots"][k] for part in content["sides"].values())] for k in range(content["shots"] + 1)]
        if {"train", "test"} <= content["sides"].keys():
            main = facts(content)
            columns.append(("train minus held-out", measure.change))
            rows = [[*row, main.gap(k)] for k, row in enumerate(rows)]
        caption = f"{measure.title} by number of examples, 95 % intervals over {plural(content['episodes'], 'episode')}"
        tables.append(Table("by_shots", caption, columns, rows))
        steps = content["sides"][side].get("by_steps")
        if steps:
            columns = [
                ("gradient steps", "text"),
                (measure.name, measure.level),
                (f"difference from {steps['taken']}, which it takes", measure.change),
            ]
            rows = [[str(n), a, b] for n, a, b in zip(steps["steps"], steps["measured"], steps["difference"])]
            caption = f"{measure.title} by number of gradient steps, {side_name(content, side)}; differences paired by episode"
            tables.append(Table("by_steps", caption, columns, rows))
        answers = content["sides"][side].get("answers")
        for name, what in (("by_group", "group"), ("by_class", answers["class"])) if answers else ():
            columns = [(what, "text"), ("accuracy", "share"), ("times", "text")]
            cells = [[row[0], row[1:4], str(row[4])] for row in answers[name]] if answers else []
            if cells:
                caption = (
                    f"Accuracy {name.replace('_', ' ')}, the {len(cells)} hardest, and how many times each was in an episode"
                )
                tables.append(Table(name, caption, columns, cells, folded=True))
    if run.others:
        tables.append(_others(run.others))
    return tables


def _others(contents: list[FewShotEvaluation]) -> Table:
    columns = [
        ("checkpoint", "text"),
        ("data set", "text"),
        ("extent", "text"),
        ("evaluated on", "text"),
        ("before", "text"),
        ("after", "text"),
    ]
    rows = []
    for content in contents:
        side, measure = main_side(content), headline(content)
        curve = content["sides"][side]["by_shots"]
        rows.append(
            [
                content["checkpoint"],
                content["suite"],
                extent(content),
                side_name(content, side),
                measure.show(curve[0]),
                measure.show(curve[-1]),
            ]
        )
    return Table("others", "Other evaluations of this run", columns, rows, folded=True)
