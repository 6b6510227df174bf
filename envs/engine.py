"""The native engine: many MjData stepped by compiled code through libmujoco, in several threads.

A slot owns its MjData, body_pos and site_pos. Models belong to (class of task, thread): before a slot is stepped its two
arrays are copied into the model, so memory does not grow by a model a slot (21 MB each).
"""

import copy
import ctypes
from collections import defaultdict
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np

from metarl.envs import kernel as k
from metarl.envs import snapshots
from metarl.envs.drawing import import_mujoco
from metarl.envs.jit import formula_address
from metarl.envs.python_engine import StepResult
from metarl.envs.scene import STATE, Scene, get_state, load_model
from metarl.envs.suites import Task
from metarl.envs.tasks import NATIVE
from metarl.errors import UserError
from metarl.machine import worker_count

mujoco = import_mujoco()

HAND_LOW, HAND_HIGH = np.array([-0.525, 0.348, -0.0525]), np.array([0.525, 1.025, 0.7])
"""The hand's bounds in Meta-World's observation space (`SawyerXYZEnv._HAND_SPACE`), metres."""


def _return_memory() -> None:
    """Give freed memory back to the system: glibc keeps what hundreds of MjData took, for allocations that never come."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)


@lru_cache(maxsize=1)
def _mujoco_functions() -> tuple[int, int]:
    """Addresses of mj_step and mj_forward in the library that the `mujoco` package uses."""
    folder = Path(mujoco.__file__).parent
    files = sorted(folder.glob("libmujoco.so*"))
    if not files:
        raise UserError(f"no libmujoco.so in {folder}: the native engine runs on Linux only; engine='python' runs anywhere")
    library = ctypes.CDLL(str(files[0]))
    step, forward = (ctypes.cast(function, ctypes.c_void_p).value for function in (library.mj_step, library.mj_forward))
    assert step is not None
    assert forward is not None
    return step, forward


def observation_space() -> gymnasium.spaces.Box:
    """Meta-World's observation space with a hidden goal: hand, gripper, objects; the same one step earlier; zeros."""
    low = np.concatenate([HAND_LOW, [-1.0], np.full(14, -np.inf)])
    high = np.concatenate([HAND_HIGH, [1.0], np.full(14, np.inf)])
    zeros = np.zeros(3)
    return gymnasium.spaces.Box(np.concatenate([low, low, zeros]), np.concatenate([high, high, zeros]), dtype=np.float64)


