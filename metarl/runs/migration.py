"""Rename options in configurations of earlier versions."""

import logging
from functools import lru_cache
from typing import Any

log = logging.getLogger("metarl")

OPTIONS = {"horizon": "max_episode_steps"}
"""Options of version 0.2 and their current names."""


def migrated(config: dict[str, Any]) -> dict[str, Any]:
    """The configuration with current option names; logs each renamed option once per process."""
    options = config.get("options")
    old = OPTIONS.keys() & options.keys() if isinstance(options, dict) else set()
    if not old:
        return config
    for name in sorted(old):
        _say(name)
    return {**config, "options": {OPTIONS.get(name, name): value for name, value in config["options"].items()}}


@lru_cache
def _say(name: str) -> None:
    log.info("a run of version 0.2: its option %s is read as %s", name, OPTIONS[name])
