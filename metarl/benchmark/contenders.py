"""The contenders of `metarl bench`: metarl's engines, stock Meta-World in processes, EnvPool, and MuJoCo alone.

Each is built from one task per environment and a number of threads, and raises a UserError if it cannot step them.
"""

import copy
import importlib
import queue
import signal
import statistics
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from importlib.util import find_spec
from multiprocessing import forkserver
from typing import Any

import gymnasium
import numpy as np

from metarl.envs import Task, TaskDistribution, make_vec
from metarl.envs.engines.python import StockEnv
from metarl.envs.engines.snapshots import snapshot
from metarl.envs.rendering.opengl import import_mujoco
from metarl.envs.rendering.scene import STATE, load_model
from metarl.errors import UserError
from metarl.gymnasium_ids import HORIZON

mujoco = import_mujoco()

MAX_UPSTREAM_ENVS = 64
"""Largest number of environments for stock environments: each environment holds its own model and, in `async`, is a process."""


class Contender:
    """Base class of anything that steps environments.

    Attributes:
        name: one of `CONTENDERS`.
        num_envs: number of environments.
        threads: threads that step them.
        processes: further processes that step them.
    """

    def __init__(self, name: str, num_envs: int, threads: int, processes: int = 0) -> None:
        self.name, self.num_envs, self.threads, self.processes = name, num_envs, threads, processes

    def prepare(self, actions: np.ndarray) -> Any:
        """Convert actions, (steps, num_envs, 4) float32, to the argument of `run`. Not timed; `run` always follows."""
        return list(actions)

    def run(self, prepared: Any) -> Any:
        """Take the steps; returns the last observations, or None if the contender computes none."""
        raise NotImplementedError

    def close(self) -> None:
        """Release everything."""
        raise NotImplementedError


class Vector(Contender):
    """A `gymnasium.vector.VectorEnv`, or an EnvPool, which has the same methods."""

    def __init__(self, name: str, env: Any, num_envs: int, threads: int, processes: int = 0) -> None:
        super().__init__(name, num_envs, threads, processes)
        self.env = env
        env.reset()

    def run(self, prepared: list[np.ndarray]) -> np.ndarray:
        """See `Contender.run`."""
        step = self.env.step
        for actions in prepared:
            obs, *_ = step(actions)
        return obs

    def close(self) -> None:
        """See `Contender.close`."""
        # terminate: after Ctrl-C within a step, waiting for that step could hang
        self.env.close(**({"terminate": True} if self.processes else {}))
        self.env = None


def native(tasks: Sequence[Task], threads: int) -> Contender:
    """metarl's native engine."""
    return Vector("native", _metarl_env(tasks, engine="native", num_threads=threads), len(tasks), threads)


def python(tasks: Sequence[Task], threads: int) -> Contender:
    """Stock environments, stepped one after the other."""
    _refuse_many(tasks)
    return Vector("python", _metarl_env(tasks, engine="python"), len(tasks), 1)


def _metarl_env(tasks: Sequence[Task], **options: Any) -> Any:
    # only the tasks to step: every other one would get a snapshot too
    env = make_vec(TaskDistribution(tuple(dict.fromkeys(tasks))), len(tasks), **options)
    env.set_tasks(tasks)
    return env


def _refuse_many(tasks: Sequence[Task]) -> None:
    if len(tasks) > MAX_UPSTREAM_ENVS:
        raise UserError(f"more than {MAX_UPSTREAM_ENVS} environments: each is a stock environment with its own model")


def asynchronous(tasks: Sequence[Task], threads: int) -> Contender:
    """Gymnasium's AsyncVectorEnv over stock environments, the usual way to step Meta-World in parallel."""
    _refuse_many(tasks)
    # A plain fork would copy locks held by other contenders' threads, and spawning would import everything for each
    # environment. The fork server imports once and has no threads; every environment's process is forked from it.
    forkserver.set_forkserver_preload([__name__, "metaworld.env_dict"])
    make = [partial(upstream_env, task) for task in tasks]
    env = None
    try:
        with _deferred_interrupts():
            env = gymnasium.vector.AsyncVectorEnv(
                make, autoreset_mode=gymnasium.vector.AutoresetMode.SAME_STEP, context="forkserver"
            )
        return Vector("async", env, len(tasks), 1, len(tasks))
    except BaseException:
        if env is not None:
            env.close(terminate=True)
        raise


