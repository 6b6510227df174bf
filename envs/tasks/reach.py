"""Rewards of reach and reach-wall: bring the hand to the goal."""

from metarl.envs.tasks.primitives import HAND_START, TARGET, TCP, distance, point, report, tolerance
from metarl.system.jit import jit


@jit
def _reaching(now, memory):
    target = point(memory, TARGET)
    to_target = distance(point(now, TCP), target)
    return to_target, tolerance(to_target, 0.05, distance(point(memory, HAND_START), target))


def reach(now, memory, out):
    """`SawyerReachEnvV3`."""
    to_target, in_place = _reaching(now, memory)
    report(out, 10.0 * in_place, to_target <= 0.05, to_target, 1.0, to_target, in_place, to_target)


def reach_wall(now, memory, out):
    """`SawyerReachWallEnvV3`."""
    to_target, in_place = _reaching(now, memory)
    report(out, 10.0 * in_place, to_target <= 0.05, 0.0, 0.0, 0.0, in_place, to_target)
