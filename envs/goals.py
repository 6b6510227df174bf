"""Draw the same goals as Meta-World: the boxes of its 50 environments, the lists of its benchmarks, the order of draws.

Meta-World finds the 50 goals of a class by resetting an environment 50 times, which takes a minute for all classes. A reset
draws from numpy's global generator only, so this module reproduces the draws without resets, bit for bit.
"""

import numpy as np

_BOXES: dict[str, tuple[list[float], list[float], float]] = {
    "assembly-v3": ([0.0, 0.6, 0.02, -0.1, 0.75, 0.1], [0.0, 0.6, 0.02, 0.1, 0.85, 0.1], 0.1),
    "basketball-v3": ([-0.1, 0.6, 0.0299, -0.1, 0.85, 0.0], [0.1, 0.7, 0.0301, 0.1, 0.9000001, 0.0], 0.15),
    "bin-picking-v3": ([-0.21, 0.65, 0.02, 0.1199, 0.699, -0.001], [-0.03, 0.75, 0.02, 0.1201, 0.701, 0.001], 0.0),
    "box-close-v3": ([-0.05, 0.5, 0.02, -0.1, 0.7, 0.133], [0.05, 0.55, 0.02, 0.1, 0.8, 0.133], 0.25),
    "button-press-topdown-v3": ([-0.1, 0.8, 0.115], [0.1, 0.9, 0.115], 0.0),
    "button-press-topdown-wall-v3": ([-0.1, 0.8, 0.115], [0.1, 0.9, 0.115], 0.0),
    "button-press-v3": ([-0.1, 0.85, 0.115], [0.1, 0.9, 0.115], 0.0),
    "button-press-wall-v3": ([-0.05, 0.85, 0.1149], [0.05, 0.9, 0.1151], 0.0),
    "coffee-button-v3": ([-0.1, 0.8, -0.001], [0.1, 0.9, 0.001], 0.0),
    "coffee-pull-v3": ([-0.05, 0.7, -0.001, -0.1, 0.55, -0.001], [0.05, 0.75, 0.001, 0.1, 0.65, 0.001], 0.15),
    "coffee-push-v3": ([-0.1, 0.55, -0.001, -0.05, 0.7, -0.001], [0.1, 0.65, 0.001, 0.05, 0.75, 0.001], 0.15),
    "dial-turn-v3": ([-0.1, 0.7, 0.0], [0.1, 0.8, 0.0], 0.0),
    "disassemble-v3": ([0.0, 0.6, 0.025, -0.1, 0.6, 0.1699], [0.1, 0.75, 0.02501, 0.1, 0.75, 0.1701], 0.1),
    "door-close-v3": ([0.0, 0.85, 0.15], [0.1, 0.95, 0.15], 0.0),
    "door-lock-v3": ([-0.1, 0.8, 0.15], [0.1, 0.85, 0.15], 0.0),
    "door-open-v3": ([0.0, 0.85, 0.15], [0.1, 0.95, 0.15], 0.0),
    "door-unlock-v3": ([-0.1, 0.8, 0.15], [0.1, 0.85, 0.15], 0.0),
    "drawer-close-v3": ([-0.1, 0.9, 0.0], [0.1, 0.9, 0.0], 0.0),
    "drawer-open-v3": ([-0.1, 0.9, 0.0], [0.1, 0.9, 0.0], 0.0),
    "faucet-close-v3": ([-0.1, 0.8, 0.0], [0.1, 0.85, 0.0], 0.0),
    "faucet-open-v3": ([-0.05, 0.8, 0.0], [0.05, 0.85, 0.0], 0.0),
    "hammer-v3": ([-0.1, 0.4, 0.0], [0.1, 0.5, 0.0], 0.0),
    "hand-insert-v3": ([-0.1, 0.6, 0.05, -0.04, 0.8, -0.0201], [0.1, 0.7, 0.05, 0.04, 0.88, -0.0199], 0.15),
    "handle-press-side-v3": ([-0.35, 0.65, -0.001], [-0.25, 0.75, 0.001], 0.0),
    "handle-press-v3": ([-0.1, 0.8, -0.001], [0.1, 0.9, 0.001], 0.0),
    "handle-pull-side-v3": ([-0.35, 0.65, 0.0], [-0.25, 0.75, 0.0], 0.0),
    "handle-pull-v3": ([-0.1, 0.8, -0.001], [0.1, 0.9, 0.001], 0.0),
    "lever-pull-v3": ([-0.1, 0.7, 0.0], [0.1, 0.8, 0.0], 0.0),
    "peg-insert-side-v3": ([0.0, 0.5, 0.02, -0.35, 0.4, -0.001], [0.2, 0.7, 0.02, -0.25, 0.7, 0.001], 0.1),
    "peg-unplug-side-v3": ([-0.25, 0.6, -0.001], [-0.15, 0.8, 0.001], 0.0),
    "pick-out-of-hole-v3": ([0.0, 0.75, 0.02, -0.1, 0.5, 0.15], [0.0, 0.75, 0.02, 0.1, 0.6, 0.3], 0.15),
    "pick-place-v3": ([-0.1, 0.6, 0.02, -0.1, 0.8, 0.05], [0.1, 0.7, 0.02, 0.1, 0.9, 0.3], 0.15),
    "pick-place-wall-v3": ([-0.05, 0.6, 0.015, -0.05, 0.85, 0.05], [0.05, 0.65, 0.015, 0.05, 0.9, 0.3], 0.15),
    "plate-slide-back-side-v3": ([-0.25, 0.6, 0.0, -0.05, 0.6, 0.015], [-0.25, 0.6, 0.0, 0.15, 0.6, 0.015], 0.0),
    "plate-slide-back-v3": ([0.0, 0.85, 0.0, -0.1, 0.6, 0.015], [0.0, 0.85, 0.0, 0.1, 0.6, 0.015], 0.0),
    "plate-slide-side-v3": ([0.0, 0.6, 0.0, -0.3, 0.54, 0.0], [0.0, 0.6, 0.0, -0.25, 0.66, 0.0], 0.0),
    "plate-slide-v3": ([0.0, 0.6, 0.0, -0.1, 0.85, 0.0], [0.0, 0.6, 0.0, 0.1, 0.9, 0.0], 0.0),
    "push-back-v3": ([-0.1, 0.8, 0.02, -0.1, 0.6, 0.0199], [0.1, 0.85, 0.02, 0.1, 0.7, 0.0201], 0.15),
    "push-v3": ([-0.1, 0.6, 0.02, -0.1, 0.8, 0.01], [0.1, 0.7, 0.02, 0.1, 0.9, 0.02], 0.15),
    "push-wall-v3": ([-0.05, 0.6, 0.015, -0.05, 0.85, 0.01], [0.05, 0.65, 0.015, 0.05, 0.9, 0.02], 0.15),
    "reach-v3": ([-0.1, 0.6, 0.02, -0.1, 0.8, 0.05], [0.1, 0.7, 0.02, 0.1, 0.9, 0.3], 0.15),
    "reach-wall-v3": ([-0.05, 0.6, 0.015, -0.05, 0.85, 0.05], [0.05, 0.65, 0.015, 0.05, 0.9, 0.3], 0.15),
    "shelf-place-v3": ([-0.1, 0.5, 0.019, -0.1, 0.8, 0.299], [0.1, 0.6, 0.021, 0.1, 0.9, 0.301], 0.1),
    "soccer-v3": ([-0.1, 0.6, 0.03, -0.1, 0.8, 0.0], [0.1, 0.7, 0.03, 0.1, 0.9, 0.0], 0.15),
    "stick-pull-v3": ([-0.1, 0.55, 0.0, 0.35, 0.45, 0.0199], [0.0, 0.65, 0.001, 0.45, 0.55, 0.0201], 0.1),
    "stick-push-v3": ([-0.08, 0.58, 0.0, 0.399, 0.55, 0.1319], [-0.03, 0.62, 0.001, 0.401, 0.6, 0.1321], 0.1),
    "sweep-into-v3": ([-0.1, 0.6, 0.02, -0.001, 0.8399, 0.0199], [0.1, 0.7, 0.02, 0.001, 0.8401, 0.0201], 0.15),
    "sweep-v3": ([-0.1, 0.6, 0.02], [0.1, 0.7, 0.02], 0.0),
    "window-close-v3": ([0.0, 0.75, 0.2], [0.0, 0.9, 0.2], 0.0),
    "window-open-v3": ([-0.1, 0.7, 0.16], [0.1, 0.9, 0.16], 0.0),
}
"""For each environment, the lower and upper bounds of its `rand_vec`, and the minimum distance in x and y between its first
and second point: closer draws are rejected and repeated; 0 rejects none."""


