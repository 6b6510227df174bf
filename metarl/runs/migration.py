"""Rename keys and options in configurations of earlier versions."""

import logging
from functools import lru_cache
from typing import Any

log = logging.getLogger("metarl")

KEYS = {"interface": "io_spec"}
"""Keys of config.json in version 0.2 and their current names."""
OPTIONS = {"horizon": "max_episode_steps"}
"""Options of version 0.2 and their current names."""


def migrated(config: dict[str, Any]) -> dict[str, Any]:
    """The configuration with current names; logs once per process that names are of an earlier version."""
    config = _renamed(config, KEYS)
    options = config.get("options")
    return {**config, "options": _renamed(options, OPTIONS)} if isinstance(options, dict) else config


def _renamed(entries: dict[str, Any], names: dict[str, str]) -> dict[str, Any]:
    if names.keys() & entries.keys():
        _say_once()
    return {names.get(name, name): value for name, value in entries.items()}


@lru_cache
def _say_once() -> None:
    names = ", ".join(f"{old} as {new}" for old, new in {**OPTIONS, **KEYS}.items())
    log.info("this was made by version 0.2: its config.json is read with the current names (%s)", names)
