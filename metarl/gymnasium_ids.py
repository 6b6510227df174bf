"""The names of Meta-World's tasks, and the ids under which `gymnasium.make` has them once `metarl.envs` is imported."""

import gymnasium

TASKS = tuple(
    f"{name}-v3"
    for name in (
        "assembly basketball bin-picking box-close button-press button-press-topdown button-press-topdown-wall "
        "button-press-wall coffee-button coffee-pull coffee-push dial-turn disassemble door-close door-lock door-open "
        "door-unlock drawer-close drawer-open faucet-close faucet-open hammer hand-insert handle-press "
        "handle-press-side handle-pull handle-pull-side lever-pull peg-insert-side peg-unplug-side pick-out-of-hole "
        "pick-place pick-place-wall plate-slide plate-slide-back plate-slide-back-side plate-slide-side push push-back "
        "push-wall reach reach-wall shelf-place soccer stick-pull stick-push sweep sweep-into window-close window-open"
    ).split()
)
"""Names of the 50 Meta-World tasks."""

HORIZON = 500
"""Steps of an episode, where `max_episode_steps` is not given."""


def ids() -> dict[str, tuple[str, str]]:
    """All ids: each one's suite and side.

    metarl/reach-v3: one task, its goal visible. metarl/ML1-reach-v3-train and -test, metarl/ML10-train and so on: the
    goal hidden. metarl/MT10, MT25, MT50: several tasks, the goal visible.
    """
    found = {f"metarl/{task}": (f"mt1:{task}", "train") for task in TASKS}
    for side in ("train", "test"):
        found |= {f"metarl/ML1-{task}-{side}": (f"ml1:{task}", side) for task in TASKS}
        found |= {f"metarl/{name.upper()}-{side}": (name, side) for name in ("ml10", "ml25", "ml45")}
    return found | {f"metarl/{name.upper()}": (name, "train") for name in ("mt10", "mt25", "mt50")}


def register() -> None:
    """Tell gymnasium all ids. `metarl.envs` does so when it is imported: gymnasium itself looks for no plugins."""
    for name, (suite, side) in ids().items():
        gymnasium.register(
            name,
            "metarl.envs.single:SingleEnv",
            vector_entry_point="metarl.envs.single:make_vector",
            max_episode_steps=HORIZON,
            kwargs={"suite": suite, "side": side},
        )
