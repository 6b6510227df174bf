"""`metarl bench`: compare the speed of the native engine with stock Meta-World, EnvPool and MuJoCo alone.

The speed of a shared machine changes from minute to minute, so the contenders take turns in short slices, round after round.
In a round each takes the same number of steps, with the same actions, from the same states. A contender's rate is the median
over rounds; the native engine's speed-up is the ratio within each round, then the median over rounds.
"""

import logging
import math
import os
import statistics
import time
from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from rich.table import Table

from metarl.benchmark.contenders import CONTENDERS, Contender
from metarl.envs import Task, TaskDistribution
from metarl.errors import UserError
from metarl.system import counts, machine
from metarl.system.console import Progress, say

log = logging.getLogger("metarl")

REPORTED_PACKAGES = ("mujoco", "metaworld", "numba", "gymnasium", "envpool")
ROUNDS = 15
"""Target number of rounds; at least `MIN_ROUNDS` are measured, however long they take."""
MIN_ROUNDS = 3
WARM_UP = 5
"""Steps that every contender takes twice before the measurement: first to warm up, then to estimate the time of a step."""
NOTES = {
    "native": "compiled stepping through libmujoco",
    "python": "stock Meta-World environments, one after the other in one process",
    "async": "stock Meta-World environments in gymnasium's AsyncVectorEnv, a process each",
    "bare": "MuJoCo's mj_step and mj_forward alone, with the same scenes and controls: the limit",
    "envpool": "the same kind of task, but with goals that it draws itself and a MuJoCo of its own",
}
"""Notes under the table of contenders."""
SEED = 0
"""Seed of the choice of tasks and of the actions."""


def numbers(option: str, text: str) -> list[int]:
    """The distinct integers of a comma-separated list.

    Raises:
        UserError: the text is not such a list, or a number is below 1.
    """
    try:
        values = [counts.parse(part.strip()) for part in text.split(",")]
    except ValueError as error:
        raise UserError(f"{option} must be whole numbers, such as 1,10,100: {error}") from None
    if min(values) < 1:
        raise UserError(f"{option} must be at least 1, not {min(values)}")
    return list(dict.fromkeys(values))


def combine(num_envs: Sequence[int], threads: Sequence[int]) -> list[tuple[int, int]]:
    """All distinct pairs (num_envs, threads), with threads capped at num_envs."""
    return list(dict.fromkeys((n, min(t, n)) for n in num_envs for t in threads))


def machine_facts() -> dict[str, Any]:
    """CPU, usable cores, load average over the last minute, and versions."""
    return {
        "cpu": machine.processor(),
        "usable_cores": machine.usable_cores(),
        "load": os.getloadavg()[0],
        "versions": machine.versions(REPORTED_PACKAGES),
    }


def in_words(facts: dict[str, Any]) -> str:
    """The CPU, its usable cores and the load before the measurement."""
    return f"{facts['cpu']}, {facts['usable_cores']:g} usable cores, load average {facts['load']:.2f} before"


def warn_if_busy(facts: dict[str, Any]) -> None:
    """Print a warning if other work would spoil the figures."""
    if facts["load"] > 0.5 * facts["usable_cores"]:
        say("warning: other work keeps this machine busy and spoils the figures; the ratios suffer least")


def random_actions(round_number: int, steps: int, num_envs: int) -> np.ndarray:
    """Random actions, (steps, environments, 4) float32, a function of the arguments."""
    rng = np.random.default_rng((SEED, round_number))
    return rng.uniform(-1, 1, (steps, num_envs, 4)).astype(np.float32)


def timed(contender: Contender, actions: np.ndarray) -> float:
    """Seconds that the contender takes for the steps."""
    prepared = contender.prepare(actions)
    start = time.perf_counter()
    contender.run(prepared)
    return time.perf_counter() - start


def measure(contenders: Sequence[Contender], rounds: list[list[float]], seconds: float, *, same_steps: bool) -> None:
    """Measure the contenders in turns.

    Args:
        contenders: with equal numbers of environments, if `same_steps`.
        rounds: each complete round appends the steps/s of all contenders, so an interrupt loses at most one round.
        seconds: duration of all rounds together.
        same_steps: all take the same number of steps per round; otherwise each takes about the same time.
    """
    for _ in range(2):
        costs = [timed(c, random_actions(0, WARM_UP, c.num_envs)) / WARM_UP for c in contenders]
    round_seconds = seconds / ROUNDS
    steps = [max(1, int(round_seconds / (sum(costs) if same_steps else len(costs) * cost))) for cost in costs]
    start = time.perf_counter()
    with Progress(math.ceil(seconds), what="s") as progress:
        while len(rounds) < MIN_ROUNDS or time.perf_counter() - start < seconds:
            rates = [0.0] * len(contenders)
            for turn in range(len(contenders)):
                i = (turn + len(rounds)) % len(contenders)  # rotate the order of the contenders
                c = contenders[i]
                rates[i] = steps[i] * c.num_envs / timed(c, random_actions(len(rounds), steps[i], c.num_envs))
                progress.within(min(seconds, time.perf_counter() - start))
            rounds.append(rates)


def times_as_fast(rounds: Sequence[Sequence[float]], fast: int, slow: int) -> dict[str, float]:
    """The ratio of two columns of `rounds`, taken within each round: its median, lowest and highest."""
    ratios = [rates[fast] / rates[slow] for rates in rounds]
    return {"median": statistics.median(ratios), "low": min(ratios), "high": max(ratios)}


