"""The environments of Meta-World's own evaluation: its own ones, and the compiled engine behind its wrappers' interface.

The compiled engine has none of Meta-World's wrappers, so `NativeEnvs` reimplements them: order of goals, ends of episodes,
returns, autoreset.
"""

import importlib
from collections.abc import Sequence
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import gymnasium
import numpy as np

from metarl.envs import MetaVectorEnv, Task, TaskDistribution, make_vec
from metarl.errors import UserError
from metarl.evaluation.upstream_agent import ADDED
from metarl.gymnasium_ids import HORIZON

NUM_ENVS, GOALS = 20, 40
"""Meta-World's numbers: environments, goals per task."""


@dataclass(frozen=True)
class Measurement:
    """One evaluation under Meta-World's protocol.

    Attributes:
        tasks: the held-out tasks.
        seed: of the order of goals and of the actions.
        max_episode_steps: steps per episode, at most `HORIZON`.
        episodes: episodes of adaptation before each of the `steps` calls of `adapt`.
        steps: see `episodes`.
        reward: v2 or v1.
        evaluations: draws of goals.

    Raises:
        UserError: episodes are longer than Meta-World's.
    """

    tasks: TaskDistribution
    seed: int
    max_episode_steps: int
    episodes: int
    steps: int
    reward: str
    evaluations: int

    def __post_init__(self) -> None:
        if self.max_episode_steps > HORIZON:
            raise UserError(
                f"Meta-World's environments end an episode after {HORIZON} steps: {self.max_episode_steps} are too many"
            )


