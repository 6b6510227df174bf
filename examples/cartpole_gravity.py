"""CartPole under gravities from 1 to 20 m/s²: two discrete actions, and episodes that end when the pole falls.

metarl train rl2 examples/cartpole_gravity.py:gravities
"""

import gymnasium
import numpy as np

from metarl.envs import Suite, Task, TaskDistribution


class Gravity(gymnasium.Wrapper):
    """CartPole whose task is its gravity, in m/s²."""

    def set_task(self, gravity):
        self.unwrapped.gravity = gravity


def make(name):
    return Gravity(gymnasium.make("CartPole-v1", render_mode="rgb_array", max_episode_steps=200))


def gravities(seed):
    train, test = np.random.default_rng(seed).uniform(1, 20, (2, 50)).tolist()
    sides = (TaskDistribution(tuple(Task("cartpole", g) for g in values), make=make) for values in (train, test))
    return Suite("", seed, *sides)
