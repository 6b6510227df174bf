"""Measure the resources that this process may use: cores, memory, energy, package versions."""

import ctypes
import os
import platform
import resource
from collections.abc import Iterable
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path


def usable_cores() -> float:
    """Return the cores that this process may use: its affinity, or the quota of its control groups if lower."""
    try:
        cores: float = len(os.sched_getaffinity(0))
    except OSError:  # a sandbox that does not report it
        cores = os.cpu_count() or 1
    for text in cgroup_files("cpu.max"):
        quota, period = text.split()
        if quota != "max":
            cores = min(cores, int(quota) / int(period))
    return cores


def cgroup_files(name: str) -> list[str]:
    """Return the contents of this file in the process's control group (version 2) and its ancestors."""
    try:
        line = next(line for line in Path("/proc/self/cgroup").read_text().splitlines() if line.startswith("0::"))
    except (OSError, StopIteration):
        return []
    root = Path("/sys/fs/cgroup")
    folder = root / line[3:].lstrip("/")
    files = [place / name for place in (folder, *folder.parents) if place.is_relative_to(root)]
    contents = []
    for file in files:
        with suppress(OSError):  # the group has no such limit, or is unreadable
            contents.append(file.read_text().strip())
    return contents


def available_memory() -> int:
    """Return the bytes that this process may still allocate: the machine's available memory, or less by control groups."""
    lines = Path("/proc/meminfo").read_text().splitlines()
    available = next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable"))
    limits = [*zip(cgroup_files("memory.max"), cgroup_files("memory.current")), *_first_version_memory()]
    return min([available, *(int(limit) - int(used) for limit, used in limits if limit != "max")])


def _first_version_memory() -> list[tuple[str, str]]:
    """Return limit and usage of memory by control groups version 1, as seen inside a container."""
    files = [Path("/sys/fs/cgroup/memory", f"memory.{name}_in_bytes") for name in ("limit", "usage")]
    try:
        limit, used = (file.read_text().strip() for file in files)
    except OSError:
        return []
    return [(limit, used)]


def processor() -> str:
    """Return the processor's model name."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return models[0] if models else platform.machine()


class EnergyMeter:
    """Measure the energy used by the processor packages, from their RAPL counters, if the system allows reading them.

    The counters cover the whole machine, including other processes.
    """

    def __init__(self, root: Path = Path("/sys/class/powercap")) -> None:
        self.counters = sorted(root.glob("intel-rapl:?"))  # one domain per package; AMD's have the same name
        self.last = self._read()

    def _read(self) -> list[int] | None:
        """Return microjoules of each package; None: not readable."""
        try:
            return [int((counter / "energy_uj").read_text()) for counter in self.counters] or None
        except (OSError, ValueError):
            return None

    def joules(self) -> float | None:
        """Return the energy since the last call or the start; None: not readable."""
        before, self.last = self.last, self._read()
        if before is None or self.last is None:
            return None
        microjoules = 0
        for counter, start, end in zip(self.counters, before, self.last):
            # a counter wraps around at its maximum
            microjoules += end - start if end >= start else end - start + int((counter / "max_energy_range_uj").read_text())
        return microjoules / 1e6


def versions(packages: Iterable[str]) -> dict[str, str]:
    """Return the installed versions of these packages; packages that are not installed are omitted."""
    installed = {}
    for name in packages:
        with suppress(PackageNotFoundError):
            installed[name] = version(name)
    return installed


def resident() -> int:
    """Return the resident memory of this process in bytes."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


def return_memory() -> None:
    """Return freed memory to the system; glibc would otherwise hold on to the memory of hundreds of freed MjData."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)


def worker_count() -> int:
    """Return the number of threads or processes that keeps the usable cores busy, at least 1."""
    return max(1, round(usable_cores()))
