"""Compare the speed of training with another version of the package: both train in turn, in processes of their own."""

import json
import math
import os
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
from rich.table import Table

from metarl.agents import find
from metarl.benchmark.measure import table
from metarl.errors import UserError
from metarl.evaluation.intervals import mean
from metarl.runs.experiment import Experiment
from metarl.system.console import Progress

PARTS = ("collection", "update", "iteration")
LEAST = 3
"""Smallest number of rounds."""
ITERATIONS = 3
"""Iterations of a training; the first one, which compiles and fills caches, is not counted."""
Seconds = dict[str, float]
"""Seconds per environment step, by part."""


def compare_versions(experiment: Experiment, checkout: Path, seconds: float, rounds: list[tuple[Seconds, Seconds]]) -> None:
    """Train with this version and with a checkout's in turn.

    Args:
        experiment: what to train; options and settings that differ from the defaults are passed on.
        checkout: folder that holds the other version's package.
        seconds: duration; at least `LEAST` rounds are measured.
        rounds: gains a pair (this version, the other) per round.

    Raises:
        UserError: the folder holds no package, or a training fails.
    """
    other, this = checkout.resolve(), Path(__file__).resolve().parents[2]
    if not (other / "metarl" / "cli.py").is_file():
        raise UserError(f"{checkout} is no checkout: it has no metarl/cli.py")
    began = time.perf_counter()
    with Progress(int(seconds) + 1, what="s") as bar:
        while len(rounds) < LEAST or time.perf_counter() - began < seconds:
            order = [this, other] if len(rounds) % 2 == 0 else [other, this]
            measured = {folder: _train(experiment, folder) for folder in order}
            rounds.append((measured[this], measured[other]))
            bar.within(min(seconds, time.perf_counter() - began))


def _train(experiment: Experiment, folder: Path) -> Seconds:
    per = experiment.options.steps_per_iteration
    with tempfile.TemporaryDirectory() as scratch:
        run = Path(scratch, "run")
        command = ["train", experiment.agent, experiment.suite, "--quiet", "--run-dir", str(run)]
        command += ["--steps", str(ITERATIONS * per), *changed_options(experiment)]
        done = subprocess.run(
            [sys.executable, "-c", "from metarl.cli import main; main()", *command],
            env=os.environ | {"PYTHONPATH": str(folder)},
            cwd=scratch,
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            raise UserError(f"{folder}: metarl {' '.join(command)}: {(done.stderr or done.stdout).strip()[-500:]}")
        lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()][1:]
    collect, whole = (statistics.median(line[key] for line in lines) / per for key in ("collect_seconds", "seconds"))
    return {"collection": collect, "update": whole - collect, "iteration": whole}


def changed_options(experiment: Experiment) -> list[str]:
    """Options and settings that differ from the agent's defaults, as arguments of `metarl train`."""
    preset = find(experiment.agent)[1]["default"]
    own = ("steps", "run_dir", "quiet", "debug")
    arguments: list[str] = []
    for given, default in (
        (experiment.options, type(experiment.options)(**preset.options)),
        (experiment.settings, preset.settings),
    ):
        for name in (entry.name for entry in fields(given) if entry.name not in own):
            value = getattr(given, name)
            if value != getattr(default, name):
                option = name.replace("_", "-")
                if isinstance(value, bool):
                    arguments.append(f"--{option}" if value else f"--no-{option}")
                else:
                    arguments += [f"--{option}", *map(str, value if isinstance(value, tuple) else [value])]
    return arguments


def ratio(rounds: list[tuple[Seconds, Seconds]], part: str) -> tuple[float, float, float]:
    """How many times as fast this version is: geometric mean over at least two rounds, with a 95 % interval.

    The interval is Student's, of the ratios' logarithms.
    """
    logs = mean(np.array([math.log(other[part] / this[part]) for this, other in rounds]))
    assert logs.low is not None
    assert logs.high is not None
    return math.exp(logs.mean), math.exp(logs.low), math.exp(logs.high)


def versions_table(rounds: list[tuple[Seconds, Seconds]], name: str) -> Table:
    """Steps per second of both versions, and their ratio."""
    made = table("steps per second", "this version", name, "times as fast [95 % interval]")
    for part in PARTS:
        this, other = (1 / statistics.median(pair[i][part] for pair in rounds) for i in (0, 1))
        middle, low, high = ratio(rounds, part)
        made.add_row(part, f"{this:,.0f}", f"{other:,.0f}", f"{middle:.2f} [{low:.2f} to {high:.2f}]")
    return made


def versions_figures(rounds: list[tuple[Seconds, Seconds]]) -> dict[str, Any]:
    """All rounds and, of at least two, the ratios, for JSON."""
    ratios = {"times_as_fast": {part: ratio(rounds, part) for part in PARTS}} if len(rounds) > 1 else {}
    return {**ratios, "rounds": [list(pair) for pair in rounds]}
