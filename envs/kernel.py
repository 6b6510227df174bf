"""The compiled loop of the native engine: it steps slots of a batch in one thread, without the interpreter.

Everything is handed over as numbers and addresses, so that numba can keep the compiled code on disk. The order of
operations is `SawyerXYZEnv.step`'s; what that does in float32 is done in float32 here.
"""

import numba as nb
import numpy as np

from metarl.envs.jit import call_with_three, call_with_two, doubles, jit
from metarl.envs.tasks.primitives import GRIP, LEFT_PAD, NOW_SIZE, OBSERVED, OUT_SIZE, RIGHT_PAD, TCP

# columns of `slot_addresses`: MjData, some of its arrays, and the slot's own arrays
DATA, CTRL, MOCAP_POS, MOCAP_QUAT, XPOS, GEOM_XPOS, SITE_XPOS, GEOM_XMAT, BODY_POS, SITE_POS, MEMORY = range(11)
# columns of `models`: mjModel and the two arrays in which tasks of one class differ
MODEL, MODEL_BODY_POS, MODEL_SITE_POS = range(3)
# columns of `layouts`: array sizes, ids, and the address of the task's formula
N_BODY, N_SITE, HAND_ID, LEFT_ID, RIGHT_ID, LEFT_CLAW, RIGHT_CLAW, LEFT_TIP, RIGHT_TIP = range(9)
OBJECT_COLUMN, OBJECT_ID, QUATERNION_ID, FORMULA = range(9, 13)
LAYOUT_SIZE = 13


@jit
def quaternion_of(matrix, out):
    """scipy's `Rotation.from_matrix(matrix).as_quat()`: x, y, z, w, by the largest of the four candidates."""
    trace = matrix[0] + matrix[4] + matrix[8]
    choice, best = 0, matrix[0]
    for i in (1, 2):
        if matrix[4 * i] > best:
            choice, best = i, matrix[4 * i]
    if trace > best:
        out[0] = matrix[7] - matrix[5]
        out[1] = matrix[2] - matrix[6]
        out[2] = matrix[3] - matrix[1]
        out[3] = 1.0 + trace
    else:
        i, j, k = choice, (choice + 1) % 3, (choice + 2) % 3
        out[i] = 1.0 - trace + 2.0 * matrix[4 * i]
        out[j] = matrix[3 * j + i] + matrix[3 * i + j]
        out[k] = matrix[3 * k + i] + matrix[3 * i + k]
        out[3] = matrix[3 * k + j] - matrix[3 * j + k]
    norm = np.sqrt(out[0] * out[0] + out[1] * out[1] + out[2] * out[2] + out[3] * out[3])
    for i in range(4):
        out[i] /= norm


@jit
def clipped_hand(source, low, high, out):
    """Copy 18 observed numbers; the hand's position, the first three, is clipped to the observation space."""
    for i in range(3):
        out[i] = min(max(source[i], low[i]), high[i])
    for i in range(3, OBSERVED):
        out[i] = source[i]


@jit
def step_slots(
    slots, classes, slot_addresses, models, layouts, mocap_low, mocap_high, hand_low, hand_high, actions, previous,
    mj_step, mj_forward, obs, reward, success,
):  # fmt: skip
    """One control step (12.5 ms) of each of `slots`.

    Args:
        slots: indices of the slots that this thread steps.
        classes: (num_envs,) index of each slot's class of task.
        slot_addresses, models, layouts: see the columns above; a row a slot, a class, a class. `models` are this thread's.
        mocap_low, mocap_high: (classes, 3) where the hand's target may go.
        hand_low, hand_high: (3,) the hand's bounds in the observation space.
        actions: (num_envs, 4) float32.
        previous: (num_envs, 18) the last observation, not clipped; updated.
        mj_step, mj_forward: addresses of MuJoCo's functions.
        obs, reward, success: results, (num_envs, 39), (num_envs,), (num_envs,).
    """
    now, out, current = np.empty(NOW_SIZE), np.empty(OUT_SIZE), np.empty(OBSERVED)
    for slot in slots:
        c = classes[slot]
        row, model, ids = slot_addresses[slot], models[c], layouts[c]
        # models are shared by all slots of a class that this thread steps: put this slot's scene into it
        n_body, n_site = ids[N_BODY] * 3, ids[N_SITE] * 3
        nb.carray(doubles(model[MODEL_BODY_POS]), n_body)[:] = nb.carray(doubles(row[BODY_POS]), n_body)
        nb.carray(doubles(model[MODEL_SITE_POS]), n_site)[:] = nb.carray(doubles(row[SITE_POS]), n_site)

        mocap = nb.carray(doubles(row[MOCAP_POS]), 3)
        quat = nb.carray(doubles(row[MOCAP_QUAT]), 4)
        ctrl = nb.carray(doubles(row[CTRL]), 2)
        for i in range(3):
            shift = min(max(actions[slot, i], np.float32(-1)), np.float32(1)) * np.float32(0.01)
            mocap[i] = min(max(mocap[i] + np.float64(shift), mocap_low[c, i]), mocap_high[c, i])
        quat[0], quat[1], quat[2], quat[3] = 1.0, 0.0, 1.0, 0.0
        grip = np.float64(actions[slot, 3])
        ctrl[0], ctrl[1] = grip, -grip
        for _ in range(5):
            call_with_two(mj_step, model[MODEL], row[DATA])
        call_with_two(mj_forward, model[MODEL], row[DATA])

        xpos = nb.carray(doubles(row[XPOS]), (ids[N_BODY], 3))
        tips = nb.carray(doubles(row[SITE_XPOS]), (ids[N_SITE], 3))
        position = nb.carray(doubles(row[ids[OBJECT_COLUMN]]), (ids[OBJECT_ID] + 1, 3))[ids[OBJECT_ID]]
        matrix = nb.carray(doubles(row[GEOM_XMAT]), (ids[QUATERNION_ID] + 1, 9))[ids[QUATERNION_ID]]

        current[:] = 0.0
        current[0:3] = xpos[ids[HAND_ID]]
        apart = xpos[ids[RIGHT_CLAW]] - xpos[ids[LEFT_CLAW]]
        opening = np.sqrt(apart[0] * apart[0] + apart[1] * apart[1] + apart[2] * apart[2])
        current[3] = min(max(opening / 0.1, 0.0), 1.0)
        current[4:7] = position
        quaternion_of(matrix, current[7:11])

        clipped_hand(current, hand_low, hand_high, obs[slot, :OBSERVED])
        clipped_hand(previous[slot], hand_low, hand_high, obs[slot, OBSERVED : 2 * OBSERVED])
        obs[slot, 2 * OBSERVED :] = 0.0  # the goal: hidden
        previous[slot] = current

        now[:OBSERVED] = obs[slot, :OBSERVED]
        now[TCP : TCP + 3] = (tips[ids[RIGHT_TIP]] + tips[ids[LEFT_TIP]]) / 2.0
        now[LEFT_PAD : LEFT_PAD + 3] = xpos[ids[LEFT_ID]]
        now[RIGHT_PAD : RIGHT_PAD + 3] = xpos[ids[RIGHT_ID]]
        now[GRIP] = grip
        call_with_three(ids[FORMULA], now.ctypes.data, row[MEMORY], out.ctypes.data)
        reward[slot] = out[0]
        success[slot] = out[1] != 0.0