def draw(tasks: TaskDistribution, num_envs: int) -> list[Task]:
    """One task per environment, the same for every contender; classes of tasks occur equally often, to within one."""
    return tasks.sample(num_envs, np.random.default_rng(SEED))


@dataclass
class Comparison:
    """Measurements of contenders; `rounds` holds steps/s, one column per contender."""

    contenders: list[Contender] = field(default_factory=list)
    rounds: list[list[float]] = field(default_factory=list)
    skipped: dict[str, str] = field(default_factory=dict)

    def figures(self) -> list[dict[str, Any]]:
        """One row per contender; `native_is_times_as_fast` is None if native was not measured."""
        names = [c.name for c in self.contenders]
        rows: list[dict[str, Any]] = []
        for i, c in enumerate(self.contenders if self.rounds else []):
            rates = [round_rates[i] for round_rates in self.rounds]
            row = {"contender": c.name, "num_envs": c.num_envs, "threads": c.threads, "processes": c.processes}
            ratio = times_as_fast(self.rounds, names.index("native"), i) if "native" in names else None
            median = statistics.median(rates)
            rows.append(row | {"steps_per_second": median, "native_is_times_as_fast": ratio, "rounds": rates})
        return rows


def compare(
    comparison: Comparison, names: Iterable[str], tasks: TaskDistribution, num_envs: int, threads: int, seconds: float
) -> None:
    """Build the contenders and measure them in the same rounds."""
    env_tasks = draw(tasks, num_envs)
    with ExitStack() as stack:
        for name in names:
            start = time.perf_counter()
            try:
                comparison.contenders.append(CONTENDERS[name](env_tasks, threads))
            except (UserError, ImportError, OSError) as error:
                comparison.skipped[name] = str(error)
                say(f"{name} is left out: {error}")
                continue
            stack.callback(comparison.contenders[-1].close)
            log.info("%s: %d environments ready after %.1f s", name, num_envs, time.perf_counter() - start)
        if not comparison.contenders:
            raise UserError("no contender is left to measure")
        measure(comparison.contenders, comparison.rounds, seconds, same_steps=True)


@dataclass
class Growth:
    """Measurements of the native engine at one size; `rounds` holds steps/s of the first size and of this one."""

    num_envs: int
    threads: int
    rounds: list[list[float]] = field(default_factory=list)
    memory: int = 0

    def figures(self) -> dict[str, Any]:
        """The row; memory is the process's growth, in MB, from building and stepping this environment."""
        rate = statistics.median(rates[-1] for rates in self.rounds)
        return {
            "num_envs": self.num_envs,
            "threads": self.threads,
            "steps_per_second": rate,
            "microseconds_per_step": 1e6 / rate,
            "times_as_fast_as_first": times_as_fast(self.rounds, -1, 0),
            "memory_mb": self.memory / 1e6,
            "rounds": [rates[-1] for rates in self.rounds],
        }


def grow(rows: Sequence[Growth], tasks: TaskDistribution, seconds: float) -> None:
    """Measure the native engine at every size, in turns with the first size; at most two are in memory at a time."""
    make_native = CONTENDERS["native"]
    # a discarded first one pays for imports, compiled code and goals, which would count as the first row's memory
    make_native(draw(tasks, rows[0].num_envs), rows[0].threads).close()
    first: list[Contender] = []
    with ExitStack() as outer:
        for row in rows:
            with ExitStack() as inner:
                initial_memory = resident()
                contender = make_native(draw(tasks, row.num_envs), row.threads)
                (inner if first else outer).callback(contender.close)
                timed(contender, random_actions(0, WARM_UP, row.num_envs))
                row.memory = resident() - initial_memory
                log.info("environments %d, threads %d: ready", row.num_envs, row.threads)
                measure([*first, contender], row.rounds, seconds / len(rows), same_steps=False)
                first = first or [contender]


def resident() -> int:
    """Bytes of memory that this process uses, after returning the C library's free memory to the system."""
    machine.return_memory()
    return machine.resident()


def ratio_text(ratio: dict[str, float] | None) -> str:
    """A ratio as text for the tables."""
    return "" if ratio is None else f"{ratio['median']:.2f} [{ratio['low']:.2f} to {ratio['high']:.2f}]"


def table(*headings: str) -> Table:
    """An empty table with these headings."""
    grid = Table()
    for heading in headings:
        grid.add_column(heading, justify="left" if heading == "contender" else "right")
    return grid


def comparison_table(rows: Sequence[dict[str, Any]]) -> Table:
    """A table with one row per contender."""
    grid = table("contender", "environments", "threads", "steps/s", "native is times as fast")
    for row in rows:
        name, processes = row["contender"], row["processes"]
        grid.add_row(
            name,
            str(row["num_envs"]),
            f"{processes} processes" if processes else str(row["threads"]),
            f"{row['steps_per_second']:,.0f}",
            "" if name == "native" else ratio_text(row["native_is_times_as_fast"]),
        )
    return grid


def growth_table(rows: Sequence[dict[str, Any]]) -> Table:
    """A table with one row per size."""
    grid = table("environments", "threads", "steps/s", "µs a step", "times the first row", "memory, MB")
    for row in rows:
        rate, cost = f"{row['steps_per_second']:,.0f}", f"{row['microseconds_per_step']:.1f}"
        ratio, memory = ratio_text(row["times_as_fast_as_first"]), f"{row['memory_mb']:,.0f}"
        grid.add_row(str(row["num_envs"]), str(row["threads"]), rate, cost, ratio, memory)
    return grid
