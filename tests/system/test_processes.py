"""Results computed in other processes: they come in order, and no process, file or wait is left, however the work ends."""

import multiprocessing
import operator
import os
import select
import shutil
import signal
import subprocess
import sys
import tempfile
from multiprocessing.connection import Connection
from pathlib import Path

import pytest

from metarl.errors import UserError
from metarl.system.processes import process_map

SCRIPT = """
import os, signal, sys, time
from metarl.system.interrupts import interrupt
from metarl.system.processes import process_map

def large():
    time.sleep(0.005)
    return bytes(1_000_000)

if __name__ == "__main__":
    signal.signal(signal.SIGINT, interrupt)
    try:
        print("started", flush=True)
        for _ in process_map(large, iter(tuple, None), 2, died="died"):
            print("result", flush=True)
    except KeyboardInterrupt:
        sys.exit(130)
"""


@pytest.fixture(autouse=True)
def nothing_is_left(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    yield
    assert not multiprocessing.active_children()
    assert signal.SIGINT not in signal.pthread_sigmask(signal.SIG_BLOCK, ())
    assert not list(tmp_path.glob("metarl-*"))


def test_results_come_in_order_and_jobs_are_taken_as_they_are_needed():
    taken = []
    jobs = ((10, taken.append(i) or i) for i in range(9))
    for i, result in enumerate(process_map(operator.mul, jobs, 2, died="died")):
        assert result == 10 * i
        assert len(taken) <= i + 1 + 2
    assert i == 8


def test_processes_have_their_environment():
    results = process_map(os.getenv, [("METARL_TEST",)], 1, died="died", environment={"METARL_TEST": "5"})
    assert list(results) == ["5"]
    assert "METARL_TEST" not in os.environ


def test_an_error_in_a_process_is_raised_here():
    results = process_map(operator.truediv, [(1, 1), (1, 0), (1, 1)], 1, died="died")
    assert next(results) == 1
    with pytest.raises(ZeroDivisionError):
        next(results)


def test_a_killed_process_is_one_clear_error():
    results = process_map(signal.raise_signal, [(signal.SIGKILL,)] * 3, 2, died="a process died")
    with pytest.raises(UserError, match=r"^a process died$"):
        list(results)


def killed_by_a_long_message(size: int) -> bytes:
    send = Connection._send_bytes

    def short(self, data):
        if len(data) > select.PIPE_BUF:
            os.kill(os.getpid(), signal.SIGKILL)
        send(self, data)

    Connection._send_bytes = short
    return bytes(size)


def test_no_long_message_goes_through_the_pipe_that_the_processes_share():
    """If a process were killed in the middle of one, the pool would wait for its rest for ever."""
    results = process_map(killed_by_a_long_message, [(1_000_000,)] * 3, 2, died="died")
    assert [len(result) for result in results] == [1_000_000] * 3


def start(folder: Path) -> subprocess.Popen[str]:
    script = folder / "script.py"
    script.write_text(SCRIPT)
    # in a session of its own, whose processes all get the signal, as from a terminal
    return subprocess.Popen(
        [sys.executable, str(script)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        env=os.environ | {"TMPDIR": str(folder)},
    )


@pytest.mark.parametrize("lines", [1, 2, 50])  # while processes start, with the first result, and in the midst of many
def test_ctrl_c_ends_every_process(tmp_path, lines):
    process = start(tmp_path)
    assert process.stdout is not None
    for _ in range(lines):
        assert process.stdout.readline()
    os.killpg(process.pid, signal.SIGINT)
    _, errors = process.communicate(timeout=60)  # waits for every process that holds the pipes
    assert (process.returncode, errors) == (130, "")


def test_processes_end_with_a_parent_that_is_killed(tmp_path):
    process = start(tmp_path)
    assert process.stdout is not None
    for _ in range(3):
        assert process.stdout.readline()
    process.kill()
    process.communicate(timeout=60)
    for left in tmp_path.glob("metarl-*"):  # nobody could remove it
        shutil.rmtree(left)
