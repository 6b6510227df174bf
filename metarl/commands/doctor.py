"""`metarl doctor`: checks whether metarl can use this machine, and says how to fix what it cannot use."""

import os
import platform
import shutil
import subprocess
import sys
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, requires, version
from importlib.util import find_spec
from pathlib import Path
from typing import Literal, NamedTuple

from packaging.requirements import Requirement
from packaging.version import InvalidVersion
from rich.console import Console
from rich.table import Table
from rich.text import Text

from metarl.errors import UserError
from metarl.system import files as cache
from metarl.system import machine
from metarl.system.counts import plural

EXACT = {"mujoco": "3.3.0", "metaworld": "3.1.1"}
"""Versions with which the engine was checked to match stock Meta-World bit for bit."""

MAIN_PACKAGES = ("mujoco", "metaworld", "gymnasium", "numpy", "numba", "torch")
"""Packages that get their own row; the others share one."""

LOW_BYTES = 2e9
"""Bytes of free disk or memory below which the doctor warns."""


class Finding(NamedTuple):
    """One row of the table: the check, its result, the verdict and the advice."""

    check: str
    result: str
    verdict: Literal["ok", "warning", "problem"] = "ok"
    advice: str = ""


@dataclass(frozen=True)
class Doctor:
    """Check this machine: versions, cores, GPU, rendering, cache, disk and memory, with advice on each problem.

    Exit status: 0, or 2 if there is a problem. Warnings concern things that not everyone needs.
    """

    def main(self) -> int:
        """Print the table and return the exit status."""
        rows = findings()
        colours = {"ok": "green", "warning": "yellow", "problem": "bold red"}
        table = Table(title="metarl doctor", title_justify="left")
        for heading in ("check", "found", "verdict", "what to do"):
            table.add_column(heading, overflow="fold")
        for row in rows:
            table.add_row(row.check, Text(row.result), Text(row.verdict, colours[row.verdict]), Text(row.advice))
        console = Console()
        console.print(table)
        problems, warned = (sum(row.verdict == verdict for row in rows) for verdict in ("problem", "warning"))
        summary = f"{plural(problems, 'problem')}, {plural(warned, 'warning')}" if problems or warned else "all well"
        console.print(summary)
        return 2 if problems else 0


def findings() -> list[Finding]:
    """Run all checks and return their rows in order. A check that raises becomes a warning, not a traceback."""
    checks: dict[str, Callable[[], list[Finding]]] = {
        "platform": _platform,
        "packages": _packages,
        "libmujoco": _libmujoco,
        "CPU": _cpu,
        "GPU": _gpu,
        "drawing": _drawing,
        "cache": _cache,
        "disk": _disk,
        "memory": _memory,
    }
    rows = []
    for name, check in checks.items():
        try:
            rows += check()
        except Exception as error:
            rows.append(Finding(name, f"could not be checked: {type(error).__name__}: {error}", "warning"))
    return rows


def _platform() -> list[Finding]:
    system = Finding("platform", platform.platform(terse=True))
    if platform.system() != "Linux":
        advice = "metarl runs on Linux: use WSL 2 on Windows, a Linux container or virtual machine on a Mac"
        system = system._replace(verdict="problem", advice=advice)
    python = Finding("Python", f"{platform.python_version()} at {sys.executable}")
    if not (3, 11) <= sys.version_info[:2] <= (3, 13):
        python = python._replace(verdict="problem", advice="use Python 3.11, 3.12 or 3.13")
    return [system, python]


def _packages() -> list[Finding]:
    try:
        requirements = [Requirement(line) for line in requires("metarl") or []]
        rows = [Finding("metarl", version("metarl"))]
    except PackageNotFoundError:
        advice = "pip install -e . in metarl's folder"
        return [Finding("metarl", "not installed", "problem", advice)]
    required = {r.name: r for r in requirements if r.marker is None or r.marker.evaluate({"extra": ""})}
    main_rows = [_package(required[name]) for name in MAIN_PACKAGES if name in required]
    other_rows = [_package(requirement) for name, requirement in required.items() if name not in MAIN_PACKAGES]
    failing = [row for row in other_rows if row.verdict != "ok"]
    summary = Finding("other packages", f"{len(other_rows) - len(failing)} of {len(other_rows)} in metarl's ranges")
    return [*rows, *main_rows, summary, *failing]


