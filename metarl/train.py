"""`metarl train`: a new run, or going on with one, of any agent."""

import json
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Annotated, Any

import torch
import tyro

from metarl.agents import AGENTS, ROBOTS, entry, find
from metarl.arguments import glance
from metarl.config import configuration, options_of, read_config, resolved, set_up
from metarl.console import say
from metarl.counts import plural
from metarl.devices import choose_device
from metarl.envs.own import find_suite
from metarl.errors import UserError, unknown
from metarl.loop import LoopOptions, Training, train
from metarl.run import Run, default_path, open_run, refuse_existing
from metarl.userfiles import is_named, name_again, resume_command, run_file


def start_training(agent: str, suite_name: str, options: LoopOptions, settings: Any) -> Run:
    """`metarl train AGENT SUITE`: a new run, trained to its end, and as what this machine made of "auto"."""
    options, settings = resolved(options, settings)
    config = configuration(agent, suite_name, options, settings)
    if options.run_dir:
        refuse_existing(options.run_dir)  # before the work, and after it nothing is left behind where the work was refused
    setup = set_up(config)
    if options.evaluate_every:
        setup.check_evaluation()
    path = options.run_dir or default_path(agent, suite_name, options.seed)
    run = Run.create(path, {**config, "interface": setup.interface()}, numbered=options.run_dir is None)
    if not options.quiet:
        _announce(run, setup)
    train(run, setup)
    return run


RESUMABLE = (
    "steps",
    "device",
    "engine",
    "checkpoint_every",
    "keep_checkpoints",
    "evaluate_every",
    "evaluate_on",
    "quiet",
    "debug",
)
"""Options that a resumed run may be given anew; all others are part of its mathematics."""


def resume_training(path: Path, given: dict[str, Any]) -> Run:
    """`metarl train --resume RUN`: go on from the last whole checkpoint.

    Args:
        path: the run directory, or a checkpoint's folder in it.
        given: what config.json is to say: as it is, but for what is resumed with.

    Raises:
        UserError: what is given, or config.json, differs from what the checkpoint was trained with in more than `RESUMABLE`.
    """
    run, named = open_run(path)
    run.lock()
    checkpoint, problems = run.load(named)
    for name, value in given["settings"].items():
        if value == "auto":  # is as the run began
            given["settings"][name] = checkpoint.config["settings"].get(name, value)
    different = [line for name, line in _differences(checkpoint.config, given).items() if name not in RESUMABLE]
    if different:
        raise UserError(f"{run.path} was trained with other settings: {'; '.join(different)}. Start a new run with them")
    now, before = given["options"], run.config["options"]
    changed = {name: now[name] for name in RESUMABLE if name in now and now[name] != before.get(name)}
    if given["options"]["device"] == "cuda" and "device" not in changed and not torch.cuda.is_available():
        say("This run was trained on a GPU and there is none here: going on on the CPU; figures will differ in the last digits")
        changed["device"] = "auto"
    if "device" in changed:
        changed["device"] = choose_device(changed["device"]).type
    setup = set_up(run.config, **changed)
    options = setup.options
    for problem in problems:
        say(f"{problem}: going on from the one before")
    setup.agent.load_state_dict(checkpoint.state)
    if checkpoint.iteration >= options.iterations:
        say(f"{run.path} is trained to its end, {plural(checkpoint.step, 'step')}; --steps trains it further")
        setup.close()
        return run
    for later in run.checkpoints():
        if int(later.name) > checkpoint.step and named:
            raise UserError(f"{run.path} has later checkpoints than {named.name}: resume the run, or copy it and delete them")
    if options.evaluate_every:
        setup.check_evaluation()
    run.config |= {key: given[key] for key in ("files",) if key in given}
    run.config["options"] |= {key: value for key, value in asdict(options).items() if key in changed}
    run.write_config()
    run.drop_metrics_after(checkpoint.iteration)
    if not options.quiet:
        say(f"Going on at {plural(checkpoint.step, 'step')}")
        if "steps" in changed:
            say("Another length than before: what falls over training (learning rate, entropy bonus) follows the new one")
        _announce(run, setup)
    train(run, setup, checkpoint.iteration, checkpoint.step)
    return run


