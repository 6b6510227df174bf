"""Building blocks of Meta-World's rewards, equivalent to its `reward_utils` and `SawyerXYZEnv`.

A formula takes three vectors of float64: the simulator's current quantities (`now`), the environment's quantities from its
reset (`memory`), and the results (`out`). The constants below are the index of each quantity. Points are tuples of three
numbers, metres.
"""

import numpy as np

from metarl.system.jit import jit

# now: the observation as the reward receives it (clipped), then values read directly from the simulator (not clipped)
HAND, OPEN, OBJECT, QUATERNION, SECOND, OBSERVED = 0, 3, 4, 7, 11, 18
TCP, LEFT_PAD, RIGHT_PAD, ACTION, GRIP, TOUCHING = 18, 21, 24, 27, 30, 31  # the action is not clipped; GRIP is its last entry
READINGS, MAX_READINGS = 32, 5  # three numbers each, as listed in `NativeTask.readings`; joints use only the first
NOW_SIZE = READINGS + 3 * MAX_READINGS

# memory: `_target_pos`, `obj_init_pos`, `init_tcp`, `hand_init_pos` of the stock environment after its reset, then the
# attributes in `NativeTask.remembers`
TARGET, OBJECT_START, TCP_START, HAND_START, REMEMBERED = 0, 3, 6, 9, 12

# out: the reward, then the entries of stock's info
REWARD, SUCCESS, NEAR_OBJECT, GRASP_SUCCESS, GRASP_REWARD, IN_PLACE_REWARD, OBJ_TO_TARGET = range(7)
OUT_SIZE = 7
INFO = ("success", "near_object", "grasp_success", "grasp_reward", "in_place_reward", "obj_to_target")
"""Names of out[1:] in stock's info."""


@jit
def report(out, reward, success, near_object, grasp_success, grasp_reward, in_place_reward, obj_to_target):
    """Write the results."""
    out[REWARD] = reward
    out[SUCCESS] = success
    out[NEAR_OBJECT] = near_object
    out[GRASP_SUCCESS] = grasp_success
    out[GRASP_REWARD] = grasp_reward
    out[IN_PLACE_REWARD] = in_place_reward
    out[OBJ_TO_TARGET] = obj_to_target


@jit
def point(vector, i):
    """The three numbers starting at i."""
    return vector[i], vector[i + 1], vector[i + 2]


@jit
def plus(p, q):
    """p + q."""
    return p[0] + q[0], p[1] + q[1], p[2] + q[2]


@jit
def minus(p, q):
    """p - q."""
    return p[0] - q[0], p[1] - q[1], p[2] - q[2]


@jit
def distance(p, q):
    """Euclidean distance."""
    x, y, z = p[0] - q[0], p[1] - q[1], p[2] - q[2]
    return np.sqrt(x * x + y * y + z * z)


@jit
def scaled_distance(p, q, scale):
    """Length of (p - q) * scale."""
    x, y, z = (p[0] - q[0]) * scale[0], (p[1] - q[1]) * scale[1], (p[2] - q[2]) * scale[2]
    return np.sqrt(x * x + y * y + z * z)


@jit
def distance_xy(p, q):
    """Distance in the xy plane."""
    x, y = p[0] - q[0], p[1] - q[1]
    return np.sqrt(x * x + y * y)


@jit
def distance_xz(p, q):
    """Distance in the xz plane."""
    x, z = p[0] - q[0], p[2] - q[2]
    return np.sqrt(x * x + z * z)


@jit
def tolerance_between(x, lower, upper, margin):
    """`reward_utils.tolerance` with the long-tailed sigmoid: 1 within the bounds, 0.1 at the margin."""
    if lower <= x <= upper:
        return 1.0
    if margin == 0.0:
        return 0.0
    d = 3.0 * ((lower - x if x < lower else x - upper) / margin)  # 3 = sqrt(1 / 0.1 - 1)
    return 1.0 / (d * d + 1.0)


@jit
def tolerance(x, radius, margin):
    """`tolerance_between` with the bounds 0 and `radius`."""
    return tolerance_between(x, 0.0, radius, margin)


@jit
def gaussian(x, radius, margin):
    """`reward_utils.tolerance` with the Gaussian sigmoid and the bounds 0 and `radius`."""
    if 0.0 <= x <= radius:
        return 1.0
    if margin == 0.0:
        return 0.0
    d = np.sqrt(-2.0 * np.log(0.1)) * ((0.0 - x if x < 0.0 else x - radius) / margin)
    return np.exp(-0.5 * (d * d))


@jit
def rounded(x, single):
    """Round x to the precision that stock uses for it.

    Stock computes in float32 once a float32 action is involved (numpy's promotion rules: a Python float is weak). Rounding
    the float64 result of +, -, * and / of two float32 numbers gives exactly the float32 result.
    """
    return np.float64(np.float32(x)) if single else x


@jit
def hamacher(a, b, single=False):
    """`reward_utils.hamacher_product`: ab / (a + b - ab), in float32 if `single`."""
    a, b = rounded(a, single), rounded(b, single)
    product = rounded(a * b, single)
    denominator = rounded(rounded(a + b, single) - product, single)
    return rounded(product / denominator, single) if denominator > 0.0 else 0.0


@jit
def total(a, b, single):
    """a + b in the precision that stock uses."""
    return rounded(rounded(a, single) + rounded(b, single), single)


