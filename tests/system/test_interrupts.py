"""An interrupt that comes while threads are given work waits until they have it: else a lock may stay held for ever."""

import signal

import numpy as np
import pytest
from builders.oracle import reach

from metarl.envs import make_vec
from metarl.system.devices import Workers
from metarl.system.interrupts import held, interruptible


def _interrupting(pool, calls):
    """Every time that the pool is given work an interrupt comes, in the midst of it."""
    submit = pool.submit

    def interrupted(*args):
        signal.raise_signal(signal.SIGINT)
        future = submit(*args)
        calls.append(args)
        return future

    pool.submit = interrupted
    return lambda: setattr(pool, "submit", submit)


def test_workers_have_all_their_parts_before_the_interrupt_comes():
    workers, calls, done = Workers(2, "test"), [], []
    calm = _interrupting(workers.pool, calls)
    with pytest.raises(KeyboardInterrupt), interruptible():
        # the second interrupt would end the process: one part alone
        workers.map(done.append, [1])
    calm()
    assert len(calls) == 1
    assert workers.map(lambda x: x + 1, range(5)) == [1, 2, 3, 4, 5]
    assert done == [1]


def test_the_engine_ends_its_step_before_the_interrupt_comes():
    env = make_vec(reach(), 4, num_threads=2)
    env.reset(seed=0)
    calls = []
    calm = _interrupting(env.engine._helpers(), calls)
    with pytest.raises(KeyboardInterrupt), interruptible():
        env.step(np.zeros((4, 4), np.float32))
    calm()
    assert len(calls) == 1
    env.step(np.zeros((4, 4), np.float32))
    env.close()  # joins its threads


def test_an_interrupt_waits_for_the_outermost_end_and_then_comes_once():
    said = []

    def interrupted():
        with interruptible(), held():
            with held():
                signal.raise_signal(signal.SIGTERM)
                said.append("inner")
            said.append("outer")

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert said == ["inner", "outer"]
    with held():
        pass  # nothing is left of it
    with pytest.raises(KeyboardInterrupt), interruptible():
        signal.raise_signal(signal.SIGINT)