@contextmanager
def _deferred_interrupts() -> Iterator[None]:
    """Start the fork server, and defer Ctrl-C while processes start: interrupting a half-started one prints tracebacks."""
    interrupts: list[int] = []
    handler = signal.signal(signal.SIGINT, signal.SIG_IGN)  # the server and its processes inherit this and ignore Ctrl-C
    try:
        forkserver.ensure_running()
        signal.signal(signal.SIGINT, lambda number, frame: interrupts.append(number))
        yield
    finally:
        signal.signal(signal.SIGINT, handler)
    if interrupts:
        raise KeyboardInterrupt


def upstream_env(task: Task) -> gymnasium.Env[Any, Any]:
    """A stock environment as `metaworld.make_ml_envs` wraps it, without the wrappers that only record statistics."""
    env = StockEnv(task.name)
    env.set_task(task.params)
    return gymnasium.wrappers.TimeLimit(env, HORIZON)


def envpool(tasks: Sequence[Task], threads: int) -> Contender:
    """EnvPool's version of the task, if EnvPool is installed. It samples its own goals and bundles its own MuJoCo."""
    if find_spec("envpool") is None:
        raise UserError("it is not installed (pip install envpool)")
    names = {task.name for task in tasks}
    if len(names) > 1:
        raise UserError("it steps one task at a time: compare it on ml1:<task>")
    package = importlib.import_module("envpool")
    name = envpool_name(names.pop())
    if name not in package.list_all_envs():
        raise UserError(f"version {package.__version__} has no {name}")
    env = package.make_gymnasium(name, num_envs=len(tasks), num_threads=threads, seed=0, max_episode_steps=HORIZON)
    return Vector("envpool", env, len(tasks), threads)


def envpool_name(task: str) -> str:
    """EnvPool's name of a task: pick-place-v3 is MetaWorld/PickPlace-v3."""
    *words, number = task.split("-")
    return f"MetaWorld/{''.join(word.capitalize() for word in words)}-{number}"


