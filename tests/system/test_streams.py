"""Whatever output goes to, a command ends as it should: no traceback, no result lost."""

import os
import subprocess
import sys
from pathlib import Path

import matplotlib as mpl
import numpy as np
import pytest
from builders.made_runs import make_run

from metarl.errors import UserError
from metarl.evaluation import plots
from metarl.evaluation.plots import plot_profiles

SAYS = """
import sys
from metarl import cli

class Module:
    def command(args):
        from metarl.system.console import console, say
        from rich.table import Table

        say("RL² 0.5 ± 0.1, a name of bytes: \\udcff")
        grid = Table("figure")
        grid.add_row("±")
        console.print(grid)
        print("µ", file=sys.stderr)
        with open(args[0], "w") as file:
            file.write("result")
        return 0

cli.COMMANDS["say"] = ("say", "", "")
sys.modules["say"] = Module
cli.main()
"""


def metarl(*args: str, **variables: str) -> "subprocess.CompletedProcess[str]":
    """The command in a process of its own, after `SAYS`."""
    command = [sys.executable, "-c", SAYS, *args]
    return subprocess.run(command, env=os.environ | variables, capture_output=True, text=True, errors="replace")


@pytest.mark.parametrize("encoding", ["ascii", "gbk", "euc-jp", "koi8-r", "utf-8"])
def test_what_a_terminal_cannot_show_is_replaced(encoding: str, tmp_path: Path) -> None:
    done = metarl("say", str(tmp_path / "file"), PYTHONIOENCODING=encoding)
    assert (done.returncode, "Traceback" in done.stderr) == (0, False)
    assert "a name of bytes: ?" in done.stdout
    assert (tmp_path / "file").read_text() == "result"


@pytest.mark.parametrize(
    ("redirect", "status"),
    [(">/dev/full", 2), (">/dev/full 2>&1", 2), (">&-", 0), (">&- 2>&-", 0), ("| true; exit ${PIPESTATUS[0]}", 0)],
)
def test_output_that_cannot_be_written_stops_nothing(redirect: str, status: int, tmp_path: Path) -> None:
    command = ["bash", "-c", f'"$@" {redirect}', "bash", sys.executable, "-c", SAYS, "say", str(tmp_path / "file")]
    done = subprocess.run(command, stderr=subprocess.PIPE, text=True)
    assert done.returncode == status
    assert "Traceback" not in done.stderr
    assert ("could not write to standard output: No space left" in done.stderr) == (redirect == ">/dev/full")
    assert (tmp_path / "file").read_text() == "result"  # and nothing that was printed


@pytest.mark.parametrize("columns", ["1", "0", "many", "²"])
def test_help_on_the_narrowest_terminals(columns: str) -> None:
    done = metarl("doctor", "--help", COLUMNS=columns, TERM="dumb")
    assert (done.returncode, done.stderr) == (0, "")
    assert "Check this machine" in done.stdout


@pytest.mark.parametrize("backend", ["module://matplotlib_inline.not_installed", "nonsense"])
def test_a_notebooks_backend_need_not_be_installed(backend: str, tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", goals=2)
    done = metarl("report", str(run), MPLBACKEND=backend)
    assert (done.returncode, done.stderr) == (0, "")
    assert list(run.rglob("*.html"))


def test_plots_leave_matplotlibs_settings_as_they_are(tmp_path: Path) -> None:
    before = dict(mpl.rcParams)
    plot_profiles({"a": np.array([[0.5, 1.0]])}, "title", tmp_path / "a.png")
    assert dict(mpl.rcParams) == before
    assert (tmp_path / "a.png").exists()
    with pytest.raises(UserError, match=r"could not write .*/a\.nothing"):
        plot_profiles({"a": np.array([[0.5, 1.0]])}, "title", tmp_path / "a.nothing")
    (tmp_path / "b.png").mkdir()
    with pytest.raises(UserError, match="Is a directory"):
        plots.save_figure(mpl.figure.Figure(), tmp_path / "b.png")
