"""`MetaVectorEnv`: closing, and use in other processes."""

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
    threads_before = set(threading.enumerate())
    env = make_vec(reach(), 4, engine="native", num_threads=4)
    env.reset()
    env.step(np.zeros((4, 4)))
    started_threads = set(threading.enumerate()) - threads_before
    assert started_threads
    env.close()
    assert not [thread for thread in started_threads if thread.is_alive()]
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
    """In a separate process, because the simulator's memory has been freed."""
    process = subprocess.run([sys.executable, "-c", CLOSED], capture_output=True, text=True, check=False)
    assert (process.returncode, process.stdout) == (0, "refused\n")


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_an_environment_can_be_pickled_or_forked(method: str) -> None:
    """A pickled environment holds only its description; a forked one continues with its own threads."""
    env = make_vec(native_tasks(1), 6, engine="native", num_threads=2)
    env.reset(seed=3)
    expected = [env.step(a)[1] for a in random_actions(3, 6)]
    unpickled = pickle.loads(pickle.dumps(env))
    assert unpickled.tasks == [None] * 6
    context = multiprocessing.get_context(method)
    results = context.Queue()
    process = context.Process(target=_step, args=(env, results))
    process.start()
    rewards = results.get(timeout=120)
    process.join(60)
    assert process.exitcode == 0
    assert np.array_equal(rewards, expected)
    env.step(random_actions(1, 6)[0])


def _step(env: MetaVectorEnv, results: Any) -> None:
    env.reset(seed=3)
    results.put([env.step(a)[1] for a in random_actions(3, 6)])