_LISTS = {
    "ml10": (
        ("reach push pick-place door-open drawer-close button-press-topdown peg-insert-side window-open sweep basketball"),
        ("drawer-open door-close shelf-place sweep-into lever-pull"),
    ),
    "ml25": (
        (
            "reach push pick-place door-open drawer-open drawer-close button-press-topdown peg-insert-side window-open "
            "window-close coffee-pull pick-out-of-hole disassemble pick-place-wall basketball stick-pull button-press-wall "
            "faucet-open door-lock lever-pull sweep-into faucet-close coffee-button button-press-topdown-wall dial-turn"
        ),
        ("basketball door-close shelf-place sweep button-press"),
    ),
    "ml45": (
        (
            "assembly basketball button-press-topdown button-press-topdown-wall button-press button-press-wall coffee-button "
            "coffee-pull coffee-push dial-turn disassemble door-close door-open drawer-close drawer-open faucet-open "
            "faucet-close hammer handle-press-side handle-press handle-pull-side handle-pull lever-pull pick-place-wall "
            "pick-out-of-hole push-back pick-place plate-slide plate-slide-side plate-slide-back plate-slide-back-side "
            "peg-insert-side peg-unplug-side soccer stick-push stick-pull push-wall push reach-wall reach shelf-place "
            "sweep-into sweep window-open window-close"
        ),
        ("bin-picking box-close hand-insert door-lock door-unlock"),
    ),
    "mt10": (
        (
            "reach push pick-place door-open drawer-open drawer-close button-press-topdown peg-insert-side window-open "
            "window-close"
        ),
        "",
    ),
    "mt25": (
        (
            "reach push pick-place door-open drawer-open drawer-close button-press-topdown peg-insert-side window-open "
            "window-close coffee-pull pick-out-of-hole disassemble pick-place-wall basketball stick-pull button-press-wall "
            "faucet-open door-lock lever-pull sweep-into faucet-close coffee-button button-press-topdown-wall dial-turn"
        ),
        "",
    ),
    "mt50": (
        (
            "assembly basketball bin-picking box-close button-press-topdown button-press-topdown-wall button-press "
            "button-press-wall coffee-button coffee-pull coffee-push dial-turn disassemble door-close door-lock door-open "
            "door-unlock hand-insert drawer-close drawer-open faucet-open faucet-close hammer handle-press-side handle-press "
            "handle-pull-side handle-pull lever-pull pick-place-wall pick-out-of-hole pick-place plate-slide plate-slide-side "
            "plate-slide-back plate-slide-back-side peg-insert-side peg-unplug-side soccer stick-push stick-pull push "
            "push-wall push-back reach reach-wall shelf-place sweep-into sweep window-open window-close"
        ),
        "",
    ),
}
"""Train and test environments of Meta-World's benchmark classes, in the order in which Meta-World draws their goals."""


