"""Numbers in words and on axes: one of a thing is no several, spaces are spaces, and a tick says where it is."""

import re
from pathlib import Path

import numpy as np
import pytest
from builders.made_runs import make_run
from builders.tiny import TINY
from matplotlib.figure import Figure

from metarl import cli
from metarl.evaluation.measures import RETURN
from metarl.reports.curves import limits
from metarl.reports.provenance import details
from metarl.reports.reading import read
from metarl.system.counts import plural
from metarl.system.printable import printable

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize(("low", "high"), [(-22.4, -14.9), (-3, 0), (0, 0.7), (-4500, 1000), (-2e6, 3e6), (-1e-3, 0)])
def test_ticks_of_returns_say_where_they_are(low: float, high: float) -> None:
    axis = Figure().add_subplot()
    axis.plot([0, 1], [low, high])
    limits(axis, RETURN)
    places = axis.get_yticks()
    shown = [float(label.get_text().replace(",", "").replace("\N{MINUS SIGN}", "-")) for label in axis.get_yticklabels()]
    assert shown == pytest.approx(places, rel=1e-9, abs=1e-12)
    assert len(set(shown)) == len(shown) > 3
    assert np.ptp(np.diff(shown)) == pytest.approx(0, abs=1e-9 * max(map(abs, shown)))


def test_counts_in_words() -> None:
    found = [plural(1, "class"), plural(2, "class"), plural(0, "goal"), plural(1200, "query"), plural(1, "train task")]
    assert found == ["1 class", "2 classes", "0 goals", "1,200 queries", "1 train task"]


def test_the_count_of_a_thing_is_written_in_one_place() -> None:
    """No other code puts an s behind a word."""
    own = re.compile(r"""\{\s*["']e?s["'] (if|\*)""")
    some = [path for folder in ("metarl", "agents", "envs") for path in (ROOT / folder).rglob("*.py")]
    found = {str(path.relative_to(ROOT)) for path in some if own.search(path.read_text())}
    allowed = {"system/counts.py", "evaluation/formatting.py", "reports/control/sentences.py"}
    assert found <= {f"metarl/{name}" for name in allowed}  # here; of points; of words without their number


def test_a_training_of_one_iteration_says_one(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    args = ["train", "rl2", "ml1:reach-v3", "--run-dir", str(tmp_path / "run"), "--steps", "80", "--goals", "1", *TINY]
    assert cli.run(args) == 0
    assert "80 steps, 1 iteration of 2 trials of 2 x 20 steps on 1 train task" in " ".join(capsys.readouterr().out.split())


def test_spaces_are_printable(tmp_path: Path) -> None:
    cost = next(table for table in details(read(make_run(tmp_path / "run")), ()) if table.name == "cost")
    assert ["share of the time spent collecting experience", "50\N{NO-BREAK SPACE}%"] in [list(row) for row in cost.rows]
    assert printable("a\N{NARROW NO-BREAK SPACE}b\N{IDEOGRAPHIC SPACE}c") == "a\N{NARROW NO-BREAK SPACE}b\N{IDEOGRAPHIC SPACE}c"
    assert printable("a\x07\u2028\udcff\u202eb") == "a\ufffd\ufffd?\ufffdb"
