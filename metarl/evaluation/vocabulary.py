"""Protocols, sides and colours: what evaluations, plots and reports call them."""

ALL_GOALS, EPISODES, METAWORLD = "all-goals", "episodes", "metaworld"
"""Protocols: of agents that act, of few-shot learners, and Meta-World's own."""
SIDES = {"train": "train goals", "validation": "validation goals", "test": "held-out goals"}
MODES = ("sampled", "mean")
"""The actions that an agent plays by."""
MODE = MODES[0]
"""The actions that the headline is about: those that the agent was trained with."""
COLORS = {"train": "#9a9a9a", "validation": "#2a8f55", "test": "#1f6fb4", "blind": "#c4572e"}
PALETTE = ("#1f6fb4", "#2a8f55", "#8a4fb0", "#b08a1f", "#5a5a5a", "#b0447a")


def goal(side: str) -> str:
    """What a goal of a side is called: held-out goal."""
    return SIDES[side].removesuffix("s")


def classes(side: str) -> str:
    """What tables call a side of few-shot learners: held-out classes."""
    return SIDES[side].replace("goals", "classes")
