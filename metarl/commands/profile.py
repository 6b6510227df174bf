"""`metarl profile`: where the time of training goes, beside the engine alone and MuJoCo alone."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import tyro

from metarl.agents import CONTROL, entry
from metarl.benchmark.measure import combine, in_words, machine_facts, numbers, warn_if_busy
from metarl.benchmark.profiling import MEANINGS, Profile, measure, plot, profile_table, say_shares
from metarl.benchmark.versions import compare_versions, versions_figures, versions_table
from metarl.commands.arguments import read_command_line
from metarl.commands.train import defaults, kinds, named_agents
from metarl.errors import UserError
from metarl.runs.experiment import Experiment
from metarl.system import machine
from metarl.system.console import console, say
from metarl.system.files import write_atomically, writing
from metarl.system.ranges import check
from metarl.system.user_code import is_named, notes, run_file


@dataclass(frozen=True)
class ProfileOptions:
    """Options of the measurement."""

    environments: str | None = None
    """Numbers of environments, such as 20,160; default: --num-envs."""
    threads: str | None = None
    """Threads of the engine, such as 1,2,4; default: one per usable core."""
    seconds: float = 60.0
    """Seconds of measurement; at least 3 rounds are measured."""
    against: Path | None = None
    """A checkout of another version: train with both in turn and compare their speed."""
    plot: Path = Path("profile.png")
    """File of the picture."""
    json: Path | None = None
    """Also write all figures to this JSON file."""

    def __post_init__(self) -> None:
        check(self, seconds="(0, inf)")


def command(args: list[str]) -> int:
    """`metarl profile AGENT SUITE`: parse the command line, with the options of `metarl train`, and measure."""
    if not args or args[0].startswith("-"):
        say(f"usage: metarl profile AGENT SUITE [options]\n\nagents:\n{named_agents()}\n\nFor example: metarl profile rl2 ml10")
        return 0 if {"-h", "--help"} & set(args) else 2
    agent = run_file(args[0]).label if is_named(args[0]) else args[0]
    if entry(agent).training != CONTROL:
        raise UserError(f"{agent} is a few-shot learner: metarl profile measures training on environments")
    line = read_command_line(args[1:], ProfileOptions, *kinds(agent))
    named_suite = next(iter(line.positionals), "")
    suite_label = run_file(named_suite).label if is_named(named_suite) else named_suite
    default_options, default_settings = defaults(agent, suite_label, line.options.get("preset"))

    @dataclass(frozen=True)
    class Arguments:
        suite: tyro.conf.Positional[str]
        """What to train on, such as ml10."""
        measurement: Annotated[ProfileOptions, tyro.conf.arg(name="")] = ProfileOptions()
        options: Annotated[type(default_options), tyro.conf.arg(name="")] = default_options  # type: ignore[valid-type]
        settings: Annotated[type(default_settings), tyro.conf.arg(name="")] = default_settings  # type: ignore[valid-type]

    Arguments.__doc__ = f"Measure where the time of training {agent} goes."
    parsed: Any = tyro.cli(Arguments, prog=f"metarl profile {agent}", args=args[1:])
    if getattr(parsed.settings, "overlap", False):
        raise UserError("metarl profile measures collection and update one after the other: leave out --overlap")
    suite = suite_label or parsed.suite
    experiment = Experiment(agent, suite, parsed.options, parsed.settings, notes(agent, suite)).resolved()
    return _against(experiment, parsed.measurement) if parsed.measurement.against else _profile(experiment, parsed.measurement)


def _machine() -> dict[str, Any]:
    facts = machine_facts()
    say(in_words(facts))
    warn_if_busy(facts)
    return facts


def _profile(experiment: Experiment, asked: ProfileOptions) -> int:
    options: Any = experiment.options
    num_envs = [options.num_envs] if asked.environments is None else numbers("environments", asked.environments)
    threads = [machine.worker_count()] if asked.threads is None else numbers("threads", asked.threads)
    profiles = [Profile(*combination) for combination in combine(num_envs, threads)]
    facts, interrupted = _machine(), False
    try:
        measure(experiment, profiles, asked.seconds)
    except KeyboardInterrupt:
        interrupted = True
    whole = [profile for profile in profiles if profile.rounds]
    if whole:
        console.print(profile_table(whole))
        for profile in whole:
            say_shares(profile)
        say("; ".join(f"{name}: {meaning}" for name, meaning in MEANINGS.items() if whole[0].rates(name)))
        plot(whole, f"{experiment.agent} on {experiment.suite}, {facts['cpu']}", asked.plot)
        say(f"Picture: {asked.plot}")
    _write(asked.json, {"machine": facts, "profiles": [profile.figures() for profile in whole], "interrupted": interrupted})
    return 130 if interrupted else 0


def _against(experiment: Experiment, asked: ProfileOptions) -> int:
    assert asked.against is not None
    facts, interrupted = _machine(), False
    rounds: list[Any] = []
    try:
        compare_versions(experiment, asked.against, asked.seconds, rounds)
    except KeyboardInterrupt:
        interrupted = True
    if len(rounds) > 1:
        console.print(versions_table(rounds, str(asked.against)))
    _write(asked.json, {"machine": facts, "interrupted": interrupted, **versions_figures(rounds)})
    return 130 if interrupted else 0


def _write(path: Path | None, content: dict[str, Any]) -> None:
    if path is None:
        return
    with writing(str(path)):
        write_atomically(path, json.dumps(content, indent=1).encode() + b"\n")