def _differences(before: dict[str, Any], now: dict[str, Any]) -> dict[str, str]:
    """What two configurations differ in, in words, by the setting's name."""
    flat = [
        {"agent": c["agent"], "suite": c["suite"], **c["options"], **json.loads(json.dumps(c["settings"]))}
        for c in (before, now)
    ]
    names = [name for name in {**flat[0], **flat[1]} if flat[0].get(name) != flat[1].get(name)]
    return {name: f"{name} was {flat[0].get(name)}, not {flat[1].get(name)}" for name in names}


def _announce(run: Run, setup: Training) -> None:
    o, total = setup.options, setup.options.total_steps
    rounded = f" ({o.steps:,} rounded up to whole iterations)" if total != o.steps else ""
    if total > 1.1 * o.steps:
        say(
            f"Beware: --steps {o.steps:,} trains {total:,}, as an iteration has {o.steps_per_iteration:,} and is never cut. "
            f"Smaller iterations: {o.shorter}"
        )
    say(
        f"Training {run.config['agent']} on {run.config['suite']}: "
        f"{plural(total, 'step')}{rounded}, {plural(o.iterations, 'iteration')} of "
        f"{setup.announcement()}. Run directory: {run.path}"
    )


def _usage() -> str:
    agents = "\n".join(f"  {name:14s} {entry.help}" for name, entry in AGENTS.items())
    return (
        "usage: metarl train AGENT SUITE [options]      a new run (few-shot learners: a data set in the suite's place)\n"
        "       metarl train --resume RUN [options]     go on with one\n\n"
        f"agents:\n{agents}\n  PATH.py:NAME   one of your own; a suite of your own is named so too\n\n"
        "metarl train rl2 --help shows all options; metarl list shows suites and presets.\n"
        "For example: metarl train rl2 ml1:reach-v3"
    )


def command(args: list[str]) -> int:
    """`metarl train`: parse, train. The agent's own settings are options too; a preset moves their defaults.

    A preset that bears a data set's name holds the defaults on it.

    With --resume the defaults are the run's own.
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
    if is_named(own_suite) and entry(chosen).training == ROBOTS and (horizon := find_suite(own_suite).horizon):
        options["horizon"] = horizon
    own, shared = presets[name].settings, options_of(chosen)(**options)
    if run is not None and run.config["agent"] == chosen:
        own, shared = read_config(run.config)
        shared = replace(shared, quiet=False, debug=False)

    @dataclass(frozen=True)
    class Train:
        suite: tyro.conf.Positional[str] = run.config["suite"] if run else tyro.MISSING
        """What to train on: a suite such as ml1:reach-v3 or ml10, or a data set such as omniglot (see `metarl list`)."""
        resume: Path | None = None
        """Go on with this run from its last whole checkpoint, exactly as if it had never stopped. Beside it there may be
        --steps, --device, --engine, --checkpoint-every, --keep-checkpoints, --evaluate-every, --evaluate-on, --quiet."""
        options: Annotated[type(shared), tyro.conf.arg(name="")] = shared  # type: ignore[valid-type]
        settings: Annotated[type(own), tyro.conf.arg(name="")] = own  # type: ignore[valid-type]

    Train.__doc__ = f"Train {chosen}: {entry(chosen).help}."
    given = tyro.cli(Train, prog=f"metarl train {chosen}", args=args[1:] if agent else args)
    suite = suite_label or given.suite
    if given.resume is None:
        start_training(chosen, suite, given.options, given.settings)
    else:
        now = configuration(chosen, suite, given.options, given.settings)
        if given.options.run_dir is not None:
            raise UserError("--run-dir is for new runs: a resumed run goes on where it is")
        resume_training(given.resume, now)
    return 0


@dataclass(frozen=True)
class _Resume:
    resume: Path | None = None


def _kinds(agent: str | None) -> list[Any]:
    """What has the options of this agent's training; None: of any that a run to be resumed may be of."""
    agents = [agent] if agent else list(AGENTS)
    return [_Resume, *{options_of(one) for one in agents}, *(find(one)[1]["default"].settings for one in agents)]
