"""metarl: meta-reinforcement learning for robots, exact, fast and honest.

Importing this package imports nothing heavy; take what you need from `metarl.envs` and `metarl.agents`.
"""

__version__ = "0.2.0"
