"""The 2-D point robot of the MAML and RL² papers: go to a hidden goal; only the distance to it is rewarded.

metarl train rl2 examples/point_robot.py:point_robot          goals all over a square, as in MAML
metarl train maml-trpo examples/point_robot.py:circle         goals on a half circle; the other half is held out
"""

import gymnasium
import numpy as np

from metarl.envs import Suite, Task, TaskDistribution


class PointRobot(gymnasium.Env):
    """A point in the plane; an action moves it by at most 0.1 in x and y; the reward is minus the distance to the goal."""

    metadata = {"render_modes": ["rgb_array"], "render_fps": 10}  # noqa: RUF012
    observation_space = gymnasium.spaces.Box(-np.inf, np.inf, (2,), np.float32)
    action_space = gymnasium.spaces.Box(-1, 1, (2,), np.float32)
    render_mode = "rgb_array"

    def set_task(self, goal):
        self.goal = np.array(goal)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.position, self.path = np.zeros(2), [np.zeros(2)]
        return self.position.astype(np.float32), {}

    def step(self, action):
        self.position = self.position + 0.1 * np.clip(action, -1, 1)
        self.path.append(self.position)
        return self.position.astype(np.float32), -float(np.hypot(*(self.position - self.goal))), False, False, {}

    def render(self):
        picture = np.full((120, 120, 3), 245, np.uint8)
        for size, colour, points in (
            (4, (70, 170, 90), [self.goal]),
            (1, (120, 178, 255), self.path),
            (3, (30, 60, 120), [self.position]),
        ):
            for x, y in np.clip(60 + 40 * np.array(points) * (1, -1), 5, 114).astype(int):
                picture[y - size : y + size, x - size : x + size] = colour
        return picture


def distribution(goals):
    return TaskDistribution(
        tuple(Task("point-robot", tuple(goal)) for goal in goals), make=lambda name: PointRobot(), axes=("x", "y")
    )


def point_robot(seed):
    train, test = np.random.default_rng(seed).uniform(-0.5, 0.5, (2, 200, 2))
    return Suite("", seed, distribution(train.tolist()), distribution(test[:50].tolist()), max_episode_steps=100)


def circle(seed):
    angles = np.random.default_rng(seed).uniform(0, np.pi, (2, 100))
    train, test = np.stack([np.cos(angles), np.sin(angles) * np.array([[1], [-1]])], -1)
    return Suite("", seed, distribution(train.tolist()), distribution(test[:50].tolist()), max_episode_steps=100)
