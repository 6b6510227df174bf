"""Configurations of earlier versions under the names of today."""

import logging
from functools import lru_cache
from typing import Any

log = logging.getLogger("metarl")

OPTIONS = {"horizon": "max_episode_steps"}
"""Options of version 0.2, and what they are called now."""


def migrated(config: dict[str, Any]) -> dict[str, Any]:
    """A configuration with today's names of options; what was renamed is said once in a process."""
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
