"""Names of protocols, sides and kinds of actions, and colours, shared by evaluations, plots and reports."""

ALL_GOALS, EPISODES, METAWORLD = "all-goals", "episodes", "metaworld"
"""Protocols: for acting agents, for few-shot learners, and Meta-World's own."""
SIDES = {"train": "train goals", "validation": "validation goals", "test": "held-out goals"}
MODES = ("sampled", "deterministic")
"""The kinds of actions that an evaluation plays: drawn from the policy's distribution, as in training; and its mode."""
SAMPLED, DETERMINISTIC = MODES
MODE = SAMPLED
"""The actions that headline figures use."""
COLORS = {"train": "#9a9a9a", "validation": "#2a8f55", "test": "#1f6fb4", "blind": "#c4572e"}
PALETTE = ("#1f6fb4", "#2a8f55", "#8a4fb0", "#b08a1f", "#5a5a5a", "#b0447a")


def goal(side: str) -> str:
    """The name of one goal of a side, such as "held-out goal"."""
    return SIDES[side].removesuffix("s")


def classes(side: str) -> str:
    """The name of a side for few-shot learners, such as "held-out classes"."""
    return SIDES[side].replace("goals", "classes")
