"""Rewards of the button tasks, button-press and its variants and coffee-button: reach a button and press it along one axis."""

from metarl.envs.tasks.primitives import (
    OBJECT,
    OPEN,
    REMEMBERED,
    TARGET,
    TCP,
    TCP_START,
    distance,
    hamacher,
    point,
    report,
    tolerance,
)
from metarl.system.jit import jit

Y, Z = 1, 2


@jit
def _pressing(now, memory, axis, radius, travel):
    """Compute the distances to hand and goal, and the terms of reaching and of pressing.

    Args:
        axis: axis of the button's motion.
        radius: distance within which the button counts as reached.
        travel: distance between button and goal after the reset.
    """
    obj = point(now, OBJECT)
    to_tcp, to_target = distance(obj, point(now, TCP)), abs(memory[TARGET + axis] - obj[axis])
    near = tolerance(to_tcp, radius, distance(obj, point(memory, TCP_START)))
    return to_tcp, to_target, near, tolerance(to_target, 0.005, travel)


@jit
def _report(now, out, reward, to_tcp, to_target, near, pressed, threshold):
    report(out, reward, to_target <= threshold, to_tcp <= 0.05, now[OPEN] > 0.0, near, pressed, to_target)


def button_press(now, memory, out):
    """`SawyerButtonPressEnvV3`."""
    to_tcp, to_target, near, pressed = _pressing(now, memory, Y, 0.05, memory[REMEMBERED])
    reward = 2.0 * hamacher(max(now[OPEN], 0.0), near) + (8.0 * pressed if to_tcp <= 0.05 else 0.0)
    _report(now, out, reward, to_tcp, to_target, near, pressed, 0.02)


def coffee_button(now, memory, out):
    """`SawyerCoffeeButtonEnvV3`."""
    to_tcp, to_target, near, pressed = _pressing(now, memory, Y, 0.05, 0.03)
    reward = 2.0 * hamacher(max(now[OPEN], 0.0), near) + (8.0 * pressed if to_tcp <= 0.05 else 0.0)
    _report(now, out, reward, to_tcp, to_target, near, pressed, 0.02)


def button_press_wall(now, memory, out):
    """`SawyerButtonPressWallEnvV3`: gripper closed around the wall, open at the button."""
    to_tcp, to_target, near, pressed = _pressing(now, memory, Y, 0.01, memory[REMEMBERED])
    if to_tcp > 0.07:
        reward = 2.0 * hamacher((1.0 - now[OPEN]) / 2.0, near)
    else:
        reward = 2.0 + 2.0 * (1.0 + now[OPEN]) + 4.0 * (pressed * pressed)
    _report(now, out, reward, to_tcp, to_target, near, pressed, 0.03)


def button_press_topdown(now, memory, out):
    """`SawyerButtonPressTopdownEnvV3`: with a closed gripper."""
    to_tcp, to_target, near, pressed = _pressing(now, memory, Z, 0.01, memory[REMEMBERED])
    reward = 5.0 * hamacher(1.0 - now[OPEN], near) + (5.0 * pressed if to_tcp <= 0.03 else 0.0)
    _report(now, out, reward, to_tcp, to_target, near, pressed, 0.024)


def button_press_topdown_wall(now, memory, out):
    """`SawyerButtonPressTopdownWallEnvV3`: with an open gripper."""
    to_tcp, to_target, near, pressed = _pressing(now, memory, Z, 0.01, memory[REMEMBERED])
    reward = 5.0 * hamacher(max(now[OPEN], 0.0), near) + (5.0 * pressed if to_tcp <= 0.03 else 0.0)
    _report(now, out, reward, to_tcp, to_target, near, pressed, 0.024)
