"""Compiled inner loop of the native engine: steps a batch's environments in one thread, without the interpreter.

All arguments are numbers and addresses, so that numba can cache the compiled code on disk. The order of operations follows
`SawyerXYZEnv.step`; what it computes in float32 is computed in float32 here.
"""

from functools import partial
from typing import NamedTuple

import numba as nb
import numpy as np

from metarl.envs.tasks.primitives import (
    ACTION,
    INFO,
    LEFT_PAD,
    MAX_READINGS,
    NOW_SIZE,
    OBSERVED,
    OUT_SIZE,
    READINGS,
    RIGHT_PAD,
    TARGET,
    TCP,
    TOUCHING,
)
from metarl.system.jit import call_with_three, call_with_two, doubles, fetch_and_add, jit, read_int, read_pointer

# columns of `addresses`, one row per environment: mjModel and MjData of the environment, arrays of that MjData, the
# environment's memory
MODEL, DATA, QPOS, CTRL, MOCAP_POS, MOCAP_QUAT, XPOS, GEOM_XPOS, SITE_XPOS, XQUAT, XMAT, GEOM_XMAT, SITE_XMAT, MEMORY = range(
    14
)

# columns of `layouts`, one row per task class: ids, sources of the observation and the readings, and the formula
HAND_ID, LEFT_ID, RIGHT_ID, LEFT_CLAW, RIGHT_CLAW, LEFT_TIP, RIGHT_TIP, FORMULA = range(8)
OBJECTS, SEEN_SIZE = 8, 6  # two objects of six columns each, as follows; a kind of -1: no such object
SEEN_COLUMN, SEEN_ID, SEEN_TURN, SEEN_TURN_COLUMN, SEEN_TURN_ID, SEEN_HINGE = range(6)
READING_COLUMNS = OBJECTS + 2 * SEEN_SIZE  # five readings of two columns each: column and id; -1: no such reading
LEFT_GEOM, RIGHT_GEOM, TOUCHED_GEOM, TOUCH_DECIDES = range(
    READING_COLUMNS + 2 * MAX_READINGS, READING_COLUMNS + 2 * MAX_READINGS + 4
)
LAYOUT_SIZE = TOUCH_DECIDES + 1
NO_TURN, IDENTITY_TURN, QUATERNION_TURN, MATRIX_TURN = range(4)  # values of SEEN_TURN

# entries of `offsets`: byte offsets in MuJoCo's structs
NCON, CONTACT, EFC_FORCE, CONTACT_SIZE, CONTACT_GEOM, CONTACT_EFC, BAD_QPOS, WARNING_SIZE = range(8)

DIAL_RADIUS = 0.05


@jit
def quaternion_of(matrix, out):
    """Compute scipy's `Rotation.from_matrix(matrix).as_quat()`: x, y, z, w, by the largest of the four candidates."""
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
def numbers(row, column, index, size):
    """View entry `index` of one of the environment's arrays, `size` numbers."""
    return nb.carray(doubles(row[column] + 8 * size * index), size)


@jit
def look_at(row, seen, offset, out):
    """Compute an object's position and quaternion as observed: seven numbers."""
    position = numbers(row, seen[SEEN_COLUMN], seen[SEEN_ID], 3)
    for i in range(3):
        out[i] = position[i] + offset[i]
    if seen[SEEN_HINGE] >= 0:
        angle = numbers(row, QPOS, seen[SEEN_HINGE], 1)[0]
        out[0] = position[0] + np.sin(angle) * DIAL_RADIUS
        out[1] = position[1] + -np.cos(angle) * DIAL_RADIUS
    turn = seen[SEEN_TURN]
    if turn == MATRIX_TURN:
        quaternion_of(numbers(row, seen[SEEN_TURN_COLUMN], seen[SEEN_TURN_ID], 9), out[3:7])
    elif turn == QUATERNION_TURN:
        out[3:7] = numbers(row, seen[SEEN_TURN_COLUMN], seen[SEEN_TURN_ID], 4)
    else:
        out[3:7] = 0.0
        if turn == IDENTITY_TURN:
            out[3] = 1.0


