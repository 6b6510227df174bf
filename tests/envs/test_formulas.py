"""The engine's formulas compared with Meta-World's functions, and at the edges of their conditions."""

import itertools

import numpy as np
import pytest
from metaworld.utils import reward_utils

from metarl.envs.tasks import handles, pegs, pick_place, primitives, v1_lift, v1_move
from metarl.envs.tasks.primitives import (
    HAND,
    MAX_READINGS,
    NOW_SIZE,
    OBJECT,
    OBJECT_START,
    OPEN,
    OUT_SIZE,
    READINGS,
    REWARD,
    SUCCESS,
    TARGET,
    TCP,
    TOUCHING,
)

EDGES = (-0.3, 0.0, 0.05, 0.1, 0.35, 1.0)


@pytest.mark.parametrize(("formula", "sigmoid"), [(primitives.tolerance, "long_tail"), (primitives.gaussian, "gaussian")])
def test_tolerances(formula, sigmoid):
    for x, radius, margin in itertools.product(EDGES, (0.0, 0.05, 0.1), (0.0, 0.2, 1.0)):
        expected = reward_utils.tolerance(x, bounds=(0, radius), margin=margin, sigmoid=sigmoid)
        assert formula(x, radius, margin) == pytest.approx(expected, rel=1e-14), (x, radius, margin)


def test_tolerance_between_two_bounds():
    for x, lower, margin in itertools.product(EDGES, (-0.3, 0.0, 0.05), (0.0, 0.2)):
        expected = reward_utils.tolerance(x, bounds=(lower, 0.1), margin=margin, sigmoid="long_tail")
        assert primitives.tolerance_between(x, lower, 0.1, margin) == pytest.approx(expected, rel=1e-14)


def test_hamacher_products():
    for a, b in itertools.product((0.0, 0.3, 0.5, 1.0), repeat=2):
        assert primitives.hamacher(a, b) == pytest.approx(reward_utils.hamacher_product(a, b), rel=1e-14)


def test_prisms_include_their_faces_and_corners():
    """The corners may be in any order; outside, also by one float, the tolerance is 1."""
    corner, opposite = (0.1, -0.2, 0.3), (0.4, -0.5, 0.7)
    coordinates = [
        sorted((a, b, (a + b) / 2, np.nextafter(min(a, b), -9), np.nextafter(max(a, b), 9))) for a, b in zip(corner, opposite)
    ]
    for p in itertools.product(*coordinates):
        value, within = pegs._prism(p, corner, opposite)
        assert value == pytest.approx(reward_utils.rect_prism_tolerance(*map(np.array, (p, corner, opposite))), rel=1e-14)
        assert within == all(min(a, b) <= x <= max(a, b) for x, a, b in zip(p, corner, opposite))


def test_lengths():
    p, q, scale = (1.0, 2.0, -3.0), (0.5, 4.0, 1.0), (1.0, 2.0, 3.0)
    d = np.subtract(p, q)
    assert primitives.distance(p, q) == pytest.approx(np.linalg.norm(d))
    assert primitives.scaled_distance(p, q, scale) == pytest.approx(np.linalg.norm(d * scale))
    assert primitives.distance_xy(p, q) == pytest.approx(np.hypot(d[0], d[1]))
    assert primitives.distance_xz(p, q) == pytest.approx(np.hypot(d[0], d[2]))
    assert primitives.plus(p, q) == (1.5, 6.0, -2.0)
    assert primitives.minus(p, q) == (0.5, -2.0, -4.0)


def _state(**places):
    """Vectors of a state with the object in the open gripper, 20 cm above its start and 14 cm from its target."""
    now, memory, out = np.zeros(NOW_SIZE), np.zeros(READINGS + MAX_READINGS), np.zeros(OUT_SIZE)
    for start in (HAND, OBJECT, TCP):
        now[start : start + 3] = 0.0, 0.6, 0.2
    now[OPEN], now[TOUCHING] = 0.5, 1.0
    memory[TARGET : TARGET + 3] = 0.1, 0.6, 0.3
    for index, value in places.items():
        now[getattr(primitives, index)] = value
    return now, memory, out


