"""Builds the report section of a run of an acting agent."""

from typing import Any

from metarl.evaluation.control_schema import ControlEvaluation, Statistics, UpstreamEvaluation
from metarl.evaluation.formatting import percent
from metarl.evaluation.measures import LAST_SUCCESS, RETURN, SUCCESS, headline, measured
from metarl.evaluation.shown import extent
from metarl.evaluation.vocabulary import MODE, SIDES
from metarl.evaluation.wording import comparable, rules_of, upstream_sentence
from metarl.reports.control import figures
from metarl.reports.control.sentences import facts, sentences, tiles, warnings
from metarl.reports.provenance import details, status
from metarl.reports.reading import Reading
from metarl.reports.sections import Beside, Part, Section
from metarl.reports.sentences import looks, main_side
from metarl.reports.tables import Table

_PROTOCOL = (
    "protocol",
    "checkpoint",
    "trials",
    "episodes",
    "adapt_every",
    "max_episode_steps",
    "reward",
    "terminate_on_success",
    "engine",
    "device",
    "seed",
    "suite",
    "suite_seed",
    "git_commit",
)


def section(anchor: str, run: Reading) -> Section:
    """Make the section of a run; without an evaluation it has fewer parts."""
    content: ControlEvaluation | None = run.evaluation
    pictures = {"Learning curves": figures.learning(run), "Learning curves by task": figures.learning_by_task(run)}
    beside: list[Beside] = []
    if content:
        side = main_side(content)
        pictures = {
            "Adaptation curves": figures.adaptation(content),
            "Success by task": [bars for each in content["sides"] for bars in figures.by_task(content, each)],
            "Maps of the goals": figures.goal_map(content, side),
            **pictures,
        }
        beside = [_beside(upstream, content) for upstream in run.upstream if upstream["checkpoint"] == content["checkpoint"]]
        beside = beside if "test" in content["sides"] and headline(content) == SUCCESS else []
    return Section(
        anchor,
        run,
        status(run),
        tiles(content) if content else (),
        [*(sentences(content) if content else ()), *looks(run, "goals", "step")],
        warnings(run),
        [Part(title, drawn) for title, drawn in pictures.items() if drawn],
        _results(run),
        details(run, _PROTOCOL),
        beside,
    )


def _beside(upstream: UpstreamEvaluation, content: ControlEvaluation) -> Beside:
    _, ours = comparable(content)
    theirs = upstream["sides"]["test"]["success"]
    sentence = upstream_sentence(upstream, content)
    return Beside(percent(theirs), percent(ours[0]), upstream["engine"], rules_of(upstream), sentence)


def _results(run: Reading) -> list[Table]:
    """Tables of the evaluation by side, by task and by episode, and of other evaluations."""
    content: ControlEvaluation | None = run.evaluation
    tables: list[Table] = []
    if content:
        columns = [("goals", "text"), *_columns(content)]
        rows = [[SIDES.get(s, s), *_row(figures)] for s, figures in content["sides"].items()]
        if {"train", "test"} <= content["sides"].keys():
            gap = [facts(content, measure).gap() for measure in measured(content)]
            columns_of_gap = [(measure.label, measure.change) for measure in measured(content)]
            caption = "Generalisation gap: train minus held-out goals, last episode, 95 % intervals"
            tables.append(Table("gap", caption, columns_of_gap, [gap]))
        caption = "Before and after adaptation: first and last episode of a trial, sampled actions, 95 % intervals over goals"
        tables.insert(0, Table("summary", caption, columns, rows))
        tasks = [
            [name, SIDES.get(s, s), *_row(figures)]
            for s, side in content["sides"].items()
            for name, figures in side["by_task"].items()
        ]
        if tasks:
            caption = "Before and after adaptation, by task"
            tables.append(Table("tasks", caption, [("task", "text"), *columns], tasks, folded=len(tasks) > 12))
        tables.append(_episodes(content))
    head = headline(content) if content else SUCCESS
    others = [
        [
            c["protocol"],
            c["checkpoint"],
            c["suite"],
            str(c["suite_seed"]),
            extent(c),
            *[c["sides"][main_side(c)]["by_episode"][MODE][head.key][e] for e in (0, -1)],
        ]
        for c in run.others
        if head.key in [measure.key for measure in measured(c)]
    ]
    if others:
        columns = [
            ("protocol", "text"),
            ("checkpoint", "text"),
            ("suite", "text"),
            ("suite seed", "text"),
            ("extent", "text"),
            (f"{head.name} before", head.level),
            (f"{head.name} after", head.level),
        ]
        tables.append(Table("others", "Other evaluations of this run", columns, others, folded=True))
    return tables


def _columns(content: ControlEvaluation) -> list[tuple[str, str]]:
    """The columns that `_row` fills."""
    head = headline(content)
    more = [("success at the last step after", LAST_SUCCESS.level), ("return after", RETURN.level)] if head == SUCCESS else []
    return [(f"{head.name} before", head.level), (f"{head.name} after", head.level), ("gain", head.change), *more]


def _row(figures: Statistics) -> list[Any]:
    by, gain = figures["by_episode"][MODE], figures["gain"][MODE]
    if "success" not in by:
        return [by["return"][0], by["return"][-1], gain["return"]]
    return [by["success"][0], by["success"][-1], gain["success"], by["last_success"][-1], by["return"][-1]]


def _episodes(content: ControlEvaluation) -> Table:
    levels = [(measure.label, measure.level) for measure in measured(content)]
    columns = [("goals", "text"), ("actions", "text"), ("episode", "text"), *levels]
    rows = [
        [SIDES.get(side, side), mode, str(e + 1), *(measures[measure.key][e] for measure in measured(content))]
        for side, figures in content["sides"].items()
        for mode, measures in figures["by_episode"].items()
        for e in range(content["episodes"])
    ]
    return Table("episodes", "Results by episode of the trial", columns, rows, folded=True)
