"""Contacts of MuJoCo as the native engine reads them, compared with stock."""

from types import SimpleNamespace

import mujoco
import numpy as np
import pytest
from metaworld.sawyer_xyz_env import SawyerXYZEnv

from metarl.envs.engines import kernel
from metarl.envs.engines.structs import data_offsets

GAP = "margin='0.05' gap='0.05'"  # contacts from 5 cm on, none of which makes a constraint before the geoms meet


def _pads(left: float, right: float, push: float) -> mujoco.MjData:
    """A sphere that overlaps the pads by `left` and `right` metres, pushed sideways with `push` newtons."""
    model = mujoco.MjModel.from_xml_string(f"""<mujoco><option cone='elliptic' gravity='0 0 0'/><worldbody>
        <geom name='leftpad_geom' type='box' size='0.05 0.1 0.1' pos='{left - 0.15} 0 0' {GAP}/>
        <geom name='rightpad_geom' type='box' size='0.05 0.1 0.1' pos='{0.15 - right} 0 0' {GAP}/>
        <body name='obj'><freejoint/><geom name='objGeom' size='0.1' {GAP}/></body></worldbody></mujoco>""")
    data = mujoco.MjData(model)
    data.qfrc_applied[1] = push
    mujoco.mj_forward(model, data)
    return data


def _ours(data: mujoco.MjData) -> bool:
    ids = np.zeros(kernel.LAYOUT_SIZE, np.int64)
    columns = {"leftpad_geom": kernel.LEFT_GEOM, "rightpad_geom": kernel.RIGHT_GEOM, "objGeom": kernel.TOUCHED_GEOM}
    for name, column in columns.items():
        ids[column] = data.geom(name).id
    return bool(kernel.touching(data._address, ids, data_offsets()))


@pytest.mark.parametrize("push", [-3.0, 3.0])
@pytest.mark.parametrize(("left", "right"), [(0.01, 0.01), (0.01, -0.02), (-0.02, 0.01), (0.01, -0.1)])
def test_contacts_are_read_as_upstream_reads_them(left, right, push):
    data = _pads(left, right, push)
    addresses = data.contact.efc_address.tolist()
    assert (-1 in addresses) == (-0.05 < min(left, right) < 0)
    upstream = SawyerXYZEnv.touching_object(SimpleNamespace(data=data), data.geom("objGeom").id)
    assert _ours(data) == upstream


def test_contacts_without_a_constraint_are_no_touch():
    """Stock fails here with an IndexError."""
    data = _pads(-0.02, -0.02, 0.0)
    assert data.contact.efc_address.tolist() == [-1, -1]
    assert not _ours(data)
