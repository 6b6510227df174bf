"""Native engine: steps many MjData through libmujoco by compiled code, in several threads.

Each environment has its own MjData and its own model struct, which points to the task's two arrays in which tasks of one class
differ. The rest of the model, 20 MB, is shared within the class.
"""

import ctypes
import os
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from functools import lru_cache
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np

from metarl.envs.engines import kernel as k
from metarl.envs.engines import snapshots
from metarl.envs.engines.episodes import NOT_FINITE, STOP, Episodes, Policy, Starts, play_episodes
from metarl.envs.engines.python import StepResult
from metarl.envs.engines.structs import OwnModels, data_offsets
from metarl.envs.rendering.opengl import import_mujoco
from metarl.envs.rendering.painter import Painter
from metarl.envs.rendering.scene import STATE, Scene, get_state, load_model
from metarl.envs.scales import HAND_HIGH, HAND_LOW, observation_space
from metarl.envs.suites import Task
from metarl.envs.tasks import BY_REWARD, NativeTask
from metarl.envs.tasks.primitives import INFO, MAX_READINGS, OBSERVED
from metarl.errors import UserError
from metarl.system.interrupts import held, interrupted
from metarl.system.jit import formula_address
from metarl.system.machine import return_memory, worker_count

mujoco = import_mujoco()

MEMORY_SIZE = 32
"""Numbers reserved for an environment's memory of its reset."""


@lru_cache(maxsize=1)
def _mujoco_functions() -> dict[str, int]:
    """Return the addresses of MuJoCo's functions in the library that the `mujoco` package uses, by their fields' names."""
    folder = Path(mujoco.__file__).parent
    files = sorted(folder.glob("libmujoco.so*"))
    if not files:
        raise UserError(f"no libmujoco.so in {folder}: the native engine runs on Linux only; engine='python' runs anywhere")
    library = ctypes.CDLL(str(files[0]))
    names = {"mj_step": "mj_step", "mj_forward": "mj_forward", "mj_set_state": "mj_setState", "mj_get_state": "mj_getState"}
    return {field: ctypes.cast(getattr(library, name), ctypes.c_void_p).value or 0 for field, name in names.items()}


def _layout(model: Any, native: NativeTask) -> tuple[np.ndarray, np.ndarray]:
    """Build a row of `layouts` and one of `seen_offsets`, see `kernel`."""
    columns = {"body": k.XPOS, "geom": k.GEOM_XPOS, "site": k.SITE_XPOS}
    turns = {"body": k.XMAT, "geom": k.GEOM_XMAT, "site": k.SITE_XMAT}
    row, offsets = np.full(k.LAYOUT_SIZE, -1, np.int64), np.zeros((2, 3))
    bodies = [model.body(b).id for b in ("hand", "leftpad", "rightpad", "leftclaw", "rightclaw")]
    sites = [model.site(s).id for s in ("leftEndEffector", "rightEndEffector")]
    row[: k.OBJECTS] = [*bodies, *sites, formula_address(native.formula)]
    for i, seen in enumerate(native.objects):
        kind, name = seen.position
        turn, turned = seen.quaternion
        entry = [columns[kind], getattr(model, kind)(name).id, k.NO_TURN, -1, -1, -1]
        if turn == "identity":
            entry[k.SEEN_TURN] = k.IDENTITY_TURN
        elif turn == "xquat":
            entry[k.SEEN_TURN : k.SEEN_HINGE] = [k.QUATERNION_TURN, k.XQUAT, model.body(turned).id]
        elif turn != "none":
            entry[k.SEEN_TURN : k.SEEN_HINGE] = [k.MATRIX_TURN, turns[turn], getattr(model, turn)(turned).id]
        if seen.hinge:
            entry[k.SEEN_HINGE] = model.joint(seen.hinge).qposadr[0]
        row[k.OBJECTS + i * k.SEEN_SIZE :][: k.SEEN_SIZE], offsets[i] = entry, seen.offset
    assert len(native.readings) <= MAX_READINGS
    for i, (kind, name) in enumerate(native.readings):
        thing = getattr(model, kind)(name)
        where = (k.QPOS, thing.qposadr[0]) if kind == "joint" else (columns[kind], thing.id)
        row[k.READING_COLUMNS + 2 * i :][:2] = where
    if native.touched:
        row[k.LEFT_GEOM : k.TOUCHED_GEOM + 1] = [model.geom(g).id for g in ("leftpad_geom", "rightpad_geom", native.touched)]
    row[k.TOUCH_DECIDES] = native.touch_decides
    return row, offsets