class NativeEngine:
    """Steps tasks of `metarl.envs.tasks.NATIVE`, equal to stock number for number.

    Args:
        tasks: all tasks that may be asked for: their snapshots are made ready.
        num_envs: number of slots.
        num_threads: None: one a usable core. Results do not depend on it.
    """

    name = "native"

    def __init__(self, tasks: Sequence[Task], num_envs: int, num_threads: int | None = None) -> None:
        if num_threads is not None and num_threads < 1:
            raise UserError(f"num_threads must be at least 1, not {num_threads}")
        threads = min(num_threads or worker_count(), num_envs)
        self.observation_space = observation_space()
        self.action_space = gymnasium.spaces.Box(-1.0, 1.0, (4,), np.float32)
        self.names = list(dict.fromkeys(task.name for task in tasks))
        self.functions = _mujoco_functions()
        self.snapshots = snapshots.prepare(tasks)
        self.models: list[list[Any]] = []  # [class][thread]
        self.spare: dict[int, list[Any]] = defaultdict(list)  # MjData by class, not in use
        self.held: list[Any] = [None] * num_envs  # each slot's MjData
        self.scenes: list[tuple[np.ndarray, ...]] = [()] * num_envs  # each slot's body_pos, site_pos, memory
        self.painter: Any = None

        classes = len(self.names)
        self.classes = np.full(num_envs, -1, np.int64)
        self.addresses = np.zeros((num_envs, k.MEMORY + 1), np.int64)
        self.previous = np.zeros((num_envs, 18))
        self.model_addresses = np.zeros((threads, classes, 3), np.int64)
        self.layouts = np.zeros((classes, k.LAYOUT_SIZE), np.int64)
        self.mocap_low, self.mocap_high = np.zeros((classes, 3)), np.zeros((classes, 3))
        for c, name in enumerate(self.names):
            self._add_class(c, next(task for task in tasks if task.name == name))
        self.pool = ThreadPoolExecutor(threads - 1, "metarl-engine") if threads > 1 else None
        self.shares: list[np.ndarray] | None = None

    def _add_class(self, c: int, task: Task) -> None:
        snap, native, threads = self._snapshot(task), NATIVE[task.name], len(self.model_addresses)
        model = load_model(snap.model_file)
        copies = [model] + [copy.copy(model) for _ in range(threads - 1)]
        self.models.append(copies)
        for thread, m in enumerate(copies):
            self.model_addresses[thread, c] = m._address, m.body_pos.ctypes.data, m.site_pos.ctypes.data
        bodies = [model.body(b).id for b in ("hand", "leftpad", "rightpad", "leftclaw", "rightclaw")]
        sites = [model.site(s).id for s in ("leftEndEffector", "rightEndEffector")]
        kind, thing = native.position
        column = {"body": k.XPOS, "geom": k.GEOM_XPOS, "site": k.SITE_XPOS}[kind]
        self.layouts[c] = [
            model.nbody, model.nsite, *bodies, *sites,
            column, getattr(model, kind)(thing).id, model.geom(native.quaternion).id, formula_address(native.formula),
        ]  # fmt: skip
        self.mocap_low[c], self.mocap_high[c] = snap.mocap_low, snap.mocap_high

    def _snapshot(self, task: Task) -> snapshots.Snapshot:
        if task not in self.snapshots:
            self.snapshots[task] = snapshots.snapshot(task)
        return self.snapshots[task]

    def reset(self, slots: Sequence[int], tasks: Sequence[Task], seeds: Sequence[int]) -> np.ndarray:
        """See `Engine.reset`. Resets are deterministic: the seeds are not used."""
        obs = np.empty((len(slots), 39))
        for row, (slot, task) in enumerate(zip(slots, tasks)):
            if task.name not in self.names:
                raise UserError(
                    f"{task.name} is not among the tasks that this environment was made for: {', '.join(self.names)}"
                )
            snap, c = self._snapshot(task), self.names.index(task.name)
            if self.classes[slot] != c:
                self._take_data(slot, c)
            model, data = self.models[c][0], self.held[slot]
            self.scenes[slot] = snap.body_pos, snap.site_pos, snap.memory
            self.addresses[slot, k.BODY_POS :] = [array.ctypes.data for array in self.scenes[slot]]
            # no mj_forward: stock calls none between a reset and the first step, and it would change the warm start
            mujoco.mj_setState(model, data, snap.state, STATE)
            self.previous[slot], obs[row] = snap.previous, snap.obs
        return obs

    def _take_data(self, slot: int, c: int) -> None:
        if self.held[slot] is not None:
            self.spare[int(self.classes[slot])].append(self.held[slot])
        data = self.spare[c].pop() if self.spare[c] else mujoco.MjData(self.models[c][0])
        self.held[slot], self.classes[slot], self.shares = data, c, None
        arrays = (
            data.ctrl, data.mocap_pos, data.mocap_quat, data.xpos, data.geom_xpos, data.site_xpos, data.geom_xmat,
        )  # fmt: skip
        self.addresses[slot, : k.BODY_POS] = [data._address, *(array.ctypes.data for array in arrays)]

    def step(self, actions: np.ndarray) -> StepResult:
        """See `Engine.step`. Actions are float32, as stock's action space says."""
        n, threads = len(self.classes), len(self.model_addresses)
        if self.shares is None:  # slots of one class are dealt out evenly: classes differ 4-fold in cost
            order = np.argsort(self.classes, kind="stable")
            self.shares = [order[thread::threads] for thread in range(threads)]
        obs, reward, success = np.empty((n, 39)), np.empty(n), np.empty(n, bool)

        def run(thread: int) -> None:
            k.step_slots(
                self.shares[thread], self.classes, self.addresses, self.model_addresses[thread], self.layouts,  # type: ignore[index]
                self.mocap_low, self.mocap_high, HAND_LOW, HAND_HIGH, actions, self.previous, *self.functions,
                obs, reward, success,
            )  # fmt: skip

        futures = [self.pool.submit(run, thread) for thread in range(1, threads)] if self.pool else []
        run(0)
        for future in futures:
            future.result()
        never = np.zeros(n, bool)
        return StepResult(obs, reward, never, never.copy(), {"success": success})

    def scene(self, slot: int) -> Scene:
        """See `Engine.scene`."""
        c = int(self.classes[slot])
        body_pos, site_pos, memory = self.scenes[slot]
        model_file = next(s.model_file for t, s in self.snapshots.items() if t.name == self.names[c])
        return Scene(model_file, get_state(self.models[c][0], self.held[slot]), body_pos, site_pos, memory[:3])

    def render(self, slot: int) -> np.ndarray:
        """See `Engine.render`."""
        if self.painter is None:
            from metarl.envs.drawing import Painter

            self.painter = Painter()
        return self.painter.draw(self.scene(slot))

    def close(self) -> None:
        """Stop the threads and let go of the simulator's memory."""
        if self.pool:
            self.pool.shutdown()
        if self.painter is not None:
            self.painter.close()
        self.held, self.models, self.painter = [None] * len(self.held), [], None
        self.spare.clear()
        _return_memory()
