"""The smallest training that runs all code of the loop, and toy tasks that agents can learn in tests."""

import hashlib
import json
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium.spaces import Box

from metarl import cli
from metarl.agents.maml.agent import MAML
from metarl.agents.rl2 import RL2, RL2Settings
from metarl.envs import Task, TaskDistribution, make_vec
from metarl.rollouts.trials import Trials
from metarl.runs.checkpoints import split
from metarl.runs.directory import TIMES
from metarl.sharing.opening import open_run

STEPS = 2 * 2 * 20
"""Environment steps per iteration with `TINY`."""
# Nothing is annealed, so the start of a run does not depend on its length.
TINY = (
    "--num-envs 2 --episodes-per-trial 2 --max-episode-steps 20 --layers 8 --hidden 8 --chunk 15 --minibatch 2 --epochs 2 "
    "--device cpu --learning-rate-final None --entropy-final None"
).split()


def train(path: Path, iterations: int = 3, *arguments: str, agent: str = "rl2") -> int:
    """Train on reach in `path`; returns the exit status."""
    options = TINY if agent == "rl2" else "--num-envs 2 --episodes-per-trial 2 --max-episode-steps 20 --device cpu".split()
    start = ["train", agent, "ml1:reach-v3", "--run-dir", str(path), "--steps", str(iterations * STEPS), "--quiet"]
    return cli.run([*start, *options, *arguments])


def metrics(path: Path) -> list[dict[str, Any]]:
    """The lines of metrics.jsonl, without the entries that differ between two equal runs."""
    lines = [json.loads(line) for line in (path / "metrics.jsonl").read_text().splitlines()]
    return [{key: value for key, value in line.items() if key not in TIMES} for line in lines]


def equal_runs(a: Path, b: Path) -> bool:
    """Whether the last checkpoints and the metrics of two runs are equal bit for bit."""
    (tensors, entries), (other_tensors, other_entries) = (split(open_run(path)[0].load()[0].state) for path in (a, b))
    same_tensors = tensors.keys() == other_tensors.keys() and all(
        torch.equal(tensors[key], other_tensors[key]) for key in tensors
    )
    return same_tensors and entries == other_entries and metrics(a) == metrics(b)


def refused(args: list[str], message: str, folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    """Assert that a command exits with status 2 and this message, without a traceback, and writes nothing."""
    monkeypatch.chdir(folder)
    try:
        status = cli.run(args)
    except SystemExit as ended:  # tyro's own errors
        status = int(ended.code or 0)
    output = "".join(capsys.readouterr())
    assert status == 2
    assert message in " ".join(output.replace("│", " ").split())
    assert "Traceback" not in output
    assert not list(folder.iterdir())


class Bit(gymnasium.Env):
    """Two actions, of which a hidden one is right; it is rewarded only in the trial's second episode.

    In the first episode the reward of the first step reveals it, whatever the action. A trial takes three resets: one at
    its start, and one after each of its two episodes.
    """

    observation_space = gymnasium.spaces.Box(0, 1, (1,), np.float32)
    action_space = gymnasium.spaces.Discrete(2)

    def __init__(self) -> None:
        self.resets = 0

    def set_task(self, bit: int) -> None:
        self.bit = bit

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[np.ndarray, dict[str, Any]]:
        self.resets, self.t = self.resets + 1, 0
        return np.zeros(1, np.float32), {}

    def step(self, action: int) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        self.t += 1
        right = action == self.bit
        second = self.resets % 3 == 2
        revealed = float(self.bit) if self.t == 1 else 0.0
        reward = float(right) if second else revealed
        return np.zeros(1, np.float32), reward, False, False, {"success": second and right}


class Countdown(gymnasium.Env):
    """Terminates after `params` steps; the observation counts the steps in units of 100, from 1,000."""

    observation_space = gymnasium.spaces.Box(-np.inf, np.inf, (1,), np.float64)
    action_space = gymnasium.spaces.Box(-1, 1, (2,), np.float32)

    def set_task(self, steps: int) -> None:
        self.length = steps

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[np.ndarray, dict[str, Any]]:
        self.t = 0
        return np.array([1000.0]), {}

    def step(self, action: np.ndarray) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        self.t += 1
        return np.array([1000.0 + 100 * self.t]), float(action[0]), self.t == self.length, False, {}


BITS = TaskDistribution((Task("bit", 0), Task("bit", 1)), make=lambda name: Bit())
COUNTDOWNS = TaskDistribution((Task("countdown", 3), Task("countdown", 5)), make=lambda name: Countdown())


def toy(
    tasks: TaskDistribution,
    num_envs: int,
    max_episode_steps: int,
    episodes: int,
    settings: Any,
    agent_class: Any = None,
    *,
    seed: int = 0,
    **env_options: Any,
) -> tuple[Any, Trials]:
    """An agent with these settings (RL², MAML or `agent_class`), and its source with `episodes` episodes per phase."""
    env = make_vec(tasks, num_envs, max_episode_steps=max_episode_steps, **env_options)
    agent = (agent_class or (RL2 if isinstance(settings, RL2Settings) else MAML))(
        settings,
        env.single_observation_space,
        env.single_action_space,
        env.input_scale,
        seed=seed,
        device=torch.device("cpu"),
        total_iterations=100,
    )
    return agent, Trials(env, tasks, episodes, seed, torch.device("cpu"))


def perturbed(agent: Any) -> Any:
    """Move the weights far from their small initial values, so that a mistake shows; returns the agent."""
    with torch.no_grad():
        for parameter in agent.policy.parameters():
            parameter.add_(0.3 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(parameter.numel())))
    return agent


def trial(agent: Any, source: Trials, iteration: int = 0) -> list[Any]:
    """The batches of an iteration by phase, collected with adaptation in between but without an update."""
    source.begin(iteration)
    state, batches = agent.initial_state(source.num_tasks), []
    for phase in range(agent.phases):
        batch, state = source.collect(agent, state, phase)
        batches.append(batch)
        state = agent.adapt(state, batch)
    return batches


class Hit(gymnasium.Env):
    """The reward is 1 - |action - goal|; the first step of an episode counts as a success."""

    observation_space = Box(-1, 1, (1,), np.float64)
    action_space = Box(-1, 1, (1,), np.float32)
    render_mode = "rgb_array"

    def set_task(self, goal: float) -> None:
        self.goal = goal

    def reset(self, *, seed=None, options=None):
        self.t = 0
        return np.zeros(1), {}

    def step(self, action):
        self.t += 1
        return np.zeros(1), 1 - abs(float(action[0]) - self.goal), False, False, {"success": self.t == 1}

    def render(self):
        return np.full((4, 6, 3), self.t, np.uint8)


HITS = TaskDistribution(tuple(Task("hit", g) for g in (-0.8, -0.4, 0.4, 0.8)), make=lambda name: Hit())


def digests(path: Path) -> dict[str, str]:
    return {str(p): hashlib.sha256(p.read_bytes()).hexdigest() for p in path.rglob("*") if p.is_file()}
