"""What config.json says, and what it stands for: the one place where an agent's kind of training is looked up."""

from dataclasses import asdict, replace
from importlib import import_module
from typing import Any

from metarl.agents import entry, find
from metarl.devices import choose_device
from metarl.errors import UserError
from metarl.loop import LoopOptions, Training
from metarl.userfiles import notes


def options_of(agent: str) -> type[LoopOptions]:
    """The options that agents of this one's kind share."""
    return import_module(entry(agent).training).OPTIONS


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
    return import_module(entry(config["agent"]).training).set_up(config, settings, replace(options, **changed))


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
