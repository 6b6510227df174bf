"""Start or resume a run and train it to its end. The command `metarl train` calls this module."""

from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import torch

from metarl.errors import UserError
from metarl.runs.directory import Run, default_path, refuse_existing
from metarl.runs.experiment import Experiment
from metarl.system.console import say
from metarl.system.counts import plural
from metarl.system.devices import choose_device
from metarl.training.loop import Evaluator, Training, train
from metarl.training.setup import set_up


def start_training(experiment: Experiment, evaluator: Evaluator) -> Run:
    """`metarl train AGENT SUITE`: create a run, with "auto" options resolved for this machine, and train it to its end."""
    options = experiment.options
    if options.run_dir:
        refuse_existing(options.run_dir)  # before the set-up, which takes time; a failed set-up leaves no directory behind
    experiment = experiment.resolved()
    setup = set_up(experiment)
    if options.evaluate_every:
        evaluator.check(setup)
    path = options.run_dir or default_path(experiment.agent, experiment.suite, options.seed)
    run = Run.create(path, replace(experiment, io_spec=setup.io_spec()), numbered=options.run_dir is None)
    if not options.quiet:
        _announce(run, setup)
    train(run, setup, evaluator)
    return run


RESUMABLE = (
    "steps",
    "device",
    "engine",
    "acting",
    "checkpoint_every",
    "keep_checkpoints",
    "evaluate_every",
    "evaluate_on",
    "quiet",
    "debug",
)
"""Options that may change when a run is resumed; all others affect its results."""


def resume_training(run: Run, named: Path | None, experiment: Experiment, evaluator: Evaluator) -> Run:
    """`metarl train --resume RUN`: continue from the last intact checkpoint.

    Args:
        run: the run to continue.
        named: the checkpoint to continue from; None: the last intact one.
        experiment: the run's experiment with the options of this command applied.

    Raises:
        UserError: the experiment differs from the checkpoint's in options or settings outside `RESUMABLE`.
    """
    run.lock()
    checkpoint, problems = run.load(named)
    before = run.experiment
    experiment = replace(experiment, settings=_keeping_auto(experiment.settings, before.settings), io_spec=before.io_spec)
    # settings that were added since get their defaults
    trained = Experiment.from_json({**run.config, **checkpoint.config}, str(checkpoint.path / "checkpoint.json"))
    different = [line for name, line in _differences(trained, experiment).items() if name not in RESUMABLE]
    if different:
        raise UserError(f"{run.path} was trained with other settings: {'; '.join(different)}. Start a new run with them")
    device = experiment.options.device
    if device == before.options.device == "cuda" and not torch.cuda.is_available():
        say(
            "This run was trained on a GPU and there is none here: it resumes on the CPU; figures will differ "
            "in the last digits"
        )
        device = "auto"
    experiment = experiment.changed(device=choose_device(device).type)
    setup, options = set_up(experiment), experiment.options
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
    run.change(replace(experiment, io_spec=setup.io_spec()))
    run.drop_metrics_after(checkpoint.iteration)
    if not options.quiet:
        say(f"Resuming at {plural(checkpoint.step, 'step')}")
        if options.steps != before.options.steps:
            say("The length changed: schedules (learning rate, entropy bonus) follow the new one")
        _announce(run, setup)
    train(run, setup, evaluator, checkpoint.iteration, checkpoint.step)
    return run


def _keeping_auto(settings: Any, before: Any) -> Any:
    """The settings with the values that the run started with where they are "auto"."""
    automatic = [field.name for field in fields(settings) if getattr(settings, field.name) == "auto"]
    return replace(settings, **{name: getattr(before, name, "auto") for name in automatic})


def _differences(before: Experiment, now: Experiment) -> dict[str, str]:
    """Descriptions of the differences between two experiments, by the name of the setting."""
    old, new = (
        {"agent": config["agent"], "suite": config["suite"], **config["options"], **config["settings"]}
        for config in (before.to_json(), now.to_json())
    )
    names = [name for name in {**old, **new} if old.get(name) != new.get(name)]
    return {name: f"{name} was {old.get(name)}, not {new.get(name)}" for name in names}


def _announce(run: Run, setup: Training) -> None:
    o, total = setup.options, setup.options.total_steps
    rounded = f" ({o.steps:,} rounded up to whole iterations)" if total != o.steps else ""
    if total > 1.1 * o.steps:
        say(
            f"Beware: --steps {o.steps:,} trains {total:,}, as an iteration has {o.steps_per_iteration:,} and is never cut. "
            f"Smaller iterations: {o.shorter}"
        )
    say(
        f"Training {run.experiment.agent} on {run.experiment.suite}: "
        f"{plural(total, 'step')}{rounded}, {plural(o.iterations, 'iteration')} of "
        f"{setup.announcement()}. Run directory: {run.path}"
    )
