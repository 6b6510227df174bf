"""`metarl train`: starts a new run of any agent, or continues one."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any

import tyro

from metarl.agents import AGENTS, CONTROL, entry, find
from metarl.commands.arguments import read_command_line
from metarl.envs.user_defined import find_suite
from metarl.errors import UserError, unknown
from metarl.evaluation.during_training import evaluator
from metarl.runs.experiment import Experiment
from metarl.runs.options import LoopOptions, options_of
from metarl.sharing.opening import open_run
from metarl.system.console import say
from metarl.system.user_code import is_named, name_again, notes, resume_command, run_file
from metarl.training.sessions import resume_training, start_training


def named_agents() -> str:
    """The agents, one per line with what each is."""
    return "\n".join(f"  {name:14s} {entry.help}" for name, entry in AGENTS.items())


def _usage() -> str:
    return (
        "usage: metarl train AGENT SUITE [options]      a new run (few-shot learners: a data set instead of the suite)\n"
        "       metarl train --resume RUN [options]     resume a run\n\n"
        f"agents:\n{named_agents()}\n  PATH.py:NAME   your own agent; your own suite is named the same way\n\n"
        "metarl train rl2 --help shows all options; metarl list shows suites and presets.\n"
        "For example: metarl train rl2 ml1:reach-v3"
    )


def command(args: list[str]) -> int:
    """`metarl train`: parse the command line and train. The agent's settings are options too; a preset sets their defaults.

    A preset named after a data set provides the defaults on that data set.

    With --resume the run's own options and settings are the defaults.
    """
    named_agent = args[0] if args and not args[0].startswith("-") else None
    label = run_file(named_agent).label if named_agent and is_named(named_agent) else named_agent
    rest = args[1:] if named_agent else args
    first_look = read_command_line(rest, *kinds(label))
    resumed, named_suite = first_look.options.get("resume"), next(iter(first_look.positionals), "")
    if label is None and resumed is None:
        say(_usage())
        return 0 if first_look.help else 2
    run, checkpoint = open_run(Path(resumed)) if resumed else (None, None)
    if run is not None:
        for change in name_again(run.config, named_agent, named_suite, how=resume_command(run.config, run.path)):
            say(f"Beware: {change}")
    suite_label = run_file(named_suite).label if is_named(named_suite) else named_suite
    agent = label or (run.config["agent"] if run else "")
    if run is not None and run.config["agent"] == agent:
        options, settings = replace(run.experiment.options, quiet=False, debug=False), run.experiment.settings
    else:
        options, settings = defaults(agent, suite_label, first_look.options.get("preset"))

    form = parser(agent, options, settings, run.config["suite"] if run else tyro.MISSING)
    parsed = tyro.cli(form, prog=f"metarl train {agent}", args=rest)
    suite = suite_label or parsed.suite
    experiment = Experiment(agent, suite, parsed.options, parsed.settings, notes(agent, suite))
    if run is None:
        start_training(experiment, evaluator(agent))
    else:
        if parsed.options.run_dir is not None:
            raise UserError("--run-dir is for new runs: a resumed run stays where it is")
        resume_training(run, checkpoint, experiment, evaluator(agent))
    return 0


def defaults(agent: str, suite: str, preset: str | None) -> tuple[LoopOptions, Any]:
    """Options and settings of a new run, if the command line names no others.

    Raises:
        UserError: there is no such agent or preset.
    """
    _, presets = find(agent)
    data_set = suite.partition(":")[0]
    name = preset or (data_set if data_set in presets else "default")
    if name not in presets:
        raise unknown("preset", name, presets)
    options = dict(presets[name].options)
    if is_named(suite) and entry(agent).training == CONTROL and (max_episode_steps := find_suite(suite).max_episode_steps):
        options["max_episode_steps"] = max_episode_steps
    return options_of(agent)(**options), presets[name].settings


def parser(agent: str, default_options: LoopOptions, default_settings: Any, suite_default: Any) -> Any:
    """The dataclass that `metarl train AGENT` is parsed by, with these options and settings as defaults."""

    @dataclass(frozen=True)
    class Train:
        suite: tyro.conf.Positional[str] = suite_default
        """What to train on: a suite such as ml1:reach-v3 or ml10, or a data set such as omniglot (see `metarl list`)."""
        resume: Path | None = None
        """Continue this run from its last complete checkpoint, exactly as if it had never stopped. You may change
        --steps, --device, --engine, --acting, --checkpoint-every, --keep-checkpoints, --evaluate-every, --evaluate-on,
        --quiet."""
        options: Annotated[type(default_options), tyro.conf.arg(name="")] = default_options  # type: ignore[valid-type]
        settings: Annotated[type(default_settings), tyro.conf.arg(name="")] = default_settings  # type: ignore[valid-type]

    Train.__doc__ = f"Train {agent}: {entry(agent).help}."
    return Train


@dataclass(frozen=True)
class _Resume:
    resume: Path | None = None


def kinds(agent: str | None) -> list[Any]:
    """The dataclasses with the options of this agent's training; None: those of all agents, as any run may be resumed."""
    agents = [agent] if agent else list(AGENTS)
    return [_Resume, *{options_of(name) for name in agents}, *(find(name)[1]["default"].settings for name in agents)]
