"""Record the machine, package versions and git commit of a run, for config.json."""

import platform
import subprocess
import time
from pathlib import Path
from typing import Any

import torch

from metarl.system.machine import processor, usable_cores, versions

PACKAGES = ("torch", "metaworld", "mujoco", "gymnasium", "numpy", "numba", "stable-baselines3")


def provenance() -> dict[str, Any]:
    """The machine, the packages and the commit, as config.json records them."""
    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else None
    return {
        "machine": {"processor": processor(), "usable_cores": usable_cores(), "gpu": gpu},
        "packages": versions(PACKAGES),
        "python": platform.python_version(),
        "git_commit": git_commit(),
        "cuda": torch.version.cuda,
        "started": time.strftime("%Y-%m-%d %H:%M:%S %z"),
    }


def git_commit() -> str | None:
    """Commit of the checkout that metarl runs from, with "+" if files differ from it; None outside a checkout."""
    root = Path(__file__).resolve().parents[2]
    if not (root / ".git").exists():
        return None
    try:
        git = ["git", "-C", str(root)]
        head = subprocess.run(
            [*git, "rev-parse", "HEAD"], capture_output=True, text=True, timeout=10, check=True
        ).stdout.strip()
        changed = subprocess.run([*git, "status", "--porcelain"], capture_output=True, text=True, timeout=10, check=True).stdout
    except (OSError, subprocess.SubprocessError):
        return None
    return head + ("+" if changed.strip() else "")
