"""Exact states after a reset, kept on disk, so that a reset copies numbers instead of simulating 100 control steps.

For a fixed task a stock reset is deterministic, so its outcome can be stored: the simulator's integration state, the
two arrays of the model in which tasks of one class differ, the observation that stock returned (in seven tasks it is
older than the state), and what the reward remembers.
"""

import hashlib
import io
import logging
from collections.abc import Iterable
from dataclasses import asdict, dataclass, fields
from importlib.metadata import version
from pathlib import Path

import numpy as np

from metarl import cache
from metarl.envs.suites import Task

log = logging.getLogger("metarl")

_FORMAT = 1


@dataclass(frozen=True)
class Snapshot:
    """A task's state right after its reset.

    Attributes:
        model_file: path of the model below Meta-World's folder of assets.
        state: integration state of MuJoCo.
        body_pos, site_pos: (bodies, 3), (sites, 3) of the model, metres.
        obs: (39,) the observation that the reset returned.
        previous: (18,) the previous observation that the next step will show.
        memory: (12,) target, object's start, hand's start, initial hand position (`metarl.envs.tasks.primitives`).
        mocap_low, mocap_high: (3,) where the hand's target may go.
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


def prepare(tasks: Iterable[Task]) -> dict[Task, Snapshot]:
    """Build the snapshots that are missing on disk (about 15 ms each, and 0.2 s a class of task); returns those built."""
    built = {}
    missing = [task for task in dict.fromkeys(tasks) if cache.load(_path(task)) is None]
    if len(missing) > 100:
        log.info("building %d snapshots of Meta-World tasks, once: about %d s", len(missing), len(missing) // 60)
    from metarl.envs.python_engine import StockEnv

    for name in dict.fromkeys(task.name for task in missing):
        env = StockEnv(name)
        for task in missing:
            if task.name == name:
                built[task] = _build(env, task)
                cache.store(_path(task), _encode(built[task]))
    return built


def snapshot(task: Task) -> Snapshot:
    """The snapshot of a task: from disk; where nothing whole is there, built anew."""
    content = cache.load(_path(task))
    return prepare([task])[task] if content is None else _decode(content)


def _path(task: Task) -> Path:
    versions = f"metaworld-{version('metaworld')}-mujoco-{version('mujoco')}-{_FORMAT}"
    digest = hashlib.sha256(repr(task.params).encode()).hexdigest()[:20]
    return cache.directory("snapshots", versions, task.name, f"{digest}.npz")


def _build(env: "StockEnv", task: Task) -> Snapshot:  # type: ignore[name-defined] # noqa: F821
    env.set_task(task.params)
    obs, _ = env.reset()
    scene, stock = env.scene(), env.env
    memory = np.concatenate([stock._target_pos, stock.obj_init_pos, stock.init_tcp, stock.hand_init_pos])
    return Snapshot(
        scene.model_file, scene.state, scene.body_pos, scene.site_pos, np.array(obs), np.array(stock._prev_obs),
        memory.astype(np.float64), np.array(stock.mocap_low), np.array(stock.mocap_high),
    )  # fmt: skip


def _encode(snap: Snapshot) -> bytes:
    buffer = io.BytesIO()
    np.savez(buffer, **asdict(snap))
    return buffer.getvalue()


def _decode(content: bytes) -> Snapshot:
    with np.load(io.BytesIO(content), allow_pickle=False) as arrays:
        values = {field.name: arrays[field.name] for field in fields(Snapshot)}
    return Snapshot(**{**values, "model_file": str(values["model_file"])})
