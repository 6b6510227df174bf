"""HalfCheetah-direction of the MAML paper: run in whichever direction is rewarded; two tasks, nothing held out.

metarl train rl2 examples/cheetah_direction.py:directions --episodes-per-trial 2 --num-envs 40 --gamma 0.97 --steps 6e6
"""

import gymnasium
import numpy as np

from metarl.envs import Suite, Task, TaskDistribution


class Direction(gymnasium.Wrapper):
    """Rewards speed in the task's direction; success means having moved more than 10 m that way."""

    def set_task(self, direction):
        self.direction = direction

    def step(self, action):
        obs, _, terminated, truncated, info = self.env.step(action)
        reward = self.direction * info["x_velocity"] + info["reward_ctrl"]
        return obs.astype(np.float32), reward, terminated, truncated, {"success": self.direction * info["x_position"] > 10}


def make(name):
    return Direction(gymnasium.make("HalfCheetah-v5", render_mode="rgb_array", camera_name="track"))


def directions():
    return Suite(
        "", 0, TaskDistribution((Task("forward", 1.0), Task("backward", -1.0)), make=make), None, max_episode_steps=200
    )