def _package(requirement: Requirement) -> Finding:
    """Compare an installed version with the tested one, or with the range that metarl requires."""
    name, required = requirement.name, str(requirement.specifier)
    install = f'pip install "{name}{required}"'
    try:
        installed = version(name)
        in_range = requirement.specifier.contains(installed, prereleases=True)
    except PackageNotFoundError:
        return Finding(name, "not installed", "problem", install)
    except InvalidVersion:
        return Finding(name, "a version that cannot be compared", "warning", install)
    if name in EXACT and installed != EXACT[name]:
        advice = f'pip install "{name}=={EXACT[name]}": exactness was checked with that version'
        return Finding(name, installed, "problem", advice)
    if not in_range:
        return Finding(name, f"{installed} (tested: {required})", "warning", install)
    return Finding(name, installed)


def _libmujoco() -> list[Finding]:
    """Check that the libmujoco file exists, since the engine calls it directly, and that mujoco imports."""
    spec = find_spec("mujoco")
    if spec is None or spec.origin is None:
        return []  # the package's own row already says so
    files = sorted(Path(spec.origin).parent.glob("libmujoco.so.*"))
    advice = f"pip install --force-reinstall mujoco=={EXACT['mujoco']}"
    if not files:
        return [Finding("libmujoco", "the library is missing", "problem", advice)]
    command, environment = [sys.executable, "-P", "-c", "import mujoco"], os.environ | {"MUJOCO_GL": "disabled"}
    process = subprocess.run(
        command, env=environment, capture_output=True, text=True, errors="replace", timeout=60, check=False
    )
    if process.returncode != 0:
        lines = process.stderr.strip().splitlines() or ["no message"]
        return [Finding("libmujoco", f"import mujoco fails: {lines[-1]}", "problem", advice)]
    return [Finding("libmujoco", str(files[0]))]


def _cpu() -> list[Finding]:
    import torch

    cores, threads = machine.usable_cores(), torch.get_num_threads()
    row = Finding("CPU", f"{cores:g} of {os.cpu_count()} cores usable, {plural(threads, 'torch thread')}")
    if threads > max(1, cores):
        advice = f"export OMP_NUM_THREADS={max(1, int(cores))}: more threads than cores slow each other down"
        row = row._replace(verdict="warning", advice=advice)
    return [row]


def _gpu() -> list[Finding]:
    import torch

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch warns about old drivers; the verdict below covers that
        available = torch.cuda.is_available()
    if not available:
        if Path("/dev/nvidia0").exists():
            advice = "training runs on the CPU; for the GPU install a torch built for your driver's CUDA"
            return [Finding("GPU", f"NVIDIA, not usable by torch {torch.__version__}", "warning", advice)]
        return [Finding("GPU", "none: training runs on the CPU")]
    devices = [torch.cuda.get_device_properties(i) for i in range(torch.cuda.device_count())]
    return [Finding("GPU", "; ".join(f"{d.name}, {_size(d.total_memory)}" for d in devices))]


def _drawing() -> list[Finding]:
    # Imported here because metarl.envs imports mujoco, metaworld and numba: a missing one must give a row, not a traceback.
    from metarl.envs.rendering.opengl import find_backend

    try:
        backend = find_backend()
    except UserError as error:
        return [Finding("drawing", "no OpenGL; only pictures and videos need it", "warning", str(error))]
    return [Finding("drawing", backend)]


def _cache() -> list[Finding]:
    folder = cache.directory()
    error = cache.refusal(folder)
    if error is not None:
        advice = "set METARL_CACHE to a writable folder, or every start rebuilds everything"
        return [Finding("cache", f"{folder} cannot be written: {error}", "warning", advice)]
    size = sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
    return [Finding("cache", f"{folder}, {_size(size)}")]


def _disk() -> list[Finding]:
    free = shutil.disk_usage(Path.cwd()).free
    row = Finding("disk", f"{_size(free)} free here")
    return [
        row if free >= LOW_BYTES else row._replace(verdict="warning", advice="runs go to ./runs: make room or use --run-dir")
    ]


def _memory() -> list[Finding]:
    available = machine.available_memory()
    row = Finding("memory", f"{_size(available)} available")
    return [row if available >= LOW_BYTES else row._replace(verdict="warning", advice="use a smaller --num-envs")]


def _size(n: float) -> str:
    """Format a number of bytes, in powers of 1000 as disk makers do."""
    for unit in ("B", "kB", "MB"):
        if n < 1000:
            return f"{n:.0f} {unit}"
        n /= 1000
    return f"{n:.1f} GB"