@jit
def touching(data, ids, offsets):
    """`SawyerXYZEnv.touching_object`: whether each pad presses the geom with a force above 0."""
    contacts, forces = read_pointer(data + offsets[CONTACT]), read_pointer(data + offsets[EFC_FORCE])
    left, right, thing = 0.0, 0.0, ids[TOUCHED_GEOM]
    for i in range(read_int(data + offsets[NCON])):
        contact = contacts + i * offsets[CONTACT_SIZE]
        first, second = read_int(contact + offsets[CONTACT_GEOM]), read_int(contact + offsets[CONTACT_GEOM] + 4)
        if first == thing or second == thing:
            other = second if first == thing else first
            if other == ids[LEFT_GEOM] or other == ids[RIGHT_GEOM]:
                row = read_int(contact + offsets[CONTACT_EFC])
                if row < 0:  # a contact without a constraint has -1, which stock's Python takes as the last row
                    row += read_int(data + offsets[NCON] + 4)
                if row < 0:  # there are no rows: stock fails
                    continue
                # elliptic cone: the first force of a contact is the normal force
                force = nb.carray(doubles(forces + 8 * row), 1)[0]
                if other == ids[LEFT_GEOM]:
                    left += force
                else:
                    right += force
    return left > 0.0 and right > 0.0


@jit
def clipped_hand(source, low, high, out):
    """Copy 18 observed numbers, clipping the hand's position (the first three) to the observation space."""
    for i in range(3):
        out[i] = min(max(source[i], low[i]), high[i])
    for i in range(3, OBSERVED):
        out[i] = source[i]


@jit
def observe(row, ids, seen_offsets, out):
    """`SawyerXYZEnv._get_curr_obs_combined_no_goal`: hand, gripper opening, objects; 18 numbers."""
    out[0:3] = numbers(row, XPOS, ids[HAND_ID], 3)
    left, right = numbers(row, XPOS, ids[LEFT_CLAW], 3), numbers(row, XPOS, ids[RIGHT_CLAW], 3)
    x, y, z = right[0] - left[0], right[1] - left[1], right[2] - left[2]
    out[3] = min(max(np.sqrt(x * x + y * y + z * z) / 0.1, 0.0), 1.0)
    look_at(row, ids[OBJECTS : OBJECTS + SEEN_SIZE], seen_offsets[0], out[4:11])
    if ids[OBJECTS + SEEN_SIZE] >= 0:
        look_at(row, ids[OBJECTS + SEEN_SIZE : OBJECTS + 2 * SEEN_SIZE], seen_offsets[1], out[11:18])
    else:
        out[11:18] = 0.0


class Simulation(NamedTuple):
    """What compiled code needs to step environments.

    Attributes:
        classes: (num_envs,) index of each environment's task class.
        addresses, layouts, offsets: see the columns above; one row per environment, one row per class, one row.
        seen_offsets: (classes, 2, 3) added to the objects' positions, metres.
        limits: (classes, 4, 3) lower and upper bounds of the hand's target, then of the visible goal.
        hand_low, hand_high: (3,) bounds of the hand in the observation space.
        mj_step, mj_forward, mj_set_state, mj_get_state: addresses of MuJoCo's functions.
        previous: (num_envs, 18) the last observation, not clipped; updated.
        show_goal: whether the last three observed numbers are the goal; otherwise zeros.
        all_info: whether to compute info beyond success.
    """

    classes: np.ndarray
    addresses: np.ndarray
    layouts: np.ndarray
    offsets: np.ndarray
    seen_offsets: np.ndarray
    limits: np.ndarray
    hand_low: np.ndarray
    hand_high: np.ndarray
    mj_step: int
    mj_forward: int
    mj_set_state: int
    mj_get_state: int
    previous: np.ndarray
    show_goal: bool
    all_info: bool


