"""`MetaVectorEnv` at its end and in other processes: closing and pickling."""

import multiprocessing
import pickle
import subprocess
import sys
import threading
from typing import Any

import numpy as np
import pytest
from builders.oracle import native_tasks, random_actions, reach

from metarl.envs import MetaVectorEnv, make_vec


def test_close_ends_the_threads() -> None:
    before = set(threading.enumerate())
    env = make_vec(reach(), 4, engine="native", num_threads=4)
    env.reset()
    env.step(np.zeros((4, 4)))
    started = set(threading.enumerate()) - before
    assert started
    env.close()
    assert not [thread for thread in started if thread.is_alive()]
    env.close()


CLOSED = """
import numpy as np
from metarl.envs import make_vec, suite
env = make_vec(suite("ml1:reach-v3").train, 2, engine="native", num_threads=1)
env.reset()
env.close()
try:
    print(env.step(np.zeros((2, 4))))
except Exception as error:
    print("refused")
"""


def test_a_closed_environment_refuses_to_step() -> None:
    """In a process of its own: the simulator's memory is gone."""
    run = subprocess.run([sys.executable, "-c", CLOSED], capture_output=True, text=True, check=False)
    assert (run.returncode, run.stdout) == (0, "refused\n")


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_other_processes_may_step_what_was_described_here(method: str) -> None:
    """A pickled environment is its description; after a fork, the environment itself goes on, with threads of its own."""
    env = make_vec(native_tasks(1), 6, engine="native", num_threads=2)
    env.reset(seed=3)
    expected = [env.step(a)[1] for a in random_actions(3, 6)]
    again = pickle.loads(pickle.dumps(env))
    assert again.tasks == [None] * 6
    context = multiprocessing.get_context(method)
    results = context.Queue()
    process = context.Process(target=_step, args=(env, results))
    process.start()
    found = results.get(timeout=120)
    process.join(60)
    assert process.exitcode == 0
    assert np.array_equal(found, expected)
    env.step(random_actions(1, 6)[0])


def _step(env: MetaVectorEnv, results: Any) -> None:
    env.reset(seed=3)
    results.put([env.step(a)[1] for a in random_actions(3, 6)])
