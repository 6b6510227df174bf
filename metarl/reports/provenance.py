"""Describes for a report how a run was made: progress, cost, settings and versions."""

import math
import statistics
from collections.abc import Sequence

from metarl.evaluation.formatting import percent
from metarl.evaluation.shown import extent
from metarl.reports.reading import Reading
from metarl.reports.tables import Table
from metarl.system.console import clock
from metarl.system.printable import printable


def status(run: Reading) -> str:
    """The run's progress, and, if there are several evaluations, which one is shown."""
    return "; ".join(filter(None, (_progress(run), _which_evaluation(run))))


def _which_evaluation(run: Reading) -> str:
    if run.evaluation is None or not run.others:
        return ""
    others = "another evaluation is" if len(run.others) == 1 else f"{len(run.others)} other evaluations are"
    return (
        f"shown is the largest evaluation of checkpoint {run.evaluation['checkpoint']}, {extent(run.evaluation)}; "
        f"{others} in a table below"
    )


def _progress(run: Reading) -> str:
    options = run.config["options"]
    planned, per = options.get("steps"), [options.get(key) for key in ("num_envs", "episodes_per_trial", "max_episode_steps")]
    # --steps counts full-length episodes; episodes that ended early took fewer steps
    whole = len(run.lines) * math.prod(per) if all(isinstance(n, int) for n in per) else 0
    done = f"{run.step:,} {run.unit}"
    if run.running:
        return f"running: {done} of {planned:,} so far" if isinstance(planned, int) else f"running: {done} so far"
    if isinstance(planned, int) and max(run.step, whole) < planned:
        return f"stopped at {done} of {planned:,}"
    return f"trained for {done}"


def details(run: Reading, protocol: Sequence[str]) -> list[Table]:
    """Tables of cost, settings, versions and machine, and the evaluation's keys in `protocol`."""
    config, content, lines = run.config, run.evaluation or {}, run.lines
    seconds = sum(line.get("seconds", 0.0) for line in lines)
    speeds = [line["steps_per_second"] for line in lines if "steps_per_second" in line]
    cost = [(run.unit, f"{run.step:,}"), ("iterations", f"{len(lines):,}")]
    if seconds:
        cost.append(("time", clock(seconds)))
        collecting = [line["collect_seconds"] for line in lines if "collect_seconds" in line]
        cost += [("share of the time spent collecting experience", percent(sum(collecting) / seconds))] if collecting else []
    processor = sum(line.get("cpu_seconds", 0.0) for line in lines)
    if processor:
        cost.append(("processor time of all threads", clock(processor)))
    if speeds:
        cost.append((f"{run.unit} per second, median", f"{_speed(statistics.median(speeds))}"))
    joules = sum(line.get("joules", 0.0) for line in lines)
    if joules:
        cost.append(("energy of the processors, other programs included", f"{joules / 3.6e6:.3g} kWh"))
    versions = [
        *((key, config.get(key)) for key in ("started", "metarl", "git_commit", "python", "cuda")),
        *config["packages"].items(),
        *config["machine"].items(),
    ]
    evaluated = [(key, content.get(key)) for key in protocol]
    options = [("agent", run.agent), ("suite", run.suite), *config["options"].items(), *config["settings"].items()]
    tables = {
        "cost": ("Cost of training", cost),
        "settings": ("Settings of training", options),
        "versions": ("Versions and machine", versions),
        "protocol": ("Protocol of the evaluation", evaluated if content else []),
    }
    return [
        Table(
            name,
            caption,
            [("name", "text"), ("value", "text")],
            [[printable(str(key)), printable(str(value))] for key, value in pairs if value is not None],
        )
        for name, (caption, pairs) in tables.items()
        if any(value is not None for _, value in pairs)
    ]


def _speed(x: float) -> str:
    return f"{x:,.0f}" if x >= 100 else f"{x:.3g}"