@jit
def advance(sim, env_id, action, obs, now, out):
    """Take one control step (12.5 ms) of an environment.

    Args:
        sim: see `Simulation`.
        env_id: index of the environment.
        action: (4,) float32.
        obs: (39,) the observation, filled.
        now: (NOW_SIZE,) scratch.
        out: (OUT_SIZE,) filled: reward, success and the rest of `INFO`.

    Returns:
        Whether MuJoCo found the simulation unstable and reset it to its model's default.
    """
    c = sim.classes[env_id]
    row, ids, limits = sim.addresses[env_id], sim.layouts[c], sim.limits[c]
    data, offsets, previous = row[DATA], sim.offsets, sim.previous[env_id]

    mocap, quat, ctrl = numbers(row, MOCAP_POS, 0, 3), numbers(row, MOCAP_QUAT, 0, 4), numbers(row, CTRL, 0, 2)
    for i in range(3):
        shift = min(max(action[i], np.float32(-1)), np.float32(1)) * np.float32(0.01)
        mocap[i] = min(max(mocap[i] + np.float64(shift), limits[0, i]), limits[1, i])
    quat[0], quat[1], quat[2], quat[3] = 1.0, 0.0, 1.0, 0.0
    grip = np.float64(action[3])
    ctrl[0], ctrl[1] = grip, -grip
    for _ in range(5):
        call_with_two(sim.mj_step, row[MODEL], data)
    call_with_two(sim.mj_forward, row[MODEL], data)
    bad = 0
    for i in range(3):  # position, velocity, acceleration
        bad += read_int(data + offsets[BAD_QPOS] + i * offsets[WARNING_SIZE])

    memory = numbers(row, MEMORY, 0, TARGET + 3)
    clipped_hand(previous, sim.hand_low, sim.hand_high, obs[OBSERVED : 2 * OBSERVED])
    observe(row, ids, sim.seen_offsets[c], previous)
    clipped_hand(previous, sim.hand_low, sim.hand_high, obs[:OBSERVED])
    for i in range(3):
        goal = min(max(memory[TARGET + i], limits[2, i]), limits[3, i])
        obs[2 * OBSERVED + i] = goal if sim.show_goal else 0.0

    now[:OBSERVED] = obs[:OBSERVED]
    right, left = numbers(row, SITE_XPOS, ids[RIGHT_TIP], 3), numbers(row, SITE_XPOS, ids[LEFT_TIP], 3)
    for i in range(3):
        now[TCP + i] = (right[i] + left[i]) / 2.0
    now[LEFT_PAD : LEFT_PAD + 3] = numbers(row, XPOS, ids[LEFT_ID], 3)
    now[RIGHT_PAD : RIGHT_PAD + 3] = numbers(row, XPOS, ids[RIGHT_ID], 3)
    for i in range(4):
        now[ACTION + i] = np.float64(action[i])
    if ids[TOUCHED_GEOM] >= 0 and (sim.all_info or ids[TOUCH_DECIDES]):
        now[TOUCHING] = touching(data, ids, offsets)
    for i in range(MAX_READINGS):
        column, index = ids[READING_COLUMNS + 2 * i], ids[READING_COLUMNS + 2 * i + 1]
        if column == QPOS:
            now[READINGS + 3 * i] = numbers(row, QPOS, index, 1)[0]
        elif column >= 0:
            now[READINGS + 3 * i : READINGS + 3 * i + 3] = numbers(row, column, index, 3)
    call_with_three(ids[FORMULA], now.ctypes.data, row[MEMORY], out.ctypes.data)
    return bad > 0


@partial(jit, what="the engine's loop")
def step_envs(counter, order, sim, actions, obs, reward, success, info, unstable):
    """Take one control step in environment after environment, until none is left.

    Args:
        counter: (2,) index into `order` of the next environment, shared by all threads; then whether any environment became
            unstable.
        order: (num_envs,) the environments, slowest first.
        sim: see `Simulation`.
        actions: (num_envs, 4) float32.
        obs, reward, success, info, unstable: results, (num_envs, 39), (num_envs,), (num_envs,), (6, num_envs) as in
            `INFO`, (num_envs,); see `advance`.
    """
    now, out = np.zeros(NOW_SIZE), np.zeros(OUT_SIZE)
    while True:
        turn = fetch_and_add(counter.ctypes.data)
        if turn >= len(order):
            return
        env_id = order[turn]
        unstable[env_id] = advance(sim, env_id, actions[env_id], obs[env_id], now, out)
        if unstable[env_id]:
            counter[1] = 1
        reward[env_id] = out[0]
        success[env_id] = out[1] != 0.0
        if sim.all_info:
            for i in range(len(INFO)):
                info[i, env_id] = out[1 + i]
