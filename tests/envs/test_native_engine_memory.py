"""Memory of many environments, and its release by `close`."""

import subprocess
import sys
from collections.abc import Iterator

import pytest
from builders.oracle import native_tasks

from metarl.envs import TaskDistribution, make_vec

MEMORY = """
import gc
import numpy as np
from metarl.envs import make_vec, suite

def megabytes(key):
    # not getrusage: across fork and exec its maximum begins with the parent's
    return next(int(l.split()[1]) for l in open("/proc/self/status") if l.startswith(key)) / 1024

tasks = suite("ml1:pick-place-v3").train

def use(num_envs):
    env = make_vec(tasks, num_envs, engine="native")
    env.reset()
    for _ in range(5):
        env.step(np.zeros((num_envs, 4), np.float32))
    env.close()

use(1)
start = megabytes("VmRSS")
use(400)
gc.collect()
print(megabytes("VmHWM"), megabytes("VmRSS") - start)
"""


@pytest.fixture(scope="module")
def memory() -> Iterator[tuple[float, float]]:
    """MB of a process with 400 environments: the peak, and the growth that remains after `close`."""
    make_vec(TaskDistribution(native_tasks(1).tasks[:1]), 1, engine="native").close()  # compile in this process, once
    process = subprocess.run([sys.executable, "-c", MEMORY], capture_output=True, text=True, check=True)
    peak, remaining = map(float, process.stdout.split())
    return peak, remaining


def test_400_environments_stay_below_4_gb(memory: tuple[float, float]) -> None:
    assert 100 < memory[0] < 4000


def test_close_releases_the_memory(memory: tuple[float, float]) -> None:
    assert memory[1] < 200
