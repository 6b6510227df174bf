"""Locate fields in MuJoCo's structs by inspecting a live model and its data, not by copying a header.

MuJoCo's Python package exposes arrays, but compiled code needs the place where the struct stores their addresses, since
the arena's arrays move from step to step. Also, a separate `mjModel` per environment that shares all arrays with its class's
model, except those in which tasks of one class differ, takes 5 kB instead of 20 MB.
"""

import ctypes
from functools import lru_cache
from typing import Any

import numpy as np

from metarl.envs.engines.kernel import BAD_QPOS, CONTACT, CONTACT_EFC, CONTACT_GEOM, CONTACT_SIZE, EFC_FORCE, NCON, WARNING_SIZE
from metarl.envs.rendering.opengl import import_mujoco
from metarl.errors import UserError

mujoco = import_mujoco()

_TOUCHING = """<mujoco><worldbody><geom type='plane' size='1 1 1'/>
<body pos='0 0 0.09'><freejoint/><geom size='0.1'/><site/></body></worldbody></mujoco>"""


def _strange() -> UserError:
    return UserError(f"MuJoCo {mujoco.__version__} lays out its data differently than expected: use engine='python'")


def _find(base: int, start: int, end: int, address: int) -> int:
    """Return the offset from `base`, between `start` and `end`, of a pointer to `address`."""
    words = np.ctypeslib.as_array((ctypes.c_int64 * ((end - start) // 8)).from_address(base + start))
    found = np.flatnonzero(words == address)
    if len(found) != 1:
        raise _strange()
    return start + 8 * int(found[0])


def _size(address: int) -> int:
    """Return the number of bytes allocated at an address; at least the number requested."""
    usable = ctypes.CDLL(None).malloc_usable_size
    usable.restype, usable.argtypes = ctypes.c_size_t, [ctypes.c_void_p]
    return int(usable(address)) // 8 * 8


@lru_cache(maxsize=1)
def data_offsets() -> np.ndarray:
    """Return the offsets of contacts, contact forces and warnings in `mjData`, in the order of `kernel.NCON` and following.

    Raises:
        UserError: this code does not support the installed version of MuJoCo.
    """
    model = mujoco.MjModel.from_xml_string(_TOUCHING)
    data = mujoco.MjData(model)
    mujoco.mj_forward(model, data)
    base, contact, warning = data._address, data.contact, data.warning.number
    energy, end = data.energy.ctypes.data - base, _size(base)
    first = contact.dist.ctypes.data
    inputs = _find(base, energy, end, data.qvel.ctypes.data)  # the arena precedes it and begins with the contacts
    offsets = np.zeros(8, np.int64)
    # the energy is preceded by eight counts, ncon first, and the time
    offsets[NCON] = energy - 8 - 8 * 4
    offsets[CONTACT] = _find(base, inputs, end, first)
    offsets[EFC_FORCE] = _find(base, inputs, end, data.efc_force.ctypes.data)
    offsets[CONTACT_SIZE] = contact.dist.strides[0]
    offsets[CONTACT_GEOM] = contact.geom.ctypes.data - first
    offsets[CONTACT_EFC] = contact.efc_address.ctypes.data - first
    offsets[BAD_QPOS] = warning.ctypes.data - base + int(mujoco.mjtWarning.mjWARN_BADQPOS) * warning.strides[0]
    offsets[WARNING_SIZE] = warning.strides[0]
    counts = [ctypes.c_int.from_address(base + int(offsets[NCON]) + 4 * i).value for i in (0, 4)]
    if counts != [data.ncon, data.nefc] or data.ncon != 1:
        raise _strange()
    return offsets


class OwnModels:
    """One `mjModel` per environment that shares its class's arrays except `body_pos` and `site_pos`."""

    def __init__(self, num_envs: int) -> None:
        model = mujoco.MjModel.from_xml_string(_TOUCHING)
        base, size = model._address, _size(model._address)
        self.body_pos = _find(base, 0, size, model.body_pos.ctypes.data)
        self.site_pos = _find(base, 0, size, model.site_pos.ctypes.data)
        self.size = size
        self.structs = np.zeros((num_envs, size // 8), np.int64)

    def put(self, env_id: int, model: Any, body_pos: np.ndarray, site_pos: np.ndarray) -> int:
        """Give the environment a model with these arrays, which must outlive it; return the model's address."""
        address = self.structs[env_id].ctypes.data
        ctypes.memmove(address, model._address, self.size)
        self.structs[env_id, self.body_pos // 8] = body_pos.ctypes.data
        self.structs[env_id, self.site_pos // 8] = site_pos.ctypes.data
        return address
