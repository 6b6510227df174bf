"""Draws the figures of one run of an acting agent: learning, adaptation, success by task and maps of goals."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from metarl.agents import adaptation_step
from metarl.evaluation.control_schema import ControlEvaluation, Side
from metarl.evaluation.formatting import number_of, percent_of
from metarl.evaluation.measures import RETURN, SUCCESS, Measure, headline, measured
from metarl.evaluation.plots import band
from metarl.evaluation.vocabulary import COLORS, MODE, SIDES
from metarl.reports import curves
from metarl.reports.control.sentences import facts, goals
from metarl.reports.drawing import BEFORE, FAINT, Picture, legend_below, one_axis, picture
from metarl.reports.reading import Reading, printable
from metarl.reports.sentences import main_side
from metarl.system.counts import plural
from metarl.system.printable import short

_MEASURES = (SUCCESS, RETURN)
_MOST_MAPS, _MOST_TASKS, _COLUMNS = 12, 60, 3
"""The most maps and the most tasks in one figure, and how many tasks are side by side."""
_FEW_POINTS = 60
"""The most points of a small learning curve; more would show noise."""


def learning(run: Reading) -> list[Picture]:
    """Draw success and return over training: first and last episode of the trials, and evaluations during training."""
    drawn = []
    for measure in _MEASURES:
        kinds = [
            (f"{measure.key}_first_episode", ("first episode of a trial", BEFORE, "-")),
            (f"{measure.key}_last_episode", ("last episode, after adapting", COLORS["test"], "-")),
            (f"validation_{measure.key}", ("validation goals", COLORS["validation"], "o")),
            (f"test_{measure.key}", ("TEST goals", COLORS["blind"], "s")),
        ]
        lines = [(line, xy) for key, line in kinds if (xy := curves.series(run.lines, key)).size]
        if not lines:
            xy = curves.series(run.lines, measure.key)
            lines = [(("all episodes", COLORS["test"], "-"), xy)] if xy.size else []
        if lines:
            caption = f"{measure.title} during training, on train goals with sampled actions"
            length = f"{run.lines[-1]['step']:,.0f} steps of training"
            name = f"learning_{measure.key}"
            drawn.append(
                curves.learning(name, measure.title, lines, "environment steps", measure.alone, length, caption, measure)
            )
    return drawn


def learning_by_task(run: Reading) -> list[Picture]:
    """Draw success over training for each task, or the return if success is not reported; [] if neither is known by task."""
    keys = {key for line in run.lines for key in line if key.startswith("task/")}
    for measure in _MEASURES:
        end = f"/{measure.key}"
        names = [key.removeprefix("task/").removesuffix(end) for key in keys if key.endswith(end)]
        if names:
            return [_small_multiples(run, measure, names)]
    return []


def _small_multiples(run: Reading, measure: Measure, names: Sequence[str]) -> Picture:
    tasks = [
        (printable(name.removesuffix("-v3")), curves.series(run.lines, f"task/{name}/{measure.key}", _FEW_POINTS))
        for name in sorted(names, key=lambda name: name.removesuffix("-v3"))[:_MOST_TASKS]
    ]
    rows = -(-len(tasks) // _COLUMNS)
    height = 0.9 + 0.86 * rows

    def draw(figure: Figure) -> None:
        grid = figure.subplots(rows, _COLUMNS, squeeze=False, sharex=True, sharey=True)
        figure.subplots_adjust(0.12, 0.46 / height, 0.96, 1 - 0.52 / height, 0.14, 0.5)
        figure.suptitle(f"{measure.title} by task", x=0.02, y=1 - 0.08 / height, ha="left", va="top", size=10, weight="bold")
        figure.supxlabel("environment steps", x=0.54, y=0.06 / height, va="bottom", size=8.5)
        for i, axis in enumerate(grid.flat):
            axis.tick_params(labelsize=7.5, length=2, labelbottom=i + _COLUMNS >= len(tasks))
            axis.axis(i < len(tasks))
        for axis, (name, (steps, values)) in zip(grid.flat, tasks):
            axis.plot(steps, values, "-" if len(steps) > 1 else "o", color=COLORS["test"], lw=1.3, ms=3)
            axis.set_title(short(name, 25), size=7.5 if len(name) < 23 else 6.5, weight="normal", pad=3)
        curves.limits(axis, measure, small=True)
        curves.count_steps(axis, 3)
        axis.set_xlim(0)

    more = f"; the first {_MOST_TASKS} of {len(names)} tasks" if len(names) > _MOST_TASKS else ""
    caption = f"{measure.title} during training by task, all episodes, on train goals with sampled actions{more}"
    ends = "; ".join(f"{name}: from {measure.alone(values[0])} to {measure.alone(values[-1])}" for name, (_, values) in tasks)
    alt = f"Learning curves by task, {measure.title.lower()} over {run.lines[-1]['step']:,.0f} steps of training. {ends}."
    return picture("learning_tasks", caption, alt, draw, (4.7, height))


def adaptation(content: ControlEvaluation) -> list[Picture]:
    """Draw success and return against experience, for each side."""
    drawn = []
    for measure in _MEASURES:
        if measure.key not in [other.key for other in measured(content)]:
            continue

        def draw(figure: Figure, measure: Measure = measure) -> None:
            axis = one_axis(figure, measure.title, "episodes of experience with the goal")
            for side, figures in content["sides"].items():
                for mode, measures in figures["by_episode"].items():
                    if mode != MODE and side != main_side(content):
                        continue  # deterministic actions of one side are enough
                    rows, color = measures[measure.key], COLORS[side]
                    if mode == MODE:
                        band(axis, rows, SIDES[side], color)
                    else:
                        label = f"{SIDES[side]}, {mode}"
                        axis.plot([row[0] for row in rows], "--", color=color, lw=1.8, label=label)
            blind = content["sides"][main_side(content)].get("goal_blind")
            if blind:
                value = blind["by_episode"][MODE][measure.key][0][0]
                axis.axhline(value, color=COLORS["blind"], lw=1.4, ls=":", label="blind to the goal")
            for k in range(content["adapt_every"] or content["episodes"], content["episodes"], content["adapt_every"] or 1):
                axis.axvline(k - 0.5, color=FAINT, lw=1)
            curves.whole_steps(axis)
            curves.limits(axis, measure)
            legend_below(figure, axis)

        alt = f"Adaptation curve, {measure.title.lower()}. " + " ".join(
            f"{SIDES[side].capitalize()}: {measure.show(rows[0])} at first, {measure.show(rows[-1])} in the last episode."
            for side, rows in facts(content, measure).curves.items()
        )
        others = any(mode != MODE for mode in content["sides"][main_side(content)]["by_episode"])
        dashed = "; dashed: deterministic actions" if others else ""
        steps = f"; vertical lines: {adaptation_step(content['agent'])}s" if content["adapt_every"] else ""
        caption = f"{measure.title} by episodes of experience, sampled actions, with 95 % intervals over goals{dashed}{steps}"
        drawn.append(picture(f"adaptation_{measure.key}", caption, alt, draw))
    return drawn


def by_task(content: ControlEvaluation, side: str) -> list[Picture]:
    """Draw bars of success per task before and after adapting; [] for a single task or if success is not reported."""
    tasks = content["sides"][side]["by_task"]
    if not tasks or headline(content) != SUCCESS:
        return []
    rows = {name: np.array(figures["by_episode"][MODE]["success"], dtype=float) for name, figures in tasks.items()}
    labels = [name.removesuffix("-v3") for name in rows]
    height, left = 1.1 + 0.34 * len(rows), 0.06 + 0.0145 * max(map(len, labels))

    def draw(figure: Figure) -> None:
        axis = figure.add_axes((left, 0.42 / height, 0.94 - left, 1 - 0.95 / height))
        axis.set_title(f"Success by task, {SIDES[side]}", x=(0.02 - left) / (0.94 - left), y=1.0, pad=18)
        parts = [
            (-0.17, [row[0] for row in rows.values()], BEFORE, "first episode"),
            (0.17, [row[-1] for row in rows.values()], COLORS["test"], "last episode"),
        ]
        curves.bars(axis, labels, parts[: min(2, content["episodes"])], 0.3)
        axis.legend(loc="lower right", bbox_to_anchor=(1.02, 1), ncols=2, borderaxespad=0.2)

    alt = f"Success by task on {goals(content, side)}, first and last episode: " + "; ".join(
        f"{name} {percent_of(tuple(row[0]))} then {percent_of(tuple(row[-1]))}" for name, row in rows.items()
    )
    return [
        picture(
            f"tasks_{side}",
            f"Success at any step by task, on {SIDES[side]}, with 95 % intervals over goals",
            alt,
            draw,
            (4.7, height),
        )
    ]


_STATES = (
    ("solved before and after", "o", COLORS["validation"]),
    ("solved only after adapting", "D", COLORS["test"]),
    ("solved only before", "X", COLORS["blind"]),
    ("not solved", "o", FAINT),
)


def goal_map(content: ControlEvaluation, side: str) -> list[Picture]:
    """Map the goals and which are solved before and after adapting; a single task is seen from above and from the front.

    Tasks whose parameters are not points in space have no map. If the environments report no success, the colour shows the
    return instead. The user's own environments declare with `axes` that their parameters are coordinates.
    """
    figures, places = content["sides"][side], {}
    user_defined = ".py:" in content["suite"]
    axes = _axes(figures) if user_defined else ("x, cm", "y, cm", "z, cm")
    if axes is None:
        return []
    if headline(content) != SUCCESS:
        return _map_of_returns(content, side, axes)
    names = list(dict.fromkeys(str(name) for name, _ in figures["goals"]))
    rates = np.array(figures["figures"][MODE]["success"], dtype=float).mean(1)
    state = np.select([(rates[:, 0] >= 0.5) & (rates[:, -1] >= 0.5), rates[:, -1] >= 0.5, rates[:, 0] >= 0.5], [0, 1, 2], 3)
    for name in names[:_MOST_MAPS]:
        of_task = [i for i, (task, _) in enumerate(figures["goals"]) if task == name]
        points = _points([figures["goals"][i][1] for i in of_task], len(axes) if user_defined else None)
        if points is not None:
            places[name] = points, state[of_task]
    if not places:
        return []
    half = " in at least half of the trials" if content["trials"] > 1 else ""
    more = f"; the first {_MOST_MAPS} of {len(names)} tasks" if len(names) > _MOST_MAPS else ""
    caption = f"Positions of the {goals(content, side)}, and which are solved{half} in the first and in the last episode{more}"
    counts = ", ".join(f"{int((state == i).sum())} {label}" for i, (label, _, _) in enumerate(_STATES))
    alt = f"Map of {plural(len(state), 'goal')} in the workspace: {counts}."
    if len(places) > 1:
        panels = [_Panel(name.removesuffix("-v3"), 1, *place, axes) for name, place in places.items()]
        return [_map(f"goals_{side}", caption, alt, panels, 2)]
    place = next(iter(places.values()))
    if len(axes) == 2:
        return [_map(f"goals_{side}", caption, alt, [_Panel(next(iter(places)), 1, *place, axes)], 1)]
    return [
        _map(
            f"goals_{side}_{view}",
            f"{caption}. Seen from {of_what}",
            f"{alt} Seen from {of_what}.",
            [_Panel(f"From {of_what}", up, *place, axes)],
            1,
        )
        for view, of_what, up in (("above", "above", 1), ("front", "the front", 2))
    ]


class _Panel(NamedTuple):
    """One pair of axes of a map: title, index of the vertical coordinate, points (n, axes), their states, axis names."""

    title: str
    up: int
    points: np.ndarray
    states: np.ndarray
    axes: Sequence[str]


def _map(name: str, caption: str, alt: str, panels: list[_Panel], columns: int) -> Picture:
    rows = -(-len(panels) // columns)
    height = 0.95 + (2.9 if columns == 1 else 2.3 * rows)
    states = np.concatenate([panel.states for panel in panels])

    def draw(figure: Figure) -> None:
        axes = figure.subplots(rows, columns, squeeze=False)
        figure.subplots_adjust(left=0.13, right=0.97, bottom=0.5 / height, top=1 - 0.8 / height, hspace=0.5, wspace=0.42)
        for axis in axes.flat[len(panels) :]:
            axis.set_axis_off()
        for axis, panel in zip(axes.flat, panels):
            for i, (_, marker, color) in enumerate(_STATES):
                x, y = panel.points[panel.states == i][:, [0, panel.up]].T
                axis.plot(x, y, marker, color=color, ms=6.5 if columns == 1 else 5, alpha=0.9, mfc="none" if i == 3 else color)
            axis.set_title(panel.title, y=1.03)
            _label(axis, panel.axes, panel.up)
        handles = [
            Line2D([], [], marker=m, color=c, ms=5.5, ls="", mfc="none" if i == 3 else c) for i, (_, m, c) in enumerate(_STATES)
        ]
        labels = [f"{label} ({int((states == i).sum())})" for i, (label, _, _) in enumerate(_STATES)]
        figure.legend(handles, labels, loc="upper left", ncols=2, borderaxespad=0.1, columnspacing=1.2)

    return picture(name, caption, alt, draw, (4.7, height))


def _label(axis: Any, axes: Sequence[str], up: int) -> None:
    axis.set_xlabel(axes[0], labelpad=1)
    axis.set_ylabel(axes[up])
    axis.margins(0.1)
    if {name[:1] for name in axes} <= set("xyz"):  # a position, not e.g. mass and friction
        axis.set_aspect("equal", adjustable="datalim")


def _map_of_returns(content: ControlEvaluation, side: str, axes: Sequence[str]) -> list[Picture]:
    """Map the goals coloured by return, in the first and the last episode, on one colour scale."""
    figures = content["sides"][side]
    points = _points([params for _, params in figures["goals"]], len(axes))
    if points is None:
        return []
    returns = np.array(figures["figures"][MODE]["return"], dtype=float).mean(1)
    ends = {"First episode": returns[:, 0], "Last episode": returns[:, -1]}
    ends = ends if content["episodes"] > 1 else {"Episode": returns[:, 0]}
    scale = {"vmin": returns[:, [0, -1]].min(), "vmax": returns[:, [0, -1]].max(), "cmap": "viridis"}

    def draw(figure: Figure) -> None:
        grid = figure.subplots(1, len(ends), squeeze=False)[0]
        figure.subplots_adjust(left=0.13, right=0.84, bottom=0.16, top=0.88, wspace=0.45)
        for axis, (title, values) in zip(grid, ends.items()):
            dots = axis.scatter(points[:, 0], points[:, 1], c=values, s=26, **scale)
            axis.set_title(title, y=1.03)
            _label(axis, axes, 1)
        figure.colorbar(dots, cax=figure.add_axes((0.87, 0.16, 0.025, 0.72)))

    n = goals(content, side)
    worst, best = (number_of((x, None, None)) for x in (returns[:, -1].min(), returns[:, -1].max()))
    alt = f"Map of the {n}, coloured by return. In the last episode returns go from {worst} to {best}."
    return [picture(f"goals_{side}", f"Positions of the {n}, coloured by the return of the episode", alt, draw, (4.7, 2.9))]


def _axes(figures: Side) -> Sequence[str] | None:
    """The names of the goals' coordinates as the file gives them, or None."""
    axes = figures.get("axes")
    whole = isinstance(axes, list) and len(axes) in (2, 3) and all(isinstance(name, str) and name for name in axes)
    return [printable(str(name)) for name in axes or ()] if whole else None


def _points(params: list[Any], entries: int | None = None) -> np.ndarray | None:
    """The goals' positions (n, entries), or None; without `entries`, Meta-World's positions (n, 3) in centimetres.

    Of a Meta-World task's two points (object and goal), the goal counts unless only the object varies horizontally.
    """
    try:
        values = np.array(params, dtype=float)
    except (TypeError, ValueError):
        return None
    if values.ndim != 2 or not np.isfinite(values).all():
        return None
    if entries is not None or values.shape[1] not in (3, 6):
        return values if values.shape[1] == entries else None
    halves = [100 * values[:, -3:], 100 * values[:, :3]]
    return max(halves, key=lambda half: float(np.ptp(half[:, :2], 0).sum() > 1))