def shares(tasks: TaskDistribution) -> list[list[Task]]:
    """The goals for each environment, as Meta-World assigns them: every k-th goal of the environment's task, the same number
    for each environment.

    Raises:
        UserError: the tasks are not Meta-World's.
    """
    if tasks.make is not None:
        raise UserError("Meta-World's protocol needs Meta-World's tasks: evaluate your own with --protocol all-goals")
    by_name = [[task for task in tasks.tasks if task.name == name] for name in tasks.names]
    goals = min(GOALS, *map(len, by_name))
    env_ids = max(1, min(NUM_ENVS // len(by_name), goals))
    goals -= goals % env_ids
    return [of_name[:goals][i::env_ids] for of_name in by_name for i in range(env_ids)]


class _UpstreamView:
    """Gives agents that inspect their environment (`bind_env`) the attributes they need, from Meta-World's environments."""

    def __init__(self, env: Any, tasks: TaskDistribution, names: Sequence[str]) -> None:
        self.env, self.distribution, self.num_envs = env, tasks, env.num_envs
        self.tasks = [Task(name, None) for name in names]
        self.single_action_space, self.engine = env.single_action_space, self

    def scene(self, env_id: int) -> SimpleNamespace:
        """The environment's scene, which holds only its goal."""
        return SimpleNamespace(goal=np.array(self.env.envs[env_id].unwrapped._target_pos))


def upstream_envs(tasks: TaskDistribution, seed: int, max_episode_steps: int, reward: str) -> tuple[Any, Any]:
    """Build Meta-World's own environments for these tasks, and the view of them that an agent gets.

    Calls the function behind Meta-World's gymnasium ids, because the ids themselves draw goals from another seed.
    """
    metaworld = importlib.import_module("metaworld")
    table = metaworld.ALL_V3_ENVIRONMENTS
    goals_by_env = shares(tasks)

    class HeldOut(metaworld.Benchmark):  # type: ignore[name-defined]
        """A benchmark of the run's held-out tasks."""

        def __init__(self) -> None:
            self._test_classes = {name: table[name] for name in tasks.names}
            self._test_tasks = [
                metaworld._encode_task(
                    task.name,
                    {"rand_vec": np.array(task.params), "env_cls": table[task.name], "partially_observable": True},
                )
                for task in tasks.tasks
            ]

    names = [goals[0].name for goals in goals_by_env]
    env = metaworld._make_ml_envs_inner(
        HeldOut(),
        meta_batch_size=len(goals_by_env),
        seed=seed,
        total_tasks_per_cls=len(goals_by_env[0]) * names.count(names[0]),
        split="test",
        terminate_on_success=True,
        task_select="pseudorandom",
        max_episode_steps=max_episode_steps,
        reward_function_version=reward,
        recurrent_info_in_obs=True,
        normalize_reward_in_recurrent_info=False,
    )
    return env, _UpstreamView(env, tasks, names)


class NativeEnvs:
    """Gives a `MetaVectorEnv` the interface that Meta-World's evaluation expects of its own environments.

    Args:
        env: has one environment per share.
        goals_by_env: see `shares`.
        seed: of the order of goals; as in Meta-World, all environments share it.
    """

    def __init__(self, env: MetaVectorEnv, goals_by_env: list[list[Task]], seed: int) -> None:
        self.env, self.num_envs = env, env.num_envs
        self.goals_by_env = [list(goals) for goals in goals_by_env]
        self.generators = [gymnasium.utils.seeding.np_random(seed)[0] for _ in goals_by_env]
        self.position = -1

    def get_attr(self, name: str) -> list[Any]:
        """`task_name` (to Meta-World: the name of the class) or `terminate_on_success` of each environment."""
        if name == "task_name":
            table = importlib.import_module("metaworld.env_dict").ALL_V3_ENVIRONMENTS
            return [table[goals[0].name].__name__ for goals in self.goals_by_env]
        return [getattr(self.env, name)] * self.num_envs

    def call(self, name: str, *values: Any) -> None:
        """Handle `sample_tasks` and `toggle_terminate_on_success`; ignore other calls, as resets never draw goals here."""
        if name == "sample_tasks":
            self._next_tasks()
        elif name == "toggle_terminate_on_success":
            (self.env.terminate_on_success,) = values

    def _next_tasks(self) -> None:
        """Take the next goals, like `PseudoRandomTaskSelectWrapper`, which shuffles its list each time it starts over."""
        self.position = (self.position + 1) % len(self.goals_by_env[0])
        if self.position == 0:
            for goals, rng in zip(self.goals_by_env, self.generators):
                rng.shuffle(goals)
        self.env.set_tasks([goals[self.position] for goals in self.goals_by_env])
        self.env.reset()

    def reset(self) -> tuple[np.ndarray, dict[str, Any]]:
        """Start new episodes on the same goals."""
        self.returns = np.zeros(self.num_envs)
        obs, info = self.env.reset()
        return np.hstack([obs, np.zeros((self.num_envs, ADDED))]), info

    def step(self, actions: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, dict[str, Any]]:
        """Take one step; returns observations like `RNNBasedMetaRLWrapper`'s, and the returns of ended episodes."""
        obs, reward, terminated, truncated, info = self.env.step(actions)
        done = terminated | truncated
        self.returns += reward
        # an environment that was reset within the step shows the zeros of the new episode
        added = np.where(done[:, None], 0.0, np.column_stack([actions, reward, done]))
        if done.any():
            info["final_info"]["episode"] = {"r": np.where(done, self.returns, 0.0)}
            self.returns[done] = 0.0
        return np.hstack([obs, added]), reward, terminated, truncated, info


def native_envs(tasks: TaskDistribution, seed: int, max_episode_steps: int, reward: str) -> tuple[NativeEnvs, MetaVectorEnv]:
    """Like `upstream_envs`, but on the native engine."""
    goals_by_env = shares(tasks)
    env = make_vec(
        tasks,
        len(goals_by_env),
        engine="native",
        max_episode_steps=max_episode_steps,
        reward=reward,
        terminate_on_success=True,
    )
    return NativeEnvs(env, goals_by_env, seed), env


ENGINES = {"python": upstream_envs, "native": native_envs}
