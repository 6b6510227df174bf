"""Rewards of grasping an object and bringing it to the goal.

Pick-place, pick-place-wall, hand-insert, shelf-place, basketball, coffee-pull, coffee-push, bin-picking,
pick-out-of-hole. Most are hamacher(grasp, in place), with a bonus while the object is held, and 10 at the goal.
"""

import numpy as np

from metarl.envs.tasks.primitives import (
    GRIP,
    HAND,
    OBJECT,
    OBJECT_START,
    OPEN,
    REMEMBERED,
    TARGET,
    TCP,
    TCP_START,
    above,
    caged_grasp,
    caging,
    distance,
    distance_xy,
    funnel,
    grasping,
    gripping,
    hamacher,
    past_wall,
    place_terms,
    point,
    report,
    scaled_distance,
    signed_caging,
    tolerance,
    total,
    touched,
    touched_and_lifted,
)


def pick_place(now, memory, out):
    """`SawyerPickPlaceEnvV3`."""
    obj, start, to_tcp, to_target, in_place = place_terms(now, memory, 0.05)
    caged = signed_caging(now, memory, obj, 0.015, 0.005)
    grasp, single = grasping(caged, caged, now[GRIP], 1.0)
    reward = hamacher(grasp, in_place, single)
    if to_tcp < 0.02 and now[OPEN] > 0.0 and obj[2] - 0.01 > start[2]:
        reward = total(reward, 1.0 + 5.0 * in_place, single)
    if to_target < 0.05:
        reward = 10.0
    lifted = touched_and_lifted(now, start)
    report(out, reward, to_target <= 0.07, to_tcp <= 0.03, lifted, grasp, in_place, to_target)


def hand_insert(now, memory, out):
    """`SawyerHandInsertEnvV3`."""
    obj, start, to_tcp, to_target, in_place = place_terms(now, memory, 0.05)
    grasp, single = caged_grasp(now, memory, obj, 0.015, 0.05, 0.005)
    reward = hamacher(grasp, in_place, single)
    if to_tcp < 0.02 and now[OPEN] > 0.0:
        reward = total(reward, 1.0 + 7.0 * in_place, single)
    if to_target < 0.05:
        reward = 10.0
    lifted = touched_and_lifted(now, start)
    report(out, reward, to_target <= 0.05, to_tcp <= 0.03, lifted, grasp, in_place, to_target)


def pick_place_wall(now, memory, out):
    """`SawyerPickPlaceWallEnvV3`: first above the wall, then to the goal."""
    obj, start, to_tcp, to_target, in_place = place_terms(now, memory, 0.05)
    wall, scale = (memory[TARGET], 0.77, 0.25), (1.0, 1.0, 3.0)
    at_wall = tolerance(scaled_distance(obj, wall, scale), 0.05, scaled_distance(start, wall, scale))
    grasp, single = gripping(caging(now, memory, obj, start, 0.015, 0.05, 0.005), now[GRIP], 1.0)
    reward = hamacher(grasp, at_wall, single)
    if to_tcp < 0.02 and now[OPEN] > 0.0 and obj[2] - 0.015 > start[2]:
        reward = past_wall(reward, obj, at_wall, in_place, single)
    if to_target < 0.05:
        reward = 10.0
    lifted = touched_and_lifted(now, start)
    report(out, reward, to_target <= 0.07, to_tcp <= 0.03, lifted, grasp, in_place, to_target)


def shelf_place(now, memory, out):
    """`SawyerShelfPlaceEnvV3`: in_place decreases under the shelf's board."""
    obj, start, to_tcp, to_target, in_place = place_terms(now, memory, 0.05)
    target = point(memory, TARGET)
    grasp, single = gripping(caging(now, memory, obj, start, 0.02, 0.05, 0.01), now[GRIP], 1.0)
    reward = hamacher(grasp, in_place, single)
    if 0.0 < obj[2] < 0.24 and target[0] - 0.15 < obj[0] < target[0] + 0.15:
        front = target[1] - 3.0 * 0.05
        if front < obj[1] < target[1]:
            loss = hamacher((obj[1] - front) / (3.0 * 0.05), (0.24 - obj[2]) / 0.24)
            in_place = min(max(in_place - loss, 0.0), 1.0)
            single = False  # numpy's clip gives a float64, which is not weak
        elif obj[1] > target[1]:
            in_place = 0.0
    if to_tcp < 0.025 and now[OPEN] > 0.0 and obj[2] - 0.01 > start[2]:
        reward = total(reward, 1.0 + 5.0 * in_place, single)
    if to_target < 0.05:
        reward = 10.0
    lifted = touched_and_lifted(now, start)
    report(out, reward, to_target <= 0.07, to_tcp <= 0.03, lifted, grasp, in_place, to_target)


