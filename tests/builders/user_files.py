"""Helpers for tests of users' Python files: the examples, source of an environment and an agent to modify, tiny training."""

import sys
from pathlib import Path

import pytest

from metarl import cli
from metarl.system import user_code as userfiles

EXAMPLES = Path(__file__).parents[2] / "examples"
POINT, AGENT = f"{EXAMPLES}/point_robot.py:point_robot", f"{EXAMPLES}/my_agent.py:MyAgent"
STEPS = 2 * 2 * 10
"""Environment steps per iteration of `train_small`."""
_SMALL = "--num-envs 2 --episodes-per-trial 2 --max-episode-steps 10 --device cpu --quiet".split()
_RL2 = "--layers 8 --hidden 8 --chunk 10 --minibatch 2 --epochs 1".split()

STILL = """
import numpy as np

class Still:
    def init(self): ...
    def adapt_action(self, observations): return np.zeros((len(observations), 4)), {}
    def step(self, timestep): ...
    def adapt(self): ...
    def reset(self, env_mask): ...
    def eval_action(self, observations): return np.zeros((len(observations), 4))
"""
SMALL = "--goals 2 --episodes 1 --train-goals 0 --max-episode-steps 2 --quiet".split()
ENV = """
import gymnasium, numpy as np
from metarl.evaluation.tables import table, verdict
from metarl.envs import Suite, Task, TaskDistribution

class Env(gymnasium.Env):
    observation_space = gymnasium.spaces.Box(-1, 1, (2,), np.float32)
    action_space = gymnasium.spaces.Box(-1, 1, (1,), np.float32)
    def set_task(self, goal):
        self.goal = goal
    def reset(self, *, seed=None, options=None):
        return np.zeros(2, np.float32), {}
    def step(self, action):
        return np.zeros(2, np.float32), 1.0, False, False, {}

def tasks(*goals, make=lambda name: Env(), **more):
    return TaskDistribution(tuple(Task("env", goal) for goal in goals), make=make, **more)

"""


USER_AGENT = """
from dataclasses import dataclass
from metarl.agents import Preset
from metarl.learner import Agent

@dataclass(frozen=True)
class Nothing:
    size: int = 1

class A(Agent):
    Settings = Nothing
    def __init__(self, settings, observation_space, action_space, scale, *, seed, device, total_iterations): pass
    def initial_state(self, num_tasks): return {}
    def predict(self, state, query): pass
    def update(self, batches, iteration): return {}
    def state_dict(self): return {}
    def load_state_dict(self, state): pass

"""


@pytest.fixture(autouse=True)
def forget_user_files(monkeypatch: pytest.MonkeyPatch) -> None:
    """Forget the files that a test named before the next test runs."""
    monkeypatch.setattr(userfiles, "_named", {})
    monkeypatch.setattr(userfiles, "_modules", {})
    monkeypatch.setattr(sys, "path", list(sys.path))


def user_file(folder: Path, text: str, name: str = "own.py") -> Path:
    """Write a user's Python file; creates its folder."""
    folder.mkdir(exist_ok=True)
    (folder / name).write_text(text)
    return folder / name


def train_small(path: Path, agent: str, suite_name: str, iterations: int, *arguments: str) -> int:
    """Train in `path`; returns the exit status."""
    options = _RL2 if agent == "rl2" else []
    steps = ["--steps", str(iterations * STEPS)]
    return cli.run(["train", agent, suite_name, "--run-dir", str(path), *steps, *_SMALL, *options, *arguments])
