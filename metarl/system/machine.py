"""What of the machine this process may use."""

import ctypes
import os
import platform
import resource
from collections.abc import Iterable
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path


def usable_cores() -> float:
    """Cores that this process may use: its affinity, or the quota of its control groups where that is less."""
    try:
        cores: float = len(os.sched_getaffinity(0))
    except OSError:  # a sandbox that does not tell
        cores = os.cpu_count() or 1
    for text in cgroup_files("cpu.max"):
        quota, period = text.split()
        if quota != "max":
            cores = min(cores, int(quota) / int(period))
    return cores


def cgroup_files(name: str) -> list[str]:
    """Contents of this file in the process's control group (version 2) and in all above it."""
    try:
        line = next(line for line in Path("/proc/self/cgroup").read_text().splitlines() if line.startswith("0::"))
    except (OSError, StopIteration):
        return []
    root = Path("/sys/fs/cgroup")
    folder = root / line[3:].lstrip("/")
    files = [place / name for place in (folder, *folder.parents) if place.is_relative_to(root)]
    contents = []
    for file in files:
        with suppress(OSError):  # of a group that has no such limit, or may not be read
            contents.append(file.read_text().strip())
    return contents


def available_memory() -> int:
    """Bytes that this process may still take: what the machine has available, or its control groups where that is less."""
    lines = Path("/proc/meminfo").read_text().splitlines()
    available = next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable"))
    limits = [*zip(cgroup_files("memory.max"), cgroup_files("memory.current")), *_first_version_memory()]
    return min([available, *(int(limit) - int(used) for limit, used in limits if limit != "max")])


def _first_version_memory() -> list[tuple[str, str]]:
    """Limit and use of memory of the control group, in version 1 of control groups, as a container sees its own."""
    files = [Path("/sys/fs/cgroup/memory", f"memory.{name}_in_bytes") for name in ("limit", "usage")]
    try:
        limit, used = (file.read_text().strip() for file in files)
    except OSError:
        return []
    return [(limit, used)]


def processor() -> str:
    """The processor's name, as it gives it itself."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return models[0] if models else platform.machine()


class EnergyMeter:
    """Energy that the processor packages took, by their own counters (RAPL), where the system lets them be read.

    It is the whole machine's, whatever else runs on it.
    """

    def __init__(self, root: Path = Path("/sys/class/powercap")) -> None:
        self.counters = sorted(root.glob("intel-rapl:?"))  # a domain a package; AMD's have the same name
        self.last = self._read()

    def _read(self) -> list[int] | None:
        """Microjoules of each package; None: there are none to read."""
        try:
            return [int((counter / "energy_uj").read_text()) for counter in self.counters] or None
        except (OSError, ValueError):
            return None

    def joules(self) -> float | None:
        """Since the last call, or the start."""
        before, self.last = self.last, self._read()
        if before is None or self.last is None:
            return None
        total = 0
        for counter, was, now in zip(self.counters, before, self.last):
            # a counter starts anew at its end
            total += now - was if now >= was else now - was + int((counter / "max_energy_range_uj").read_text())
        return total / 1e6


def versions(packages: Iterable[str]) -> dict[str, str]:
    """The version of each of these packages that is installed."""
    found = {}
    for name in packages:
        with suppress(PackageNotFoundError):
            found[name] = version(name)
    return found


def resident() -> int:
    """Bytes of memory that this process has in use."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


def return_memory() -> None:
    """Give freed memory back to the system: glibc keeps what hundreds of MjData took, for allocations that never come."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)


def worker_count() -> int:
    """How many threads or processes keep the usable cores busy, at least 1."""
    return max(1, round(usable_cores()))
