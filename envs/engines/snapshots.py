"""Store exact states after resets on disk, so that a reset copies numbers instead of simulating 100 control steps.

For a fixed task a stock reset is deterministic, so its result can be stored: the simulator's integration state, the two
model arrays in which tasks of one class differ, the observation that stock returned (in seven tasks it is older than the
state), and the variables that the reward remembers.
"""

import contextlib
import hashlib
import json
import logging
import math
import os
import subprocess
import sys
import threading
import time
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from metarl.envs.rendering.scene import keep_model, upstream_versions
from metarl.envs.suites import Task
from metarl.envs.tasks import BY_REWARD
from metarl.errors import UserError
from metarl.system import files as cache
from metarl.system.machine import worker_count

if TYPE_CHECKING:
    from metarl.envs.engines.python import StockEnv

log = logging.getLogger("metarl")

_FORMAT = 3
_CHUNK = 50
"""Tasks that a process builds per request: the first of a class costs 0.2 s more than the others."""


@dataclass(frozen=True)
class Snapshot:
    """A task's state right after its reset.

    Attributes:
        model_file: path of the model relative to Meta-World's asset folder.
        state: MuJoCo's integration state.
        body_pos, site_pos: (bodies, 3), (sites, 3) of the model, metres.
        obs: (39,) the observation that the reset returned, without the goal.
        previous: (18,) the previous observation that the next step will contain.
        memory: target, object's start, hand's start, initial hand position, and other variables that the task's reward
            remembers (`metarl.envs.tasks.primitives`).
        mocap_low, mocap_high: (3,) bounds of the hand's target.
        goal_low, goal_high: (3,) bounds of a visible goal.
    """

    model_file: str
    state: np.ndarray
    body_pos: np.ndarray
    site_pos: np.ndarray
    obs: np.ndarray
    previous: np.ndarray
    memory: np.ndarray
    mocap_low: np.ndarray
    mocap_high: np.ndarray
    goal_low: np.ndarray
    goal_high: np.ndarray