@pytest.mark.parametrize("closed", ["OPEN", "TOUCHING"])
def test_a_closed_gripper_or_one_without_contact_holds_nothing(closed):
    assert primitives.touched(_state()[0])
    assert not primitives.touched(_state(**{closed: 0.0})[0])


@pytest.mark.parametrize("formula", [handles.handle_pull, handles.handle_pull_side])
def test_a_closed_gripper_gets_no_pulling_reward(formula):
    rewards = []
    for opened in (0.5, 0.0):
        now, memory, out = _state(OPEN=opened)
        formula(now, memory, out)
        rewards.append(out[REWARD])
    assert rewards[0] > rewards[1] + 0.9


@pytest.mark.parametrize(("z", "solved"), [(0.3, False), (np.nextafter(0.3, 1), True)])
def test_the_nut_is_off_its_peg_only_above_the_target(z, solved):
    now, memory, out = _state()
    now[OBJECT + 2] = z
    v1_lift.disassemble_v1(now, memory, out)
    assert out[SUCCESS] == solved


@pytest.mark.parametrize(("z", "fallen"), [(0.14, True), (0.16, False)])
def test_an_object_has_fallen_5_cm_below_its_start(z, fallen):
    now, memory, _ = _state()
    memory[OBJECT_START + 2], now[OBJECT + 2], now[HAND + 2] = 0.2, z, 0.3 - z
    assert v1_move._has_fallen(now, memory) == fallen


@pytest.mark.parametrize(("centre", "radius"), [(OBJECT_START, 0.02), (OBJECT_START, 0.1), (TARGET, 0.02), (TARGET, 0.2)])
def test_a_low_hand_earns_less_between_the_bins(centre, radius):
    """Outside 3 cm around a bin's centre the hand should be above 0.02 log(r - 0.03) + 0.2 (`SawyerBinPickingEnvV3`)."""
    rewards, heights = [], (0.05, 0.5)
    for z in heights:
        now, memory, out = _state()
        now[HAND : HAND + 3] = now[OBJECT : OBJECT + 3] = now[TCP : TCP + 3] = 0.0, 0.6, z
        memory[TARGET : TARGET + 3], memory[OBJECT_START : OBJECT_START + 3] = (5.0, 0.6, z), (-5.0, 0.6, z - 0.03)
        memory[centre : centre + 3] = radius, 0.6, memory[centre + 2]
        memory[pick_place.REMEMBERED] = 4.0
        if centre == TARGET:  # not at the target itself
            memory[TARGET + 2] = z + 1.0
        pick_place.bin_picking(now, memory, out)
        rewards.append(out[REWARD])
        distance = np.linalg.norm(now[OBJECT : OBJECT + 3] - memory[TARGET : TARGET + 3])
        in_place = reward_utils.tolerance(distance, bounds=(0, 0.05), margin=4.0, sigmoid="long_tail")
    floor = 0.02 * np.log(radius - 0.03) + 0.2 if radius > 0.03 else 0.0
    low = reward_utils.tolerance(max(0.0, floor - heights[0]), bounds=(0, 0.01), margin=0.05, sigmoid="long_tail")
    lost = 5.0 * (reward_utils.hamacher_product(1.0, in_place) - reward_utils.hamacher_product(low, in_place))
    assert rewards[1] - rewards[0] == pytest.approx(lost, abs=1e-6)
    assert (lost > 0.1) == (radius > 0.03)


@pytest.mark.parametrize(
    ("z", "picked", "near", "points"),
    [
        (0.3, True, True, 22.0),
        (0.2, False, True, 12.0),
        (0.4, False, True, 22.0),
        (0.2, False, False, 0.0),
        (0.1, False, True, 0.0),
    ],
)
def test_the_lift_term_is_100_per_metre(z, picked, near, points):
    memory = np.zeros(READINGS + MAX_READINGS)
    memory[v1_lift.HEIGHT], memory[v1_lift.HIGH] = 0.1, 0.3
    assert v1_lift._raising(memory, z, picked, near, 0.08) == pytest.approx(points)
