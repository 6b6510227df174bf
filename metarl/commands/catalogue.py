"""`metarl list`: shows every suite, data set, task, engine, agent, preset and pretrained model."""

from dataclasses import dataclass
from pathlib import Path

from rich.table import Table

from metarl.agents import AGENTS, find
from metarl.datasets.catalog import DATA_SETS
from metarl.envs import ENGINES, SUITES, TASKS
from metarl.errors import UserError
from metarl.sharing.locations import PREFIX, pretrained
from metarl.sharing.packed import open_packed
from metarl.system.console import console
from metarl.system.counts import plural

_USER_DEFINED = ("PATH.py:NAME", "your own, in a Python file: see examples/")


@dataclass(frozen=True)
class Catalogue:
    """List suites, data sets, tasks, engines, agents, presets and pretrained models."""

    debug: bool = False
    """Show a traceback with an error."""

    def main(self) -> int:
        """Run the command."""
        for title, rows in (
            ("suites (the goal is hidden from the agent, except in mt*)", [*SUITES.items(), _USER_DEFINED]),
            ("data sets (for the few-shot agents)", list(DATA_SETS.items())),
            ("agents", [*((name, entry.help) for name, entry in AGENTS.items()), _USER_DEFINED]),
            ("presets (--preset)", [(p, f"{n}: {_differences(n, p)}") for n in AGENTS for p in find(n)[1] if p != "default"]),
            (
                "pretrained models (usable like a run)",
                [(PREFIX + name, _trained(folder)) for name, folder in pretrained().items()],
            ),
            ("engines (--engine)", list(ENGINES.items())),
        ):
            grid = Table(
                title=title, title_justify="left", show_header=False, box=None, padding=(0, 2, 0, 0), title_style="bold"
            )
            for row in rows:
                grid.add_row(*row)
            console.print(grid, "")
        console.print("[bold]tasks[/bold] (all of them on both engines)")
        names = TASKS
        grid = Table(show_header=False, box=None, padding=(0, 2, 0, 0))
        columns = max(1, min(4, console.width // 32))
        rows_needed = -(-len(names) // columns)
        for r in range(rows_needed):
            grid.add_row(*[names[c * rows_needed + r] if c * rows_needed + r < len(names) else "" for c in range(columns)])
        console.print(grid)
        return 0


def _trained(folder: Path) -> str:
    try:
        model = open_packed(folder)
    except UserError as error:
        return str(error)
    return f"{model.experiment.agent} on {model.experiment.suite}, {plural(model.checkpoint.step, 'step')}"


def _differences(agent: str, preset: str) -> str:
    _, presets = find(agent)
    default, values = ({**p.options, **vars(p.settings)} for p in (presets["default"], presets[preset]))
    return ", ".join(f"{key}={value}" for key, value in values.items() if value != default.get(key))