@jit
def closing(grip, effort):
    """Compute how far the action's last entry, a float32, closes the gripper: min(max(0, grip), effort) / effort.

    Returns:
        The closing term, and whether stock stores it as float32: true for the action itself, false at the bounds.
    """
    if grip <= 0.0:
        return 0.0, False
    if grip > rounded(effort, True):
        return 1.0, False
    return rounded(grip / rounded(effort, True), True), True


@jit
def gripping(caged, grip, effort):
    """Finish a caging reward: the gripper's closing counts once it cages the object.

    Returns:
        hamacher(caged, closing), and whether stock stores it as float32.
    """
    if caged > 0.97:
        closed, single = closing(grip, effort)
        return hamacher(caged, closed, single), single
    return hamacher(caged, 0.0), False


@jit
def grasping(caged, density_term, grip, effort):
    """Compute a dense caging reward, (gripping + density_term) / 2; the latter is `caged` (high density) or reach (medium)."""
    grasp, single = gripping(caged, grip, effort)
    return rounded(total(grasp, density_term, single) / 2.0, single), single


@jit
def caging(now, memory, obj, start, object_radius, pad_threshold, xz_threshold):
    """`SawyerXYZEnv._gripper_caging_reward` without its closing term: pads next to the object, hand at its x and z.

    Args:
        obj: the point to grasp.
        start: position of that point after the reset.
    """
    left, right = now[LEFT_PAD + 1], now[RIGHT_PAD + 1]
    in_y = hamacher(
        tolerance_between(abs(left - obj[1]), object_radius, pad_threshold, abs(abs(left - start[1]) - pad_threshold)),
        tolerance_between(abs(right - obj[1]), object_radius, pad_threshold, abs(abs(right - start[1]) - pad_threshold)),
    )
    margin = distance_xz(start, point(memory, TCP_START)) - xz_threshold
    return hamacher(in_y, tolerance(distance_xz(point(now, TCP), obj), xz_threshold, margin))


@jit
def caged_grasp(now, memory, obj, object_radius, pad_threshold, xz_threshold, effort=1.0):
    """Compute the base class's high-density caging reward, and whether stock stores it as float32."""
    caged = caging(now, memory, obj, point(memory, OBJECT_START), object_radius, pad_threshold, xz_threshold)
    return grasping(caged, caged, now[GRIP], effort)


@jit
def pads_in_y(now, obj, lower, upper):
    """Compute whether the pads' signed distances from the object in y are within the bounds.

    The margins use the pads' "initial" positions, which stock holds as live views of the simulator's arrays, so they are
    always the current positions.
    """
    y, left, right = obj[1], now[LEFT_PAD + 1], now[RIGHT_PAD + 1]
    return hamacher(
        tolerance_between(left - y, lower, upper, abs(abs(y - left) - 0.05)),
        tolerance_between(y - right, lower, upper, abs(abs(y - right) - 0.05)),
    )


@jit
def signed_caging(now, memory, obj, object_radius, xz_threshold):
    """Caging of pick-place, push-back, sweep, sweep-into and soccer, without its closing term."""
    margin = distance_xz(point(memory, OBJECT_START), point(memory, TCP_START)) - xz_threshold
    in_xz = tolerance(distance_xz(point(now, TCP), obj), xz_threshold, margin)
    return hamacher(pads_in_y(now, obj, object_radius, 0.05), in_xz)


@jit
def pinching(now, memory, obj, object_radius, extra, xz_threshold):
    """Caging reward of push-back, sweep, sweep-into and soccer: pads close to the object replace the closing term."""
    caged = signed_caging(now, memory, obj, object_radius, xz_threshold)
    pinched = pads_in_y(now, obj, object_radius, object_radius + extra) if caged > 0.95 else 0.0
    return (caged + pinched) / 2.0


@jit
def place_terms(now, memory, radius):
    """Return the object, its start, its distances to hand and goal, and the term of bringing it there."""
    obj, start, target = point(now, OBJECT), point(memory, OBJECT_START), point(memory, TARGET)
    to_target = distance(obj, target)
    in_place = tolerance(to_target, radius, distance(start, target))
    return obj, start, distance(obj, point(now, TCP)), to_target, in_place


@jit
def past_wall(reward, obj, at_wall, in_place, single):
    """Add the bonus of push-wall and pick-place-wall: for being at the wall in front of it, for being in place behind it."""
    if obj[1] > 0.75:
        return total(total(total(reward, 1.0, single), 4.0, single), 3.0 * in_place, single)
    return total(total(reward, 1.0, single), 4.0 * at_wall, single)


@jit
def funnel(radius, threshold, steepness, height):
    """Height below which an object should not be at this distance from the centre."""
    return steepness * np.log(radius - threshold) + height if radius > threshold else 0.0


@jit
def above(floor, z, margin):
    """1 above the floor, decreasing below it."""
    return 1.0 if z >= floor else tolerance(floor - z, 0.01, margin)


@jit
def touched(now):
    """Whether both pads press the object."""
    return now[TOUCHING] > 0.0 and now[OPEN] > 0.0


@jit
def touched_and_lifted(now, start):
    """The usual grasp_success: both pads press the object, and it is 2 cm above its start."""
    return touched(now) and now[OBJECT + 2] - 0.02 > start[2]
