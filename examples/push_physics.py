"""Meta-World's push-v3 with different physics: the puck's mass and friction vary, its position and goal are fixed.

metarl train rl2 examples/push_physics.py:pucks
"""

import mujoco
import numpy as np

from metarl.envs import Suite, Task, TaskDistribution, suite
from metarl.envs.engines.python import StockEnv


class Puck(StockEnv):
    """Stock push-v3 whose task is (factor of the puck's mass, factor of its friction)."""

    def __init__(self):
        super().__init__("push-v3", goal_visible=True)
        super().set_task(suite("ml1:push-v3").train.tasks[0].params)
        model = self.env.model
        self.body = model.body("obj").id
        self.geoms = np.flatnonzero(model.geom_bodyid == self.body)
        self.upstream = model.body_mass[self.body], model.body_inertia[self.body].copy(), model.geom_friction[self.geoms].copy()

    def set_task(self, params):
        mass, friction = params
        model, (upstream_mass, inertia, frictions) = self.env.model, self.upstream
        model.body_mass[self.body], model.body_inertia[self.body] = mass * upstream_mass, mass * inertia
        model.geom_friction[self.geoms] = frictions * (friction, 1, 1)
        mujoco.mj_setConst(model, mujoco.MjData(model))  # updates quantities that MuJoCo derives from masses


def pucks(seed):
    factors = np.exp(np.random.default_rng(seed).uniform(np.log(0.2), np.log(5), (2, 50, 2))).tolist()
    make, axes = (lambda name: Puck()), ("mass", "friction")
    return Suite(
        "", seed, *(TaskDistribution(tuple(Task("push-v3", tuple(f)) for f in values), make, axes=axes) for values in factors)
    )
