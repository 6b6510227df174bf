"""Describe every Meta-World task for the native engine: its observation, reward formula and info."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from metarl.envs.tasks import buttons, doors, handles, pegs, pick_place, push, reach, v1_lift, v1_move, wrench

Formula = Callable[[Any, Any, Any], None]
"""Computes reward and info from three vectors (see `primitives`)."""


@dataclass(frozen=True)
class ObservedObject:
    """An object in the observation: seven numbers, its position and quaternion.

    Attributes:
        position: ("body" | "geom" | "site", name).
        quaternion: ("xquat", body) in the order w, x, y, z; ("body" | "geom" | "site", name) in scipy's order x, y, z, w;
            ("identity", "") 1, 0, 0, 0; ("none", "") zeros.
        offset: added to the position, metres.
        hinge: a joint around which the point rotates at 5 cm distance (the dial); "": none.
    """

    position: tuple[str, str]
    quaternion: tuple[str, str] = ("none", "")
    offset: tuple[float, float, float] = (0.0, 0.0, 0.0)
    hinge: str = ""


@dataclass(frozen=True)
class NativeTask:
    """The native engine's description of a task.

    Attributes:
        formula: computes reward and info.
        objects: the one or two objects in the observation.
        readings: further inputs of the formula, at most five: ("body" | "geom" | "site" | "joint", name).
        remembers: attributes of the stock environment after its reset that the formula reads, in this order. None
            becomes NaN.
        touched: the geom that stock checks for contact with both pads; "": it checks none.
        touch_decides: whether success, and not only grasp_success, depends on that contact.
    """

    formula: Formula
    objects: tuple[ObservedObject, ...]
    readings: tuple[tuple[str, str], ...] = ()
    remembers: tuple[str, ...] = ()
    touched: str = ""
    touch_decides: bool = False


GEOM, XQUAT = ("geom", "objGeom"), ("xquat", "obj")
BODY_GEOM = (ObservedObject(("body", "obj"), GEOM),)
GEOM_GEOM = (ObservedObject(GEOM, GEOM),)
BODY_XQUAT = (ObservedObject(("body", "obj"), XQUAT),)
PUCK = (ObservedObject(("geom", "puck"), ("geom", "puck")),)
MUG = (ObservedObject(("body", "obj"), ("geom", "mug")),)
HANDLE = (ObservedObject(("geom", "handle"), ("geom", "handle")),)
WRENCH = (ObservedObject(("site", "RoundNut-8"), ("xquat", "RoundNut")),)
RING = (("site", "RoundNut"),)
BUTTON = (ObservedObject(("body", "button"), ("xquat", "button"), (0.0, -0.193, 0.0)),)
BUTTON_ON_TOP = (ObservedObject(("body", "button"), ("xquat", "button"), (0.0, 0.0, 0.193)),)
TRAVEL = ("_obj_to_target_init",)
STICK = ObservedObject(("body", "stick"), ("body", "stick"))
PEG_BOXES = tuple(("site", f"{corner}_corner_collision_box_{i}") for i in (1, 2) for corner in ("bottom_right", "top_left"))


def _faucet(site: str) -> tuple[ObservedObject, ...]:
    return (ObservedObject(("site", site), ("xquat", "faucetBase"), (0.0, 0.0, -0.01)),)


NATIVE = {
    "assembly-v3": NativeTask(wrench.assembly, WRENCH, RING),
    "basketball-v3": NativeTask(pick_place.basketball, (ObservedObject(("body", "bsktball"), ("xquat", "bsktball")),)),
    "bin-picking-v3": NativeTask(pick_place.bin_picking, BODY_XQUAT, remembers=("_target_to_obj_init",)),
    "box-close-v3": NativeTask(doors.box_close, (ObservedObject(("body", "top_link"), ("xquat", "top_link")),)),
    "button-press-topdown-v3": NativeTask(buttons.button_press_topdown, BUTTON_ON_TOP, remembers=TRAVEL),
    "button-press-topdown-wall-v3": NativeTask(buttons.button_press_topdown_wall, BUTTON_ON_TOP, remembers=TRAVEL),
    "button-press-v3": NativeTask(buttons.button_press, BUTTON, remembers=TRAVEL),
    "button-press-wall-v3": NativeTask(buttons.button_press_wall, BUTTON, remembers=TRAVEL),
    "coffee-button-v3": NativeTask(buttons.coffee_button, (ObservedObject(("site", "buttonStart"), ("identity", "")),)),
    "coffee-pull-v3": NativeTask(pick_place.coffee, MUG, touched="mug"),
    "coffee-push-v3": NativeTask(pick_place.coffee, MUG, touched="mug"),
    "dial-turn-v3": NativeTask(
        handles.dial_turn,
        (ObservedObject(("body", "dial"), ("xquat", "dial"), hinge="knob_Joint_1"),),
        remembers=("dial_push_position",),
    ),
    "disassemble-v3": NativeTask(wrench.disassemble, WRENCH, RING),
    "door-close-v3": NativeTask(doors.door_close, HANDLE),
    "door-lock-v3": NativeTask(doors.door_lock, (ObservedObject(("site", "lockStartLock"), ("xquat", "door_link")),)),
    "door-open-v3": NativeTask(doors.door_open, HANDLE, (("joint", "doorjoint"),)),
    "door-unlock-v3": NativeTask(doors.door_unlock, (ObservedObject(("site", "lockStartUnlock"), ("xquat", "door_link")),)),
    "drawer-close-v3": NativeTask(handles.drawer_close, (ObservedObject(("body", "drawer_link"), offset=(0.0, -0.16, 0.05)),)),
    "drawer-open-v3": NativeTask(
        handles.drawer_open, (ObservedObject(("body", "drawer_link"), ("xquat", "drawer_link"), (0.0, -0.16, 0.0)),)
    ),
    "faucet-close-v3": NativeTask(handles.faucet_close, _faucet("handleStartClose")),
    "faucet-open-v3": NativeTask(handles.faucet_open, _faucet("handleStartOpen")),
    "hammer-v3": NativeTask(
        wrench.hammer,
        (
            ObservedObject(("body", "hammer"), ("xquat", "hammer")),
            ObservedObject(("body", "nail_link"), ("xquat", "nail_link")),
        ),
        (("joint", "NailSlideJoint"),),
    ),
    "hand-insert-v3": NativeTask(pick_place.hand_insert, BODY_XQUAT, touched="objGeom"),
    "handle-press-side-v3": NativeTask(
        handles.handle_press, (ObservedObject(("site", "handleStart")),), remembers=("_handle_init_pos",)
    ),
    "handle-press-v3": NativeTask(
        handles.handle_press, (ObservedObject(("site", "handleStart")),), remembers=("_handle_init_pos",)
    ),
    "handle-pull-side-v3": NativeTask(handles.handle_pull_side, (ObservedObject(("site", "handleCenter")),)),
    "handle-pull-v3": NativeTask(handles.handle_pull, (ObservedObject(("site", "handleRight")),)),
    "lever-pull-v3": NativeTask(
        handles.lever_pull, (ObservedObject(("site", "leverStart"), GEOM),), (("joint", "LeverAxis"),), ("_lever_pos_init",)
    ),
    "peg-insert-side-v3": NativeTask(
        pegs.peg_insert_side,
        (ObservedObject(("site", "pegGrasp"), ("site", "pegGrasp")),),
        (("site", "pegHead"), *PEG_BOXES),
        ("peg_head_pos_init",),
    ),
    "peg-unplug-side-v3": NativeTask(pegs.peg_unplug_side, (ObservedObject(("site", "pegEnd"), ("xquat", "plug1")),)),
    "pick-out-of-hole-v3": NativeTask(pick_place.pick_out_of_hole, BODY_XQUAT),
    "pick-place-v3": NativeTask(pick_place.pick_place, BODY_GEOM, touched="objGeom"),
    "pick-place-wall-v3": NativeTask(pick_place.pick_place_wall, GEOM_GEOM, touched="objGeom"),
    "plate-slide-back-side-v3": NativeTask(handles.plate_slide_back, PUCK),
    "plate-slide-back-v3": NativeTask(handles.plate_slide_back, PUCK),
    "plate-slide-side-v3": NativeTask(handles.plate_slide_back, PUCK),
    "plate-slide-v3": NativeTask(handles.plate_slide, PUCK),
    "push-back-v3": NativeTask(push.push_back, GEOM_GEOM, touched="objGeom"),
    "push-v3": NativeTask(push.push, BODY_GEOM, touched="objGeom"),
    "push-wall-v3": NativeTask(push.push_wall, GEOM_GEOM, touched="objGeom"),
    "reach-v3": NativeTask(reach.reach, BODY_GEOM),
    "reach-wall-v3": NativeTask(reach.reach_wall, BODY_GEOM),
    "shelf-place-v3": NativeTask(pick_place.shelf_place, BODY_GEOM, touched="objGeom"),
    "soccer-v3": NativeTask(
        push.soccer, (ObservedObject(("body", "soccer_ball"), ("body", "soccer_ball")),), touched="objGeom"
    ),
    "stick-pull-v3": NativeTask(
        pegs.stick_pull,
        (STICK, ObservedObject(("site", "insertion"))),
        (("site", "stick_end"),),
        ("stick_init_pos",),
        "objGeom",
    ),
    "stick-push-v3": NativeTask(
        pegs.stick_push,
        (STICK, ObservedObject(("site", "insertion"), offset=(0.0, 0.09, 0.0))),
        (),
        ("stick_init_pos",),
        "objGeom",
        touch_decides=True,
    ),
    "sweep-into-v3": NativeTask(push.sweep_into, BODY_GEOM, touched="objGeom"),
    "sweep-v3": NativeTask(push.sweep, BODY_XQUAT, touched="objGeom"),
    "window-close-v3": NativeTask(
        handles.window_close, (ObservedObject(("site", "handleCloseStart")),), remembers=("window_handle_pos_init",)
    ),
    "window-open-v3": NativeTask(
        handles.window_open, (ObservedObject(("site", "handleOpenStart")),), remembers=("window_handle_pos_init",)
    ),
}


def table(native: dict[str, NativeTask]) -> dict[str, NativeTask]:
    """Return the tasks with reward v1: observations are the same, and success in v1 does not depend on pad contacts."""
    return {
        name: replace(native[name], formula=formula, readings=readings, remembers=remembers, touched="", touch_decides=False)
        for name, (formula, readings, remembers) in (v1_move.TABLE | v1_lift.TABLE).items()
    }


BY_REWARD = {"v2": NATIVE, "v1": table(NATIVE)}
"""All tasks by version of the reward; results published before 2021 use v1."""
