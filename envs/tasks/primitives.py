"""What the rewards of Meta-World are made of, written beside its `reward_utils` and `SawyerXYZEnv`.

A formula is a function of three vectors of float64: what the simulator shows `now`, what the slot remembers of its
reset (`memory`), and where the results go (`out`). The constants below say where each quantity stands.
"""

import numpy as np

from metarl.envs.jit import jit

# now: the observation as the reward sees it (clipped), then what it reads from the simulator itself (not clipped)
HAND, OPEN, OBJECT, OBSERVED = 0, 3, 4, 18
TCP, LEFT_PAD, RIGHT_PAD, GRIP = 18, 21, 24, 27
NOW_SIZE = 28

# memory: `_target_pos`, `obj_init_pos`, `init_tcp`, `hand_init_pos` of the stock environment after its reset
TARGET, OBJECT_START, TCP_START, HAND_START = 0, 3, 6, 9
MEMORY_SIZE = 12

REWARD, SUCCESS = 0, 1
OUT_SIZE = 2


@jit
def distance(a, i, b, j):
    """Euclidean distance of the points a[i:i+3] and b[j:j+3]."""
    x, y, z = a[i] - b[j], a[i + 1] - b[j + 1], a[i + 2] - b[j + 2]
    return np.sqrt(x * x + y * y + z * z)


@jit
def distance_xz(a, i, b, j):
    """Distance of two points in the plane of x and z."""
    x, z = a[i] - b[j], a[i + 2] - b[j + 2]
    return np.sqrt(x * x + z * z)


@jit
def tolerance(x, lower, upper, margin):
    """`reward_utils.tolerance` with the long-tailed sigmoid: 1 within the bounds, 0.1 at the margin."""
    if lower <= x <= upper:
        return 1.0
    if margin == 0.0:
        return 0.0
    d = 3.0 * ((lower - x if x < lower else x - upper) / margin)  # 3 = sqrt(1 / 0.1 - 1)
    return 1.0 / (d * d + 1.0)


@jit
def rounded(x, single):
    """x in the precision in which stock holds it.

    Stock computes with float32 once a float32 action has entered (numpy's rules of promotion: a Python float is
    weak). Rounding the float64 result of +, -, * and / of two float32 numbers gives just what float32 gives.
    """
    return np.float64(np.float32(x)) if single else x


@jit
def hamacher(a, b, single=False):
    """`reward_utils.hamacher_product`: ab / (a + b - ab), in float32 where `single`."""
    a, b = rounded(a, single), rounded(b, single)
    product = rounded(a * b, single)
    denominator = rounded(rounded(a + b, single) - product, single)
    return rounded(product / denominator, single) if denominator > 0.0 else 0.0


@jit
def grasped(caging, grip, effort):
    """The end of every dense caging reward: the gripper counts as closing once it cages the object.

    Returns:
        (hamacher(caging, closing) + caging) / 2, and whether stock holds it as float32: where caging exceeds 0.97 and
        the action's last entry, a float32, is itself the closing term.
    """
    if caging > 0.97 and grip > 0.0:
        single = grip <= rounded(effort, True)
        closing = rounded(grip / rounded(effort, True), True) if single else 1.0
        return rounded(rounded(hamacher(caging, closing, single) + rounded(caging, single), single) / 2.0, single), single
    return (hamacher(caging, 0.0) + caging) / 2.0, False


@jit
def caging(now, memory, object_radius, pad_threshold, xz_threshold):
    """`SawyerXYZEnv._gripper_caging_reward` up to its closing term: the pads beside the object, the hand at its x, z."""
    y, y_start = now[OBJECT + 1], memory[OBJECT_START + 1]
    left, right = now[LEFT_PAD + 1], now[RIGHT_PAD + 1]
    in_y = hamacher(
        tolerance(abs(left - y), object_radius, pad_threshold, abs(abs(left - y_start) - pad_threshold)),
        tolerance(abs(right - y), object_radius, pad_threshold, abs(abs(right - y_start) - pad_threshold)),
    )
    margin = distance_xz(memory, OBJECT_START, memory, TCP_START) - xz_threshold
    return hamacher(in_y, tolerance(distance_xz(now, TCP, now, OBJECT), 0.0, xz_threshold, margin))