def benchmark(name: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the train and the test environments of "ml10", "ml25", "ml45", "mt10", "mt25" or "mt50"."""
    train, test = (tuple(f"{task}-v3" for task in names.split()) for names in _LISTS[name])
    return train, test


def draw_goals(names: tuple[str, ...], goals: int, seed: int) -> list[tuple[str, list[float]]]:
    """Draw the tasks that `metaworld`'s benchmark classes create for these environments and this seed, in their order.

    Args:
        names: environments, such as "reach-v3".
        goals: number per environment; Meta-World uses 50.
        seed: at least 0.

    Returns:
        Pairs of an environment's name and a `rand_vec`, metres.
    """
    generator = np.random.RandomState(seed)  # the generator that numpy.random.seed seeds
    tasks = []
    for name in names:
        low, high, min_distance = _BOXES[name]
        for _ in range(goals):
            for _ in range(2):  # a reset sets the model up twice, drawing each time
                vector = generator.uniform(low, high, size=len(low))
                while _too_close(name, vector, min_distance):
                    vector = generator.uniform(low, high, size=len(low))
            tasks.append((name, vector.tolist()))
    return tasks


def _too_close(name: str, vector: np.ndarray, min_distance: float) -> bool:
    if min_distance == 0.0:
        return False
    goal = np.array([0.0, 0.84]) if name == "sweep-into-v3" else vector[3:5]
    return bool(np.linalg.norm(vector[:2] - goal) < min_distance)