class NativeEngine:
    """Steps Meta-World's tasks with results that equal stock number for number.

    Args:
        tasks: tasks whose snapshots are prepared in advance; other tasks are allowed too.
        num_envs: number of environments.
        num_threads: None: one per usable core. Results do not depend on it.
        reward: Meta-World's version of the reward.
        goal_visible: whether observations end with the goal; otherwise with zeros.
        all_info: fill stock's whole info, not only success.
    """

    name = "native"

    def __init__(
        self,
        tasks: Sequence[Task],
        num_envs: int,
        num_threads: int | None = None,
        *,
        reward: str = "v2",
        goal_visible: bool = False,
        all_info: bool = False,
    ) -> None:
        if num_threads is not None and num_threads < 1:
            raise UserError(f"num_threads must be at least 1, not {num_threads}")
        self.threads = min(num_threads or worker_count(), num_envs)
        self.observation_space = observation_space(goal_visible)
        self.action_space = gymnasium.spaces.Box(-1.0, 1.0, (4,), np.float32)
        self.reward, self.goal_visible, self.all_info = reward, goal_visible, all_info
        self.functions, self.offsets = _mujoco_functions(), data_offsets()
        snapshots.prepare(tasks, reward)
        self.snapshots: dict[Task, snapshots.Snapshot] = {}
        self.names: list[str] = []  # task classes seen so far
        self.models: dict[str, Any] = {}  # by file: some classes share a model
        self.spare: dict[int, list[Any]] = defaultdict(list)  # unused MjData by class
        self.held: list[Any] = [None] * num_envs  # each environment's MjData
        self.scenes: list[Any] = [None] * num_envs  # each environment's snapshot

        self.own_models = OwnModels(num_envs)
        self.classes = np.full(num_envs, -1, np.int64)
        self.addresses = np.zeros((num_envs, k.MEMORY + 1), np.int64)
        self.memory = np.zeros((num_envs, MEMORY_SIZE))
        self.addresses[:, k.MEMORY] = self.memory.ctypes.data + np.arange(num_envs) * self.memory.strides[0]
        self.previous = np.zeros((num_envs, OBSERVED))
        self.layouts = np.zeros((0, k.LAYOUT_SIZE), np.int64)
        self.seen_offsets, self.limits, self.costs = np.zeros((0, 2, 3)), np.zeros((0, 4, 3)), np.zeros(0)
        self.order: np.ndarray | None = None
        self.counter = np.zeros(2, np.int64)
        self._pool: ThreadPoolExecutor | None = None
        self._process = os.getpid()

    def _class_of(self, task: Task, snap: snapshots.Snapshot) -> int:
        """Return the index of the task's class, adding the class if it is new."""
        if task.name in self.names:
            return self.names.index(task.name)
        c = len(self.names)
        model = self.models[snap.model_file]
        row, offsets = _layout(model, BY_REWARD[self.reward][task.name])
        limits = [snap.mocap_low, snap.mocap_high, snap.goal_low, snap.goal_high]
        data = mujoco.MjData(model)
        mujoco.mj_setState(model, data, snap.state, STATE)
        began = time.perf_counter()
        mujoco.mj_step(model, data, nstep=10)
        self.costs = np.append(self.costs, time.perf_counter() - began)  # determines the order of work, not its results
        self.layouts = np.vstack([self.layouts, row])
        self.seen_offsets = np.concatenate([self.seen_offsets, offsets[None]])
        self.limits = np.concatenate([self.limits, np.array(limits)[None]])
        self.spare[c].append(data)
        self.names.append(task.name)
        return c

    def _snapshot(self, task: Task) -> snapshots.Snapshot:
        if task not in self.snapshots:
            self.snapshots[task] = snapshots.snapshot(task, self.reward)
        return self.snapshots[task]

    def reset(self, env_ids: Sequence[int], tasks: Sequence[Task], seeds: Sequence[int]) -> np.ndarray:
        """See `Engine.reset`. Resets are deterministic; the seeds are ignored."""
        obs, snaps = np.empty((len(env_ids), 39)), [self._snapshot(task) for task in tasks]
        new = {snap.model_file for snap in snaps} - self.models.keys()
        if new:
            with ThreadPoolExecutor(self.threads) as pool:
                self.models |= zip(new, pool.map(load_model, new))
        for row, (env_id, task, snap) in enumerate(zip(env_ids, tasks, snaps)):
            if self.scenes[env_id] is not snap:
                self._set_scene(env_id, self._class_of(task, snap), snap)
            # no mj_forward: stock does not call it between a reset and the first step, and it would change the warm start
            mujoco.mj_setState(self.models[snap.model_file], self.held[env_id], snap.state, STATE)
            self.memory[env_id, : len(snap.memory)] = snap.memory
            self.previous[env_id], obs[row] = snap.previous, snap.obs
            if self.goal_visible:
                obs[row, 2 * OBSERVED :] = snap.memory[:3]
        return obs

    def _set_scene(self, env_id: int, c: int, snap: snapshots.Snapshot) -> None:
        if self.classes[env_id] != c:
            if self.held[env_id] is not None:
                self.spare[int(self.classes[env_id])].append(self.held[env_id])
                most = max(self.spare.values(), key=len)
                if sum(map(len, self.spare.values())) > len(self.held):  # else it would grow with the classes seen
                    most.pop()
            data = self.spare[c].pop() if self.spare[c] else mujoco.MjData(self.models[snap.model_file])
            self.held[env_id], self.classes[env_id], self.order = data, c, None
            arrays = (
                data.qpos,
                data.ctrl,
                data.mocap_pos,
                data.mocap_quat,
                data.xpos,
                data.geom_xpos,
                data.site_xpos,
                data.xquat,
                data.xmat,
                data.geom_xmat,
                data.site_xmat,
            )
            self.addresses[env_id, k.DATA : k.MEMORY] = [data._address, *(array.ctypes.data for array in arrays)]
        self.addresses[env_id, k.MODEL] = self.own_models.put(
            env_id, self.models[snap.model_file], snap.body_pos, snap.site_pos
        )
        self.scenes[env_id] = snap

    def step(self, actions: np.ndarray) -> StepResult:
        """See `Engine.step`. Actions are float32, like stock's action space."""
        n = len(self.classes)
        if self.order is None:  # slowest first, so that the threads finish together
            self.order = np.argsort(-self.costs[self.classes], kind="stable")
        obs, reward, success, unstable = np.empty((n, 39)), np.empty(n), np.empty(n, bool), np.empty(n, bool)
        figures = np.empty((len(INFO), n if self.all_info else 0))
        self.counter[:] = 0
        work: tuple[Any, ...] = self.counter, self.order, self._simulation(), actions, obs, reward, success, figures, unstable
        with held():
            helpers = [self._helpers().submit(k.step_envs, *work) for _ in range(self.threads - 1)]
            k.step_envs(*work)
            for helper in helpers:
                helper.result()
        info = {"success": success}
        if self.all_info:
            info |= {key: figures[i] for i, key in enumerate(INFO) if i > 0} | {"unscaled_reward": reward.copy()}
        truncated = np.zeros(n, bool)
        if self.counter[1]:
            info["unstable"], truncated = unstable, unstable.copy()
            for env_id in np.flatnonzero(unstable):
                self.held[env_id].warning.number[:] = 0
        return StepResult(obs, reward, np.zeros(n, bool), truncated, info)

    def _simulation(self) -> k.Simulation:
        return k.Simulation(
            classes=self.classes,
            addresses=self.addresses,
            layouts=self.layouts,
            offsets=self.offsets,
            seen_offsets=self.seen_offsets,
            limits=self.limits,
            hand_low=HAND_LOW,
            hand_high=HAND_HIGH,
            previous=self.previous,
            show_goal=self.goal_visible,
            all_info=self.all_info,
            **self.functions,
        )

    def _helpers(self) -> ThreadPoolExecutor:
        if self._pool is None or self._process != os.getpid():  # threads do not survive a fork
            self._pool, self._process = ThreadPoolExecutor(self.threads, "metarl-engine"), os.getpid()
        return self._pool

    def play(self, policy: Policy, played: Episodes, progress: Callable[[float], None]) -> None:
        """Play episodes with a compiled policy; every environment is at the start of an episode, and ends at one.

        Args:
            policy, played: see `metarl.envs.engines.episodes`.
            progress: called with the share of the work done, 0 to 1.

        Raises:
            KeyboardInterrupt: within a step of the interrupt; environments are left in the middle of their episodes.
        """
        now = played.time, np.arange(len(self.scenes))
        starts = Starts(
            states=np.array([snap.state.ctypes.data for snap in self.scenes]),
            spec=int(STATE),
            memory=self.memory.copy(),
            previous=self.previous.copy(),
            obs=played.obs[now],
        )
        played.control[:] = 0
        played.busy[:] = False
        played.costs[:] = self.costs[self.classes]
        played.left[:] = played.costs * ((played.until - played.episode[now]) * played.max_steps)
        total = played.left.sum()
        with held():
            threads = [
                self._helpers().submit(play_episodes, self._simulation(), policy, starts, played) for _ in range(self.threads)
            ]
            try:
                while wait(threads, timeout=0.1).not_done:
                    if interrupted():
                        played.control[STOP] = 1
                    progress(1 - played.left.sum() / total)
            finally:
                played.control[STOP] = 1
                wait(threads)
        for thread in threads:
            thread.result()
        if played.control[NOT_FINITE]:
            raise UserError(f"actions of environments [{played.control[NOT_FINITE] - 1}] are not finite")

    def scene(self, env_id: int) -> Scene:
        """See `Engine.scene`."""
        return self._scene(env_id, get_state(self.models[self.scenes[env_id].model_file], self.held[env_id]))

    def _scene(self, env_id: int, state: np.ndarray) -> Scene:
        snap = self.scenes[env_id]
        return Scene(snap.model_file, state, snap.body_pos, snap.site_pos, snap.memory[:3])

    def state_size(self) -> int:
        """Size of the largest state of any environment, see `scenes_of`."""
        return max(len(snap.state) for snap in self.scenes)

    def scenes_of(self, states: np.ndarray) -> list[Scene]:
        """Each environment's scene in another state, (num_envs, `state_size`)."""
        return [self._scene(i, states[i, : len(snap.state)].copy()) for i, snap in enumerate(self.scenes)]

    def render(self, env_id: int, painter: Painter | None) -> np.ndarray:
        """See `Engine.render`."""
        assert painter is not None
        return painter.draw(self.scene(env_id))

    def close(self) -> None:
        """Stop the threads and release the simulator's memory."""
        if self._pool and self._process == os.getpid():
            self._pool.shutdown()
        self.held = [None] * len(self.held)
        self.models.clear()
        self.spare.clear()
        return_memory()