def prepare(tasks: Iterable[Task], reward: str = "v2") -> None:
    """Build snapshots missing on disk: about 6 ms each plus 0.3 s per task class, in several processes.

    Args:
        tasks: tasks of Meta-World.
        reward: version of the reward, which determines the variables to remember.
    """
    if cache.refusal(_folder("")) is not None:
        return  # each snapshot will be built on demand and kept in memory
    missing: dict[str, list[Task]] = defaultdict(list)  # by class: a process makes one stock environment per class
    for task in dict.fromkeys(tasks):
        if isinstance(task.params, tuple) and not _path(task, reward).exists():
            missing[task.name].append(task)
    chunks = [some[i : i + _CHUNK] for some in missing.values() for i in range(0, len(some), _CHUNK)]
    total = sum(map(len, chunks))
    workers = min(worker_count(), total // _CHUNK)
    if workers < 2:
        for chunk in chunks:
            _build_all(chunk, reward)
    else:
        log.info("building %d snapshots of Meta-World tasks, once", total)
        _build_in_processes(chunks, reward, workers, total)


def _build_in_processes(chunks: list[list[Task]], reward: str, workers: int, total: int) -> None:
    waiting, lock, interrupted = iter(chunks), threading.Lock(), False
    done, said = 0, time.monotonic()

    def feed() -> None:
        nonlocal done, said
        # a subprocess, not multiprocessing, which would import the user's script again
        search = os.pathsep.join(path for path in sys.path if path)
        with subprocess.Popen(
            [sys.executable, "-c", "from metarl.envs.engines.snapshots import work; work()"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=os.environ | {"PYTHONPATH": search},
        ) as process:
            assert process.stdin is not None
            assert process.stdout is not None
            try:
                while not interrupted:
                    with lock:
                        chunk = next(waiting, None)
                    if chunk is None:
                        break
                    line = json.dumps([reward, [[task.name, task.params] for task in chunk]], default=str)
                    process.stdin.write(line + "\n")
                    process.stdin.flush()
                    if not process.stdout.readline():
                        break  # it died; the rest is built on demand, which then reports the error
                    with lock:
                        done += len(chunk)
                        if time.monotonic() - said > 5:
                            said = time.monotonic()
                            log.info("%d of %d snapshots", done, total)
            except BrokenPipeError:
                pass  # it died earlier
            finally:
                with contextlib.suppress(BrokenPipeError):
                    process.stdin.close()

    threads = [threading.Thread(target=feed, daemon=True) for _ in range(workers)]
    try:
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    except BaseException:  # an interrupt: the processes end after their chunk, and finished snapshots stay
        interrupted = True
        raise


def work() -> None:
    """Main function of a process of `prepare`: build and store the tasks in a line of stdin, confirm, read the next line."""
    import signal

    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent process decides
    for line in sys.stdin:
        reward, tasks = json.loads(line)
        with contextlib.suppress(UserError):  # reported when the task is used
            _build_all([Task(name, tuple(params)) for name, params in tasks], reward)
        print("done", flush=True)


def snapshot(task: Task, reward: str = "v2") -> Snapshot:
    """Return the snapshot of a task, from disk, or newly built if missing or damaged."""
    content = cache.load(_path(task, reward))
    if content is None:
        [content] = _build_all([task], reward)
    return _decode(content)


def _path(task: Task, reward: str = "v2") -> Path:
    # the remembered variables are part of the name, since a formula that needs more must not find fewer; otherwise
    # snapshots do not depend on the reward
    text = f"{task.params!r} {' '.join(BY_REWARD[reward][task.name].remembers)}"
    return _folder(task.name) / f"{hashlib.sha256(text.encode()).hexdigest()[:20]}.snapshot"


def _folder(name: str) -> Path:
    return cache.directory("snapshots", f"{upstream_versions()}-{_FORMAT}", name)


@lru_cache(maxsize=1)
def _stock(name: str, reward: str) -> "StockEnv":
    from metarl.envs.engines.python import StockEnv

    env = StockEnv(name, reward)
    keep_model(env.model_file, env.env.model)  # the engine will need it
    return env


def _build_all(tasks: Iterable[Task], reward: str) -> list[bytes]:
    """Build snapshots and store them on disk."""
    contents = []
    for task in tasks:
        contents.append(_encode(_build(_stock(task.name, reward), task)))
        cache.store(_path(task, reward), contents[-1])
    return contents


def _build(env: "StockEnv", task: Task) -> Snapshot:
    env.set_task(task.params)
    stock = env.env
    # A reset sets up the model, clears the data, and sets up again. Only the model edits of the first pass remain, and they
    # do not depend on the hand's position, so the hand moves in the second pass only (checked for all tasks).
    moves = iter((lambda: type(stock)._reset_hand(stock, steps=0), lambda: type(stock)._reset_hand(stock)))
    stock._reset_hand = lambda: next(moves)()
    try:
        obs, _ = env.reset()
    finally:
        del stock._reset_hand
    scene = env.scene()
    common = [stock._target_pos, stock.obj_init_pos, stock.init_tcp, stock.hand_init_pos]
    special = [getattr(stock, name) for name in BY_REWARD[stock.reward_function_version][task.name].remembers]
    memory = np.concatenate([np.atleast_1d(np.nan if value is None else value) for value in common + special])
    limits: list[Any] = [stock.mocap_low, stock.mocap_high, stock.goal_space.low, stock.goal_space.high]
    return Snapshot(
        scene.model_file,
        scene.state,
        scene.body_pos,
        scene.site_pos,
        np.array(obs),
        np.array(stock._prev_obs),
        memory.astype(np.float64),
        *(np.array(limit, np.float64) for limit in limits),
    )


def _encode(snap: Snapshot) -> bytes:
    """Encode as a line of JSON followed by the numbers; numpy's archives take 30 times as long to read."""
    arrays = {name: value for name, value in vars(snap).items() if name != "model_file"}
    head = {"model_file": snap.model_file, "shapes": {name: array.shape for name, array in arrays.items()}}
    return json.dumps(head).encode() + b"\n" + b"".join(array.tobytes() for array in arrays.values())


def _decode(content: bytes) -> Snapshot:
    end = content.index(b"\n") + 1
    head, numbers, first = json.loads(content[:end]), np.frombuffer(bytearray(content[end:]), np.float64), 0
    arrays = {}
    for name, shape in head["shapes"].items():
        last = first + math.prod(shape)
        arrays[name] = numbers[first:last].reshape(shape)
        first = last
    return Snapshot(head["model_file"], **arrays)
