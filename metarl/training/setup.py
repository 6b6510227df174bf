"""What config.json says, and what it stands for: the one place where an agent's kind of training is looked up."""

from dataclasses import asdict, fields, replace
from importlib import import_module
from typing import TYPE_CHECKING, Any

import torch

from metarl.agents import CONTROL, FEW_SHOT, Preset, entry, find
from metarl.errors import UserError
from metarl.learner import Agent
from metarl.nn.input_scaling import InputScale
from metarl.runs.checkpoints import Checkpoint
from metarl.runs.directory import Run
from metarl.runs.io_spec import Interface, spaces
from metarl.system.devices import choose_device
from metarl.system.user_code import is_named, notes
from metarl.training.loop import Training
from metarl.training.options import LoopOptions

if TYPE_CHECKING:
    from metarl.training import control, fewshot


_MODULES = {CONTROL: "metarl.training.control", FEW_SHOT: "metarl.training.fewshot"}
"""Of each kind of training: a module with OPTIONS and set_up. Only the one that is needed is imported."""


def options_of(agent: str) -> type[LoopOptions]:
    """The options that agents of this one's kind share.

    Raises:
        UserError: an agent of the user has settings or presets that do not go with them.
    """
    options = import_module(_MODULES[entry(agent).training]).OPTIONS
    if is_named(agent):
        for preset in find(agent)[1].values():
            _check_preset(agent, preset, {field.name for field in fields(options)} | {"suite", "resume"})
    return options


def _check_preset(agent: str, preset: Preset, known: set[str]) -> None:
    taken = sorted(known & {field.name for field in fields(preset.settings)})
    if taken:
        raise UserError(f"{agent}: {', '.join(taken)} is an option of every training already: give the setting another name")
    unknown = sorted(preset.options.keys() - known)
    if unknown:
        raise UserError(f"{agent}: {', '.join(unknown)} is no option of its training")


def read_config(config: dict[str, Any]) -> tuple[Any, Any]:
    """The agent's settings and the options that config.json holds.

    Raises:
        UserError: it does not fit this version.
    """
    try:
        _, presets = find(config["agent"])
        settings = {key: tuple(value) if isinstance(value, list) else value for key, value in config["settings"].items()}
        return type(presets["default"].settings)(**settings), options_of(config["agent"])(**config["options"])
    except (TypeError, KeyError) as error:
        raise UserError(f"config.json does not fit this version: {error}") from None


def set_up(config: dict[str, Any], **changed: Any) -> Training:
    """Make what config.json describes, untrained: options, agent, source.

    Args:
        config: as in config.json.
        changed: options that replace the configured ones.
    """
    settings, options = read_config(config)
    return import_module(_MODULES[entry(config["agent"]).training]).set_up(config, settings, replace(options, **changed))


def trained_control(run: Run, checkpoint: Checkpoint, **changed: Any) -> "control.Setup":
    """A run's suite and its agent as it was at a checkpoint; the environments are closed.

    Args:
        changed: options that replace the configured ones.

    Raises:
        UserError: the run is not one of an agent that acts.
    """
    from metarl.training import control

    if entry(run.config["agent"]).training != CONTROL:
        raise UserError(f"{run.path} was trained on {run.config['suite']}: there are no robots in it")
    settings, options = read_config(run.config)
    setup = control.set_up(run.config, settings, replace(options, **changed), slots=1)
    setup.close()
    setup.agent.load_state_dict(checkpoint.state)
    return setup


def trained_few_shot(run: Run, checkpoint: Checkpoint, ways: int | None = None, **changed: Any) -> "fewshot.Setup":
    """A run's data and its learner as it was at a checkpoint.

    Args:
        ways: of the episodes it is to answer; default: as trained.
        changed: options that replace the configured ones.

    Raises:
        UserError: the run is not a few-shot one, or its learner knows no other ways.
    """
    from metarl.training import fewshot

    if entry(run.config["agent"]).training != FEW_SHOT:
        raise UserError(f"{run.path} is a run of robots, not of a few-shot learner")
    settings, options = read_config(run.config)
    setup = fewshot.set_up(run.config, settings, replace(options, **changed))
    setup.agent.load_state_dict(checkpoint.state)
    if ways is not None and ways != setup.agent.ways:
        if not setup.agent.any_ways:
            raise UserError(
                f"{run.config['agent']} was trained with {setup.agent.ways} ways and its head knows no other number"
            )
        setup.agent.ways = ways
    return setup


def resolved(options: LoopOptions, settings: Any) -> tuple[LoopOptions, Any]:
    """Both with what "auto" stands for on this machine in place of it, wherever that decides numbers.

    It is the device, and what the settings' own `resolved(device)` says. No engine does: they are equal bit for bit.
    """
    device = choose_device(options.device).type
    return replace(options, device=device), settings.resolved(device) if hasattr(settings, "resolved") else settings


def configuration(agent: str, suite_name: str, options: LoopOptions, settings: Any) -> dict[str, Any]:
    """The content of config.json, but for what `Run.create` adds."""
    plain = {**asdict(options), "run_dir": None}
    return {"agent": agent, "suite": suite_name, **notes(agent, suite_name), "options": plain, "settings": asdict(settings)}


def interface_of(config: dict[str, Any]) -> Interface:
    """The interface that config.json holds; of runs made before it did, that of what they train on, which is made for it."""
    if "interface" not in config:
        setup = set_up(config, device="cpu", **({"num_envs": 1} if entry(config["agent"]).training == CONTROL else {}))
        setup.close()
        return setup.interface()
    return config["interface"]


def untrained(config: dict[str, Any], device: torch.device) -> Agent:
    """The agent of a configuration with its first weights, from its interface alone.

    Raises:
        UserError: the configuration does not fit this version.
    """
    interface = interface_of(config)
    settings, options = read_config(config)
    agent_class, _ = find(config["agent"])
    if entry(config["agent"]).training != CONTROL:
        from metarl.agents.fewshot.networks import Kind

        try:
            kind = Kind(interface["kind"], tuple(map(int, interface["shape"])), int(interface["outputs"]))
            return agent_class(
                settings,
                kind,
                seed=options.seed,
                device=device,
                classes=int(interface["classes"]),
                total_updates=options.total_steps,
            )
        except (KeyError, TypeError, ValueError, IndexError) as error:
            raise UserError(f"the learner's interface is damaged: {error}") from None
    observations, actions = spaces(interface)
    n, fixed = observations.shape[0], interface.get("input_scale") == "fixed"
    scale = InputScale((0.0,) * n, (1.0,) * n, 0.0, 1.0) if fixed else None  # its figures come with the weights
    return agent_class(
        settings, observations, actions, scale, seed=options.seed, device=device, total_iterations=options.iterations
    )
