"""The metrics of an iteration's trials by task, with environments whose figures are known by name."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from builders.tiny import Hit, toy, trial

from metarl.agents.maml.agent import MAMLSettings
from metarl.agents.rl2 import RL2Settings
from metarl.envs import Task, TaskDistribution

RL2 = RL2Settings(layers=(4,), hidden=4)
REWARDS = {"low": 1.0, "high": 3.0, "other": 5.0}
EPISODES = ("return", "success", "last_success")


class Named(Hit):
    """The reward is known by the task's name; `high` succeeds in the first episode of a trial only."""

    def __init__(self, name: str) -> None:
        self.name, self.resets = name, 0

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        self.resets += 1
        return super().reset(seed=seed)

    def step(self, action: Any) -> Any:
        obs, _, terminated, truncated, _ = super().step(action)
        return obs, REWARDS[self.name], terminated, truncated, {"success": self.name == "high" and self.resets % 3 == 1}


def named(*names: str) -> TaskDistribution:
    return TaskDistribution(tuple(Task(name, goal) for name in names for goal in (0.1, 0.2)), make=Named)


def by_task(report: dict[str, float]) -> dict[str, float]:
    return {key: value for key, value in report.items() if key.startswith("task/")}


def test_every_task_has_the_mean_over_all_its_episodes() -> None:
    agent, source = toy(named("low", "high"), 4, 5, 2, RL2)
    trial(agent, source)
    report = source.report()
    assert by_task(report) == {
        "task/low/success": 0,
        "task/low/return": 5,
        "task/high/success": 0.5,
        "task/high/return": 15,
    }
    assert (report["success"], report["return"]) == (0.25, 10)


def test_all_phases_count() -> None:
    agent, source = toy(named("low", "high"), 4, 5, 1, MAMLSettings(layers=(4,)))
    trial(agent, source)
    assert agent.phases == 2
    assert source.report()["task/high/success"] == 0.5


def test_tasks_that_were_not_played_are_left_out() -> None:
    agent, source = toy(named("low", "high", "other"), 2, 5, 1, RL2)
    trial(agent, source)
    played = {task.name for task in source.env.tasks}
    assert len(played) == 2
    assert by_task(source.report()).keys() == {f"task/{name}/{key}" for name in played for key in ("success", "return")}


def test_without_success_there_are_returns() -> None:
    agent, source = toy(replace(named("low", "high"), success=False), 2, 5, 1, RL2)
    trial(agent, source)
    assert by_task(source.report()) == {"task/low/return": 5, "task/high/return": 15}


@pytest.mark.parametrize(("names", "resample"), [(("low",), "never"), (("low", "high"), "episode")])
def test_one_task_or_one_per_episode_has_none(names: tuple[str, ...], resample: str) -> None:
    agent, source = toy(named(*names), 4, 5, 2, RL2, resample=resample)
    trial(agent, source)
    assert not by_task(source.report())


@pytest.mark.parametrize(("columns", "known"), [(4, True), (7, False)])
def test_agents_with_their_own_loop_record_a_column_per_environment(columns: int, known: bool) -> None:
    _, source = toy(named("low", "high"), 4, 5, 1, RL2)
    source.begin(0)
    returns = [REWARDS[task.name] for task in source.env.tasks] if known else [1.0] * columns
    source.record(20, 0.1, {key: np.array([returns]) for key in EPISODES})
    expected = {f"task/{name}/{key}": REWARDS[name] for name in ("low", "high") for key in ("success", "return")}
    assert by_task(source.report()) == (expected if known else {})