class Bare(Contender):
    """MuJoCo alone, as the limit: five mj_step and one mj_forward per environment, and no observations or rewards.

    Scenes, controls and mocap motion equal those of the engines, so MuJoCo does the same work; the mocap's path is computed
    before the timed slice. As in a vector environment, all environments finish a step before any starts the next. Each thread
    has one model per class of task, into which it copies an environment's scene before stepping the environment.
    """

    def __init__(self, tasks: Sequence[Task], threads: int) -> None:
        super().__init__("bare", len(tasks), threads)
        self.snapshots = [snapshot(task) for task in tasks]
        self.low, self.high = (np.array([getattr(s, side) for s in self.snapshots]) for side in ("mocap_low", "mocap_high"))
        files = {task.name: snap.model_file for task, snap in zip(tasks, self.snapshots)}
        shared_models = {name: load_model(file) for name, file in files.items()}
        models = [
            shared_models,
            *({name: copy.copy(model) for name, model in shared_models.items()} for _ in range(threads - 1)),
        ]
        self.models = [
            {name: (model, _bytes(model.body_pos), _bytes(model.site_pos)) for name, model in thread_models.items()}
            for thread_models in models
        ]
        self.data = [mujoco.MjData(shared_models[task.name]) for task in tasks]
        self.work = [
            (env_id, task.name, _bytes(snap.body_pos), _bytes(snap.site_pos), _bytes(data.mocap_pos), _bytes(data.ctrl), data)
            for env_id, (task, snap, data) in enumerate(zip(tasks, self.snapshots, self.data))
        ]
        self.env_states = [
            (shared_models[task.name], data, snap.state) for task, data, snap in zip(tasks, self.data, self.snapshots)
        ]
        self._restart()
        self.start = np.array([data.mocap_pos[0] for data in self.data])
        self.mocap, self.steps = self.start, 0
        # the slowest first, so that no thread is left with one at the end: the cost of classes differs 4-fold
        seconds = {
            name: self._seconds(env_id) for name, env_id in {task.name: env_id for env_id, task in enumerate(tasks)}.items()
        }
        self.work.sort(key=lambda item: -seconds[item[1]])
        self._restart()
        self.jobs: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self.done: queue.SimpleQueue[None] = queue.SimpleQueue()
        self.helper_threads = [threading.Thread(target=self._serve, args=(t,), daemon=True) for t in range(1, threads)]
        for thread in self.helper_threads:
            thread.start()

    def _restart(self) -> None:
        """Put every environment at the start of its episode, as the engines do, without mj_forward."""
        for model, data, state in self.env_states:
            mujoco.mj_setState(model, data, state, STATE)
            data.mocap_quat[0] = 1.0, 0.0, 1.0, 0.0

    def _seconds(self, env_id: int) -> float:
        """Median seconds of a few steps of the environment, which must be restarted afterwards."""
        times, mocap, ctrl = [], {env_id: _bytes(self.start[env_id])}, {env_id: _bytes(np.zeros(2))}
        for _ in range(9):
            start = time.perf_counter()
            self._step(0, [self.work[env_id]], mocap, ctrl)
            times.append(time.perf_counter() - start)
        return statistics.median(times)

    def _step(self, thread: int, work: Iterable[Any], mocap: Any, ctrl: Any) -> None:
        """Step the environments that this thread takes from `work`, an iterator shared by all threads."""
        models, mj_step, mj_forward = self.models[thread], mujoco.mj_step, mujoco.mj_forward
        for env_id, name, body_pos, site_pos, to_mocap, to_ctrl, data in work:
            model, to_body_pos, to_site_pos = models[name]
            to_body_pos[:], to_site_pos[:], to_mocap[:], to_ctrl[:] = body_pos, site_pos, mocap[env_id], ctrl[env_id]
            mj_step(model, data, 5)  # mj_step and mj_forward release the GIL
            mj_forward(model, data)

    def _serve(self, thread: int) -> None:
        for job in iter(self.jobs.get, None):
            try:
                self._step(thread, *job)
            finally:
                self.done.put(None)

    def prepare(self, actions: np.ndarray) -> list[tuple[list[memoryview], list[memoryview], bool]]:
        """See `Contender.prepare`: per step, each environment's mocap position and controls, and whether episodes end."""
        steps = []
        for action in actions:
            shift = np.clip(action[:, :3], np.float32(-1), np.float32(1)) * np.float32(0.01)
            self.mocap = np.clip(self.mocap + shift, self.low, self.high)
            ctrl = np.stack([action[:, 3], -action[:, 3]], 1).astype(np.float64)
            self.steps += 1
            ends = self.steps % HORIZON == 0
            steps.append(([_bytes(row) for row in self.mocap], [_bytes(row) for row in ctrl], ends))
            self.mocap = self.start if ends else self.mocap
        return steps

    def run(self, prepared: list[tuple[list[memoryview], list[memoryview], bool]]) -> None:
        """See `Contender.run`."""
        for mocap, ctrl, ends in prepared:
            job = iter(self.work), mocap, ctrl
            for _ in self.helper_threads:
                self.jobs.put(job)
            self._step(0, *job)
            for _ in self.helper_threads:
                self.done.get()
            if ends:
                self._restart()

    def close(self) -> None:
        """See `Contender.close`."""
        for _ in self.helper_threads:
            self.jobs.put(None)
        for thread in self.helper_threads:
            thread.join()
        self.work, self.models, self.data, self.env_states = [], [], [], []


def _bytes(array: Any) -> memoryview:
    """A view of a contiguous array's bytes; copying through it takes half the time of a numpy assignment."""
    return memoryview(array.reshape(-1)).cast("B")


CONTENDERS: dict[str, Callable[[Sequence[Task], int], Contender]] = {
    "native": native,
    "python": python,
    "async": asynchronous,
    "bare": Bare,
    "envpool": envpool,
}
