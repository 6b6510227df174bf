"""Write run directories with made-up results, without training or evaluating."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from metarl.agents.rl2 import RL2Settings
from metarl.envs import Task, suite
from metarl.evaluation.all_goals import side_content
from metarl.evaluation.measures import OF_GOALS
from metarl.evaluation.vocabulary import MODES
from metarl.runs.checkpoints import FORMAT
from metarl.runs.experiment import Experiment
from metarl.runs.options import TrainOptions

EXPERIMENT = Experiment("rl2", "ml1:reach-v3", TrainOptions(), RL2Settings())
"""An experiment with default options and settings."""
Rate = Callable[[int, int], float]
"""Maps goal and episode to the success rate to write."""


def adapts(goal: int, episode: int) -> float:
    """Success on every third goal in the first episode, and on nine of ten goals afterwards."""
    return float(goal % 3 == 0 if episode == 0 else goal % 10 != 9)


def evaluation(
    tasks: dict[str, Sequence[Task]], rate: Rate = adapts, episodes: int = 3, trials: int = 2, **entries: Any
) -> dict[str, Any]:
    """The content of an evaluation file with these success rates; `tasks` maps a side to its tasks."""
    sides = {}
    for side, goals in tasks.items():
        success = np.array([[[rate(goal, e) for e in range(episodes)]] * trials for goal in range(len(goals))])
        figures = {"success": success, "last_success": success * 0.5, "return": 1000 + 3000 * success}
        sides[side] = side_content(goals, {mode: {m.key: figures[m.key] for m in OF_GOALS} for mode in MODES}, np.full(4, 0.5))
    content = {
        "protocol": "all-goals",
        "run": "run",
        "agent": "rl2",
        "suite": "ml1:reach-v3",
        "suite_seed": 1,
        "trained_on": {"suite": entries.get("suite", "ml1:reach-v3"), "suite_seed": 1},
        "run_seed": 1,
        "checkpoint": "000000003000",
        "step": 3000,
        "trials": trials,
        "episodes": episodes,
        "adapt_every": None,
        "max_episode_steps": 500,
        "reward": "v2",
        "terminate_on_success": False,
        "engine": "native",
        "seed": 0,
        "device": "cpu",
        "confidence": 0.95,
        "packages": {"torch": "2.8"},
        "git_commit": None,
    }
    return {**content, **entries, "sides": sides}


def make_run(
    path: Path,
    name: str = "ml1:reach-v3",
    agent: str = "rl2",
    seed: int = 1,
    rate: Rate = adapts,
    *,
    evaluated: bool = True,
    goals: int = 50,
    tasks: dict[str, Sequence[Task]] | None = None,
    **entries: Any,
) -> Path:
    """Write a run directory with config.json, metrics.jsonl and, if `evaluated`, evaluation.json.

    Args:
        path: the new directory.
        name: name of the suite.
        agent: name of the agent.
        seed: seed of the run.
        rate: success rates to write.
        evaluated: whether to write an evaluation.
        goals: number of goals per side.
        tasks: goals by side, instead of the suite's.
        entries: entries that replace those of the evaluation.
    """
    path.mkdir(parents=True)
    options = {
        "seed": seed,
        "suite_seed": 1,
        "steps": 3000,
        "max_episode_steps": 500,
        "evaluate_every": 0,
        "evaluate_on": "validation",
    }
    config = {
        "metarl": "0.2.0",
        "format": FORMAT,
        "agent": agent,
        "suite": name,
        "options": options,
        "settings": {"layers": [128], "gamma": 0.99},
        "packages": {"torch": "2.8", "numpy": "2.0"},
        "python": "3.11.0",
        "machine": {"processor": "any", "usable_cores": 2},
        "git_commit": None,
        "cuda": None,
        "started": "2026-01-01 00:00:00 +0000",
    }
    (path / "config.json").write_text(json.dumps(config))
    lines = [
        {
            "iteration": i,
            "step": 1000 * (i + 1),
            "return": 100.0 * i,
            "success": 0.2 * i,
            "success_first_episode": 0.1 * i,
            "success_last_episode": 0.3 * i,
            "return_first_episode": 90.0 * i,
            "return_last_episode": 110.0 * i,
            "collect_seconds": 1.0,
            "seconds": 2.0,
            "steps_per_second": 500.0,
        }
        for i in range(3)
    ]
    (path / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    if evaluated:
        made_suite = suite(name)
        suite_tasks = {"train": made_suite.train.tasks[:goals]} | (
            {"test": made_suite.test.tasks[:goals]} if made_suite.test else {}
        )
        content = evaluation(tasks or suite_tasks, rate, run=path.name, agent=agent, suite=name, run_seed=seed, **entries)
        (path / "evaluations").mkdir()
        for file in ("evaluation.json", f"evaluations/all-goals_{content['checkpoint']}.json"):
            (path / file).write_text(json.dumps(content))
    return path
