"""`metarl train`: starts a new run of any agent, or continues one."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any

import tyro

from metarl.agents import AGENTS, CONTROL, entry, find
from metarl.commands.arguments import glance
from metarl.envs.user_defined import find_suite
from metarl.errors import UserError, unknown
from metarl.evaluation.during_training import evaluator
from metarl.sharing.opening import open_run
from metarl.system.console import say
from metarl.system.user_code import is_named, name_again, resume_command, run_file
from metarl.training.options import LoopOptions
from metarl.training.sessions import resume_training, start_training
from metarl.training.setup import configuration, options_of, read_config


def _usage() -> str:
    agents = "\n".join(f"  {name:14s} {entry.help}" for name, entry in AGENTS.items())
    return (
        "usage: metarl train AGENT SUITE [options]      a new run (few-shot learners: a data set instead of the suite)\n"
        "       metarl train --resume RUN [options]     resume one\n\n"
        f"agents:\n{agents}\n  PATH.py:NAME   your own agent; your own suite is named the same way\n\n"
        "metarl train rl2 --help shows all options; metarl list shows suites and presets.\n"
        "For example: metarl train rl2 ml1:reach-v3"
    )


def command(args: list[str]) -> int:
    """`metarl train`: parse the command line and train. The agent's settings are options too; a preset sets their defaults.

    A preset named after a data set provides the defaults on that data set.

    With --resume the run's own options and settings are the defaults.
    """
    agent = None if not args or args[0].startswith("-") else run_file(args[0]).label if is_named(args[0]) else args[0]
    named = glance(args[1:] if agent else args, *_kinds(agent))
    resumed, suite_named = named.options.get("resume"), next(iter(named.places), "")
    if agent is None and resumed is None:
        say(_usage())
        return 0 if named.help else 2
    run = open_run(Path(resumed))[0] if resumed else None
    if run is not None:
        files = (args[0] if agent else None, suite_named)
        for change in name_again(run.config, *files, how=resume_command(run.config, run.path)):
            say(f"Beware: {change}")
    suite_label = run_file(suite_named).label if is_named(suite_named) else suite_named
    chosen = agent or (run.config["agent"] if run else "")
    _, presets = find(chosen)
    name = named.options.get("preset") or (data if (data := suite_named.partition(":")[0]) in presets else "default")
    if name not in presets:
        raise unknown("preset", name, presets)
    options = dict(presets[name].options)
    own_suite = suite_label or (run.config["suite"] if run else "")
    if (
        is_named(own_suite)
        and entry(chosen).training == CONTROL
        and (max_episode_steps := find_suite(own_suite).max_episode_steps)
    ):
        options["max_episode_steps"] = max_episode_steps
    own, shared = presets[name].settings, options_of(chosen)(**options)
    if run is not None and run.config["agent"] == chosen:
        own, shared = read_config(run.config)
        shared = replace(shared, quiet=False, debug=False)

    taken = parser(chosen, shared, own, run.config["suite"] if run else tyro.MISSING)
    given = tyro.cli(taken, prog=f"metarl train {chosen}", args=args[1:] if agent else args)
    suite = suite_label or given.suite
    if given.resume is None:
        start_training(chosen, suite, given.options, given.settings, evaluator(chosen))
    else:
        now = configuration(chosen, suite, given.options, given.settings)
        if given.options.run_dir is not None:
            raise UserError("--run-dir is for new runs: a resumed run stays where it is")
        resume_training(*open_run(given.resume), now, evaluator(chosen))
    return 0


def parser(agent: str, shared: LoopOptions, own: Any, suite_default: Any) -> Any:
    """The dataclass that `metarl train AGENT` is parsed by, with these options and settings as defaults."""

    @dataclass(frozen=True)
    class Train:
        suite: tyro.conf.Positional[str] = suite_default
        """What to train on: a suite such as ml1:reach-v3 or ml10, or a data set such as omniglot (see `metarl list`)."""
        resume: Path | None = None
        """Continue this run from its last complete checkpoint, exactly as if it had never stopped. You may change
        --steps, --device, --engine, --checkpoint-every, --keep-checkpoints, --evaluate-every, --evaluate-on, --quiet."""
        options: Annotated[type(shared), tyro.conf.arg(name="")] = shared  # type: ignore[valid-type]
        settings: Annotated[type(own), tyro.conf.arg(name="")] = own  # type: ignore[valid-type]

    Train.__doc__ = f"Train {agent}: {entry(agent).help}."
    return Train


@dataclass(frozen=True)
class _Resume:
    resume: Path | None = None


def _kinds(agent: str | None) -> list[Any]:
    """The dataclasses with the options of this agent's training; None: those of all agents, as any run may be resumed."""
    agents = [agent] if agent else list(AGENTS)
    return [_Resume, *{options_of(one) for one in agents}, *(find(one)[1]["default"].settings for one in agents)]
