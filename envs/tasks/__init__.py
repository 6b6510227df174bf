"""Observation and reward of the tasks that the native engine steps: a new task is one formula and one entry here."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from metarl.envs.tasks.pick_place import pick_place, push
from metarl.envs.tasks.reach import reach


@dataclass(frozen=True)
class NativeTask:
    """What the native engine needs to know of a task.

    Attributes:
        formula: reward and success, a function of three vectors (see `primitives`).
        position: what the observation shows as the object's position: ("body" | "geom" | "site", name).
        quaternion: geom whose orientation it shows, as scipy's (x, y, z, w).
    """

    formula: Callable[..., Any]
    position: tuple[str, str] = ("body", "obj")
    quaternion: str = "objGeom"


NATIVE = {
    "reach-v3": NativeTask(reach),
    "push-v3": NativeTask(push),
    "pick-place-v3": NativeTask(pick_place),
}
