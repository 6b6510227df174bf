"""The report's learning curves by task: one small axis per task, with the same limits."""

import json
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
from builders.made_runs import make_run
from builders.pages import plain
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from metarl.envs import suite
from metarl.reports.control.figures import learning_by_task
from metarl.reports.drawing import Picture
from metarl.reports.page import section
from metarl.reports.reading import Reading, read


def logged(path: Path, *lines: dict[str, float]) -> Reading:
    """A run with these metrics at steps 100, 200, ..."""
    run = make_run(path / "run", evaluated=False)
    steps = [{"iteration": i, "step": 100 * (i + 1), **line} for i, line in enumerate(lines)]
    (run / "metrics.jsonl").write_text("".join(f"{json.dumps(line)}\n" for line in steps))
    return read(run)


def drawn(run: Reading) -> tuple[Picture, Figure]:
    figures: list[Figure] = []
    save = Figure.savefig

    def keep(figure: Figure, *args: Any, **options: Any) -> None:
        figures.append(figure)
        save(figure, *args, **options)

    with patch("metarl.reports.drawing.Figure.savefig", keep):
        (picture,) = learning_by_task(run)
    return picture, figures[0]


@pytest.mark.parametrize("name", ["ml10", "ml45"])
def test_every_task_has_a_curve_and_all_have_the_same_limits(name: str, tmp_path: Path) -> None:
    names = suite(name).train.names
    first, last = ({f"task/{task}/success": share for task in names} for share in (0.25, 1.0))
    picture, figure = drawn(logged(tmp_path, first, {**last, f"task/{names[0]}/success": 0.0}))
    shown = {axis.get_title(loc="left"): axis for axis in figure.axes if axis.axison}
    assert list(shown) == sorted(task.removesuffix("-v3") for task in names)
    assert {(axis.get_xlim(), axis.get_ylim()) for axis in shown.values()} == {((0, 205), (-0.03, 1.03))}
    (line,) = shown[names[0].removesuffix("-v3")].lines
    assert line.get_xydata().tolist() == [[100, 0.25], [200, 0]]
    alt = plain(picture.alt)
    assert "over 200 steps of training" in alt
    assert f"{names[0].removesuffix('-v3')}: from 25 % to 0 %" in alt
    assert alt.count("from 25 % to 100 %") == len(names) - 1

    FigureCanvasAgg(figure)
    boxes = [axis.get_tightbbox() for axis in shown.values()]
    assert all(0 <= box.x0 < box.x1 <= figure.bbox.x1 and 0 <= box.y0 < box.y1 <= figure.bbox.y1 for box in boxes)
    assert not any(a.overlaps(b) for i, a in enumerate(boxes) for b in boxes[:i])


def test_the_part_stands_beside_the_other_learning_curves(tmp_path: Path) -> None:
    parts = [part.heading for part in section(1, logged(tmp_path, {"success": 0.5, "task/reach-v3/success": 0.5})).parts]
    assert parts == ["Learning curves", "Learning curves by task"]


def test_without_success_returns_are_drawn(tmp_path: Path) -> None:
    picture, figure = drawn(logged(tmp_path, {"task/a/return": -200.0, "task/b/return": 1000.0}, {"task/b/return": 3000.0}))
    assert "return of an episode" in picture.alt
    assert "a: from -200 to -200; b: from 1,000 to 3,000." in picture.alt
    low, high = figure.axes[0].get_ylim()
    assert low < -200
    assert high > 3000


@pytest.mark.parametrize("line", [{"success": 0.5}, {"task/reach-v3/std": 1.0}])
def test_without_metrics_by_task_nothing_is_drawn(line: dict[str, float], tmp_path: Path) -> None:
    assert not learning_by_task(logged(tmp_path, line))
