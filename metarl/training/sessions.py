"""Start or resume a run and train it to its end. The command `metarl train` calls this module."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from metarl.errors import UserError
from metarl.runs.directory import Run, default_path, refuse_existing
from metarl.system.console import say
from metarl.system.counts import plural
from metarl.system.devices import choose_device
from metarl.training.loop import Evaluator, Training, train
from metarl.training.options import LoopOptions
from metarl.training.setup import configuration, resolved, set_up


def start_training(agent: str, suite_name: str, options: LoopOptions, settings: Any, evaluator: Evaluator) -> Run:
    """`metarl train AGENT SUITE`: create a run, with "auto" options resolved for this machine, and train it to its end."""
    options, settings = resolved(options, settings)
    config = configuration(agent, suite_name, options, settings)
    if options.run_dir:
        refuse_existing(options.run_dir)  # before the set-up, which takes time; a failed set-up leaves no directory behind
    setup = set_up(config)
    if options.evaluate_every:
        evaluator.check(setup)
    path = options.run_dir or default_path(agent, suite_name, options.seed)
    run = Run.create(path, {**config, "interface": setup.interface()}, numbered=options.run_dir is None)
    if not options.quiet:
        _announce(run, setup)
    train(run, setup, evaluator)
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
"""Options that may change when a run is resumed; all others affect its results."""


def resume_training(run: Run, named: Path | None, given: dict[str, Any], evaluator: Evaluator) -> Run:
    """`metarl train --resume RUN`: continue from the last intact checkpoint.

    Args:
        run: the run to continue.
        named: the checkpoint to continue from; None: the last intact one.
        given: the content of config.json with the options of this command applied.

    Raises:
        UserError: `given` differs from the checkpoint's configuration in options or settings outside `RESUMABLE`.
    """
    run.lock()
    checkpoint, problems = run.load(named)
    for name, value in given["settings"].items():
        if value == "auto":  # keeps the value that the run started with
            given["settings"][name] = checkpoint.config["settings"].get(name, value)
    different = [line for name, line in _differences(checkpoint.config, given).items() if name not in RESUMABLE]
    if different:
        raise UserError(f"{run.path} was trained with other settings: {'; '.join(different)}. Start a new run with them")
    now, before = given["options"], run.config["options"]
    changed = {name: now[name] for name in RESUMABLE if name in now and now[name] != before.get(name)}
    if given["options"]["device"] == "cuda" and "device" not in changed and not torch.cuda.is_available():
        say(
            "This run was trained on a GPU and there is none here: it resumes on the CPU; figures will differ "
            "in the last digits"
        )
        changed["device"] = "auto"
    if "device" in changed:
        changed["device"] = choose_device(changed["device"]).type
    setup = set_up(run.config, **changed)
    options = setup.options
    for problem in problems:
        say(f"{problem}: going on from the previous one")
    setup.agent.load_state_dict(checkpoint.state)
    if checkpoint.iteration >= options.iterations:
        say(f"{run.path} is trained to its end, {plural(checkpoint.step, 'step')}; --steps trains it further")
        setup.close()
        return run
    for later in run.checkpoints():
        if int(later.name) > checkpoint.step and named:
            raise UserError(f"{run.path} has later checkpoints than {named.name}: resume the run, or copy it and delete them")
    if options.evaluate_every:
        evaluator.check(setup)
    run.config |= {key: given[key] for key in ("files",) if key in given}
    run.config["options"] |= {key: value for key, value in asdict(options).items() if key in changed}
    run.write_config()
    run.drop_metrics_after(checkpoint.iteration)
    if not options.quiet:
        say(f"Resuming at {plural(checkpoint.step, 'step')}")
        if "steps" in changed:
            say("The length changed: schedules (learning rate, entropy bonus) follow the new one")
        _announce(run, setup)
    train(run, setup, evaluator, checkpoint.iteration, checkpoint.step)
    return run


def _differences(before: dict[str, Any], now: dict[str, Any]) -> dict[str, str]:
    """Descriptions of the differences between two configurations, by the name of the setting."""
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
