"""Capture one environment's model and state at one moment, for drawing it or continuing from it; load Meta-World's models."""

import contextlib
import hashlib
import logging
from dataclasses import dataclass
from functools import lru_cache
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from metarl.envs.rendering.opengl import import_mujoco
from metarl.errors import UserError
from metarl.system import files as cache

mujoco = import_mujoco()
log = logging.getLogger("metarl")

STATE = mujoco.mjtState.mjSTATE_INTEGRATION
"""State that determines the following steps: positions, velocities, controls, mocap pose, warm start."""


@dataclass(frozen=True)
class Scene:
    """An environment at one moment, sufficient to draw it or to continue from it.

    Attributes:
        model_file: path of the model relative to Meta-World's asset folder.
        state: MuJoCo's integration state (`STATE`).
        body_pos, site_pos: the two model arrays in which tasks of one class differ, metres.
        goal: target position of the object or hand, (3,), metres; hidden from the agent.
    """

    model_file: str
    state: np.ndarray
    body_pos: np.ndarray
    site_pos: np.ndarray
    goal: np.ndarray


@lru_cache(maxsize=1)
def upstream_versions() -> str:
    """Return the versions of Meta-World and MuJoCo, on which results depend."""
    return f"metaworld-{version('metaworld')}-mujoco-{version('mujoco')}"


def assets() -> Path:
    """Return Meta-World's asset folder, without importing Meta-World."""
    spec = find_spec("metaworld")
    if spec is None or spec.origin is None:
        raise UserError("metaworld is not installed: pip install metaworld==3.1.1")
    return Path(spec.origin).parent / "assets"


def load_model(model_file: str) -> Any:
    """Load a model as Meta-World's environments hold it: from the cache (0.03 s), or from its XML files (0.15 s)."""
    path = _kept(model_file)
    with contextlib.suppress(OSError, ValueError):
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        if digest == path.with_suffix(".sha256").read_text():
            return mujoco.MjModel.from_binary_path(str(path))
        log.warning("a model in the cache is damaged, building it again: %s", path)
    model = mujoco.MjModel.from_xml_path(str(assets() / model_file))
    # SawyerMocapBase.reset_mocap_welds: the welds pull the hand to the mocap body without an offset.
    weld = model.eq_type == mujoco.mjtEq.mjEQ_WELD
    model.eq_data[weld] = [0.0, 0.0, 0.0, 0.0, 0.0, 0.0, -1.0, 0.0, 0.0, 0.0, 5.0]
    _keep(model_file, model)
    return model


def keep_model(model_file: str, model: Any) -> None:
    """Cache a stock environment's model, before its first reset, for `load_model`."""
    if not _kept(model_file).exists():
        _keep(model_file, model)


def _keep(model_file: str, model: Any) -> None:
    path, buffer = _kept(model_file), np.empty(mujoco.mj_sizeModel(model), np.uint8)
    mujoco.mj_saveModel(model, None, buffer)
    content = buffer.tobytes()
    with contextlib.suppress(OSError):
        cache.write_atomically(path, content, durable=False)
        digest = hashlib.sha256(content).hexdigest().encode()
        cache.write_atomically(path.with_suffix(".sha256"), digest, durable=False)


def _kept(model_file: str) -> Path:
    return cache.directory("models", upstream_versions(), model_file).with_suffix(".mjb")


def get_state(model: Any, data: Any) -> np.ndarray:
    """Return a copy of the integration state."""
    state = np.empty(mujoco.mj_stateSize(model, STATE))
    mujoco.mj_getState(model, data, state, STATE)
    return state
