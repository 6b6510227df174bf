"""`metarl bench`: measures steps per second of the native engine and of its alternatives."""

import json
from dataclasses import dataclass
from pathlib import Path

import tyro

from metarl.benchmark.contenders import CONTENDERS
from metarl.benchmark.measure import (
    NOTES,
    Comparison,
    Growth,
    combine,
    compare,
    comparison_table,
    grow,
    growth_table,
    in_words,
    machine_facts,
    numbers,
    warn_if_busy,
)
from metarl.envs import suite
from metarl.envs.making import environments, envs_bytes
from metarl.errors import UserError, unknown
from metarl.system import machine
from metarl.system.console import console, say
from metarl.system.counts import plural
from metarl.system.files import write_atomically
from metarl.system.memory import refuse_beyond
from metarl.system.ranges import check


@dataclass(frozen=True)
class Bench:
    """Measure steps per second of the native engine and of its alternatives, on the train tasks of a suite.

    Exit status: 0, 2 for wrong input, 130 if you interrupt it (the measurements so far are shown).
    """

    suite: tyro.conf.Positional[str] = "ml10"
    """ml1:<task>, ml10 or ml45; the benchmark steps its train tasks."""
    num_envs: str = "20"
    """Number of environments. With a list such as 1,10,100 the benchmark measures how the native engine's cost grows."""
    threads: str | None = None
    """Threads of native, bare and envpool; a list such as 1,2,4 acts as with num_envs. Default: one per usable core."""
    contenders: str = "native,python,async,bare,envpool"
    """What to measure: native; python (stock, one process); async (stock, a process each); bare (mj_step only); envpool."""
    seconds: float = 20.0
    """Total seconds of measurement; building the environments takes extra time."""
    json: Path | None = None
    """Also write the figures, and those of every round, to this JSON file."""
    debug: bool = False
    """Show a traceback with an error."""

    def main(self) -> int:
        """Run the command."""
        names = [name.strip() for name in self.contenders.split(",")]
        for name in names:
            if name not in CONTENDERS:
                raise unknown("contender", name, CONTENDERS)
        check(self, seconds="(0, inf)")
        if self.json is not None and self.json.is_dir():
            raise UserError(f"{self.json} is a folder: --json needs a file")
        num_envs = numbers("num_envs", self.num_envs)
        threads = [machine.worker_count()] if self.threads is None else numbers("threads", self.threads)
        combinations = combine(num_envs, threads)
        if len(combinations) > 1 and "native" not in names:
            raise UserError("several environments or threads show the native engine's cost: --contenders must name native")
        tasks = suite(self.suite).train
        refuse_beyond({environments(max(num_envs)): envs_bytes(tasks, max(num_envs))}, "a smaller --num-envs needs less")

        facts = machine_facts()
        say(f"{self.suite} on {in_words(facts)}")
        say(", ".join(f"{name} {number}" for name, number in facts["versions"].items()))
        warn_if_busy(facts)
        for n in num_envs:
            if max(threads) > n:
                say(f"more threads than environments: threads are capped at {n} for {plural(n, 'environment')}")
        report = {"suite": self.suite, "seconds": self.seconds, "machine": facts, "interrupted": False}
        comparison, growth = Comparison(), [] if len(combinations) == 1 else [Growth(*c) for c in combinations]
        try:
            if growth:
                grow(growth, tasks, self.seconds)
            else:
                compare(comparison, dict.fromkeys(names), tasks, *combinations[0], self.seconds)
        except KeyboardInterrupt:
            report["interrupted"] = True
            measured = comparison.rounds or any(row.rounds for row in growth)
            say("interrupted: results of the completed rounds" if measured else "interrupted before anything was measured")
        if growth:
            rows = report["growth"] = [row.figures() for row in growth if row.rounds]
        else:
            rows, report["skipped"] = comparison.figures(), comparison.skipped
            report["contenders"] = rows
        if rows:
            console.print(growth_table(rows) if growth else comparison_table(rows))
        for row in [] if growth else rows:
            say(f"{row['contender']}: {NOTES[row['contender']]}")
        if self.json is not None:
            try:
                write_atomically(self.json, json.dumps(report, indent=1).encode() + b"\n")
            except OSError as error:
                raise UserError(f"{self.json} cannot be written: {error.strerror}") from None
        return 130 if report["interrupted"] else 0
