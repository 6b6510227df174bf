"""Turn config.json into options, settings, agent and source. Only this module looks up an agent's kind of training."""

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
"""The module of each kind of training, with OPTIONS and set_up. Only the one needed is imported."""


def options_of(agent: str) -> type[LoopOptions]:
    """The options class for this agent's kind of training.

    Raises:
        UserError: settings or presets of a user-defined agent conflict with these options.
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
        raise UserError(f"{agent}: {', '.join(unknown)} is not an option of its training")


def read_config(config: dict[str, Any]) -> tuple[Any, Any]:
    """The agent's settings and the options that config.json holds.

    Raises:
        UserError: the configuration does not fit this version.
    """
    try:
        _, presets = find(config["agent"])
        settings = {key: tuple(value) if isinstance(value, list) else value for key, value in config["settings"].items()}
        return type(presets["default"].settings)(**settings), options_of(config["agent"])(**config["options"])
    except (TypeError, KeyError) as error:
        raise UserError(f"config.json does not fit this version: {error}") from None


def set_up(config: dict[str, Any], **changed: Any) -> Training:
    """Create the options, the untrained agent and the source that config.json describes.

    Args:
        config: the content of config.json.
        changed: options that replace the configured ones.
    """
    settings, options = read_config(config)
    return import_module(_MODULES[entry(config["agent"]).training]).set_up(config, settings, replace(options, **changed))


def trained_control(run: Run, checkpoint: Checkpoint, **changed: Any) -> "control.Setup":
    """A run's suite and its agent, restored from a checkpoint; the environments are closed.

    Args:
        changed: options that replace the configured ones.

    Raises:
        UserError: the run's agent was not trained on environments.
    """
    from metarl.training import control

    if entry(run.config["agent"]).training != CONTROL:
        raise UserError(f"{run.path} was trained on {run.config['suite']}, which has no robots")
    settings, options = read_config(run.config)
    setup = control.set_up(run.config, settings, replace(options, **changed), num_envs=1)
    setup.close()
    setup.agent.load_state_dict(checkpoint.state)
    return setup


def trained_few_shot(run: Run, checkpoint: Checkpoint, ways: int | None = None, **changed: Any) -> "fewshot.Setup":
    """A run's data and its learner, restored from a checkpoint.

    Args:
        ways: number of classes per episode; default: as in training.
        changed: options that replace the configured ones.

    Raises:
        UserError: the run is not a few-shot run, or its learner cannot change the number of ways.
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
                f"{run.config['agent']} was trained with {setup.agent.ways} ways, and its head takes no other number"
            )
        setup.agent.ways = ways
    return setup


def resolved(options: LoopOptions, settings: Any) -> tuple[LoopOptions, Any]:
    """Options and settings with "auto" replaced by this machine's value, where the value affects results.

    This covers the device, and what the settings' own `resolved(device)` replaces. It does not cover the engine: the
    engines agree to within rounding.
    """
    device = choose_device(options.device).type
    return replace(options, device=device), settings.resolved(device) if hasattr(settings, "resolved") else settings


def configuration(agent: str, suite_name: str, options: LoopOptions, settings: Any) -> dict[str, Any]:
    """The content of config.json, without the entries that `Run.create` adds."""
    plain = {**asdict(options), "run_dir": None}
    return {"agent": agent, "suite": suite_name, **notes(agent, suite_name), "options": plain, "settings": asdict(settings)}


def interface_of(config: dict[str, Any]) -> Interface:
    """The interface in config.json; for older runs without one, the interface of their training, which is set up for this."""
    if "interface" not in config:
        setup = set_up(config, device="cpu", **({"num_envs": 1} if entry(config["agent"]).training == CONTROL else {}))
        setup.close()
        return setup.interface()
    return config["interface"]


def untrained(config: dict[str, Any], device: torch.device) -> Agent:
    """A configuration's agent with initial weights, built from its interface without environments or data.

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
    scale = InputScale((0.0,) * n, (1.0,) * n, 0.0, 1.0) if fixed else None  # placeholders: the weights bring the real numbers
    return agent_class(
        settings, observations, actions, scale, seed=options.seed, device=device, total_iterations=options.iterations
    )