def basketball(now, memory, out):
    """`SawyerBasketballEnvV3`: the target is 30 cm above the table, in the hoop."""
    obj, start, scale = point(now, OBJECT), point(memory, OBJECT_START), (1.0, 1.0, 2.0)
    target = (memory[TARGET], memory[TARGET + 1], 0.3)
    to_tcp, to_target = distance(obj, point(now, TCP)), scaled_distance(obj, target, scale)
    in_place = tolerance(to_target, 0.08, scaled_distance(start, target, scale))
    grasp, single = caged_grasp(now, memory, obj, 0.025, 0.06, 0.005)
    if to_tcp < 0.035 and now[OPEN] > 0.0 and obj[2] - 0.01 > start[2]:
        grasp = 1.0
        reward = hamacher(grasp, in_place) + (1.0 + 5.0 * in_place)
    else:
        reward = hamacher(grasp, in_place, single)
    if to_target < 0.08:
        reward = 10.0
    lifted = now[OPEN] > 0.0 and obj[2] - 0.03 > start[2]
    report(out, reward, to_target <= 0.08, to_tcp <= 0.05, lifted, grasp, in_place, to_target)


def coffee(now, memory, out):
    """`SawyerCoffeePullEnvV3` and `SawyerCoffeePushEnvV3`: move the mug."""
    obj, target, start, scale = point(now, OBJECT), point(memory, TARGET), point(memory, OBJECT_START), (2.0, 2.0, 1.0)
    to_tcp, scaled_to_target = distance(obj, point(now, TCP)), scaled_distance(obj, target, scale)
    in_place = tolerance(scaled_to_target, 0.05, scaled_distance(start, target, scale))
    reach = tolerance(to_tcp, 0.04, abs(distance(start, point(memory, TCP_START)) - 0.04))
    grasp, single = grasping(caging(now, memory, obj, start, 0.02, 0.05, 0.05), reach, now[GRIP], 0.7)
    reward = hamacher(grasp, in_place, single)
    if to_tcp < 0.04 and now[OPEN] > 0.0:
        reward = total(reward, 1.0 + 5.0 * in_place, single)
    if scaled_to_target < 0.05:
        reward = 10.0
    to_target = distance(obj, target)
    report(out, reward, to_target <= 0.07, to_tcp <= 0.03, touched(now), grasp, in_place, to_target)


def bin_picking(now, memory, out):
    """`SawyerBinPickingEnvV3`; the margin is the first distance in the episode, remembered from then on."""
    obj, target, start, hand = point(now, OBJECT), point(memory, TARGET), point(memory, OBJECT_START), point(now, HAND)
    to_target = distance(obj, target)
    if np.isnan(memory[REMEMBERED]):
        memory[REMEMBERED] = to_target
    in_place = tolerance(to_target, 0.05, memory[REMEMBERED])
    # the hand may be low above either bin; elsewhere it should be high
    floor = min(funnel(distance_xy(hand, start), 0.03, 0.02, 0.2), funnel(distance_xy(hand, target), 0.03, 0.02, 0.2))
    height_term = above(floor, hand[2], 0.05)
    grasp, single = caged_grasp(now, memory, obj, 0.015, 0.05, 0.01, 0.7)
    reward = hamacher(grasp, in_place, single)
    near = distance(obj, hand) < 0.04
    grasp_success = near and obj[2] - 0.02 > start[2] and not now[OPEN] < 0.43
    if grasp_success:
        reward = total(reward, 1.0 + 5.0 * hamacher(height_term, in_place), single)
    if to_target < 0.05:
        reward = 10.0
    report(out, reward, to_target <= 0.05, near, grasp_success, grasp, in_place, to_target)


def pick_out_of_hole(now, memory, out):
    """`SawyerPickOutOfHoleEnvV3`."""
    obj, start, to_tcp, to_target, in_place = place_terms(now, memory, 0.02)
    tcp = point(now, TCP)
    height_term = above(funnel(distance_xy(tcp, start), 0.03, 0.015, 0.15), tcp[2], 0.02)
    grasp, single = caged_grasp(now, memory, obj, 0.015, 0.02, 0.03, 0.1)
    reward = hamacher(grasp, in_place, single)
    grasp_success = to_tcp < 0.04 and obj[2] - 0.02 > start[2] and not now[OPEN] < 0.33
    if grasp_success:
        reward = total(reward, 1.0 + 5.0 * hamacher(in_place, height_term), single)
    if to_target < 0.05:
        reward = 10.0
    report(out, reward, to_target <= 0.07, to_tcp <= 0.03, grasp_success, grasp, in_place, to_target)
