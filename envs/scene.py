"""What MuJoCo needs to know of one slot at one moment: its model, its state, and how to make a picture's input of it."""

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

from metarl import cache
from metarl.envs.drawing import import_mujoco
from metarl.errors import UserError

mujoco = import_mujoco()
log = logging.getLogger("metarl")

STATE = mujoco.mjtState.mjSTATE_INTEGRATION
"""All that decides what the next steps do: positions, velocities, controls, mocap pose, warm start."""


@dataclass(frozen=True)
class Scene:
    """A slot at one moment, enough to draw it or to go on from it.

    Attributes:
        model_file: path of the model below Meta-World's folder of assets.
        state: MuJoCo's integration state (`STATE`).
        body_pos, site_pos: the two arrays of the model in which tasks of one class differ, metres.
        goal: where the task wants the object or the hand to be, (3,), metres; hidden from the agent.
    """

    model_file: str
    state: np.ndarray
    body_pos: np.ndarray
    site_pos: np.ndarray
    goal: np.ndarray


@lru_cache(maxsize=1)
def stock_versions() -> str:
    """What results depend on: the versions of Meta-World and MuJoCo."""
    return f"metaworld-{version('metaworld')}-mujoco-{version('mujoco')}"


def assets() -> Path:
    """Meta-World's folder of assets, found without importing Meta-World."""
    spec = find_spec("metaworld")
    if spec is None or spec.origin is None:
        raise UserError("metaworld is not installed: pip install metaworld==3.1.1")
    return Path(spec.origin).parent / "assets"


def load_model(model_file: str) -> Any:
    """The model as Meta-World's environment objects hold it, from its XML file (about 0.15 s)."""
    return _with_welds(mujoco.MjModel.from_xml_path(str(assets() / model_file)))


def _with_welds(model: Any) -> Any:
    # SawyerMocapBase.reset_mocap_welds: the welds pull the hand to the mocap body without an offset.
    weld = model.eq_type == mujoco.mjtEq.mjEQ_WELD
    model.eq_data[weld] = [0.0, 0.0, 0.0, 0.0, 0.0, 0.0, -1.0, 0.0, 0.0, 0.0, 5.0]
    return model


def physics_model(model_file: str) -> Any:
    """The same without textures, a quarter smaller; from the cache (about 0.03 s), where it is kept at first use."""
    path = cache.directory("models", stock_versions(), model_file).with_suffix(".mjb")
    with contextlib.suppress(OSError, ValueError):
        if hashlib.sha256(path.read_bytes()).hexdigest() == path.with_suffix(".sha256").read_text():
            return mujoco.MjModel.from_binary_path(str(path))
        log.warning("a model in the cache is damaged, building it again: %s", path)
    spec = mujoco.MjSpec.from_file(str(assets() / model_file))
    for material in spec.materials:
        material.textures = [""] * len(material.textures)
    for texture in list(spec.textures):
        texture.delete()
    model = _with_welds(spec.compile())
    buffer = np.empty(mujoco.mj_sizeModel(model), np.uint8)
    mujoco.mj_saveModel(model, None, buffer)
    content = buffer.tobytes()
    with contextlib.suppress(OSError):
        cache.write_atomically(path, content)
        cache.write_atomically(path.with_suffix(".sha256"), hashlib.sha256(content).hexdigest().encode())
    return model


def get_state(model: Any, data: Any) -> np.ndarray:
    """A copy of the integration state."""
    state = np.empty(mujoco.mj_stateSize(model, STATE))
    mujoco.mj_getState(model, data, state, STATE)
    return state
