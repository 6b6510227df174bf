"""The protocol `metaworld`: runs Meta-World's own `metaworld.evaluation.metalearning_evaluation`.

Its rules: 20 environments share 40 goals of each held-out task. Ten times, each environment takes its next goal, the agent
adapts for some full episodes and is then measured. A measured episode ends at its first success and the environment starts the
next one at once; each task name counts the first 3 episodes that end, whatever their goals. Goals that are solved fast
therefore fill the quota. The figure is comparable with published ones, but does not replace `all-goals`.

Both engines use Meta-World's own loop. `python` runs it on Meta-World's own environments; `native` runs it on the compiled
engine, for which this module reimplements Meta-World's wrappers (order of goals, ends of episodes, returns, autoreset).
"""

import importlib
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import gymnasium
import numpy as np
import torch

from metarl.envs import MetaVectorEnv, Task, TaskDistribution, make_vec
from metarl.errors import UserError
from metarl.evaluation.control_schema import ControlEvaluation, UpstreamEvaluation, whole
from metarl.evaluation.plan import Plan, checkpoint_header, prepare, refuse_trained
from metarl.evaluation.schema import read
from metarl.evaluation.session import session
from metarl.evaluation.shown import best
from metarl.evaluation.upstream_agent import ADDED, UpstreamAgent
from metarl.evaluation.vocabulary import ALL_GOALS, METAWORLD
from metarl.gymnasium_ids import HORIZON
from metarl.learner import Learner
from metarl.runs.checkpoints import Checkpoint
from metarl.runs.directory import Run
from metarl.system.console import console
from metarl.system.counts import plural

EVALUATIONS, QUOTA, NUM_ENVS, GOALS = 10, 3, 20, 40
"""Meta-World's numbers: draws of goals, counted episodes per task name, environments, goals per task."""


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


def measure(
    learner: Learner,
    tasks: TaskDistribution,
    *,
    engine: str,
    seed: int,
    max_episode_steps: int,
    episodes: int,
    device: torch.device,
    steps: int = 1,
    reward: str = "v2",
    evaluations: int = EVALUATIONS,
    progress: Callable[[int], None] = lambda steps: None,
) -> dict[str, Any]:
    """Evaluate a learner once under the protocol.

    Args:
        learner: the learner to evaluate.
        tasks: the held-out tasks.
        engine: python (Meta-World's own environments) or native.
        seed: of the order of goals and of the actions.
        max_episode_steps: steps per episode, at most `HORIZON`.
        episodes: episodes of adaptation before each of the `steps` calls of `adapt`.
        device: where the learner's tensors are.
        reward: v2 or v1.
        evaluations: draws of goals.
        progress: called at each step with the environment steps so far, of all environments together.

    Returns:
        `success` and `return`, means over task names, and `by_task`, success per task.

    Raises:
        UserError: the tasks are not Meta-World's, or episodes are longer than Meta-World's.
    """

    def make(view: Any) -> UpstreamAgent:
        return UpstreamAgent(
            learner, view, seed=seed, device=device, max_episode_steps=max_episode_steps, episodes=episodes, progress=progress
        )

    return figure(
        make,
        tasks,
        engine=engine,
        seed=seed,
        max_episode_steps=max_episode_steps,
        episodes=episodes,
        steps=steps,
        reward=reward,
        evaluations=evaluations,
    )


def figure(
    make_agent: Callable[[Any], Any],
    tasks: TaskDistribution,
    *,
    engine: str,
    seed: int,
    max_episode_steps: int,
    episodes: int,
    steps: int,
    reward: str,
    evaluations: int,
) -> dict[str, Any]:
    """Like `measure`, for any agent that follows `metaworld.evaluation.MetaLearningAgent`.

    Args:
        make_agent: builds the agent from a view of the environments (number of environments, spaces). The agent's observations
            end with the previous action, reward and done.
    """
    if max_episode_steps > HORIZON:
        raise UserError(f"Meta-World's environments end an episode after {HORIZON} steps: {max_episode_steps} are too many")
    evaluation = importlib.import_module("metaworld.evaluation")
    env, view = ENGINES[engine](tasks, seed, max_episode_steps, reward)
    try:
        success, returned, by_task = evaluation.metalearning_evaluation(
            make_agent(view),
            env,
            num_evals=evaluations,
            adaptation_steps=steps,
            adaptation_episodes=episodes,
            evaluation_episodes=QUOTA,
        )
    finally:
        (env if engine == "python" else view).close()
    # Meta-World sums over a set, whose order and so the sum's last bit differ between processes
    rounded = {name: round(float(by_task[name]), 9) for name in tasks.names}
    return {"success": round(success, 9), "return": round(returned, 6), "by_task": rounded}


def evaluate_checkpoint(
    run: Run, checkpoint: Checkpoint, plan: Plan, *, seeds: int = 1, quiet: bool = False
) -> tuple[UpstreamEvaluation, Path]:
    """Evaluate a checkpoint and write evaluations/metaworld_<engine>_<checkpoint>.json.

    Args:
        plan: its `episodes` are those before each call of the learner's `adapt`; default: as trained.
        seeds: number of evaluations, with the seeds plan.seed, plan.seed + 1, ...; Meta-World uses one. An
            interrupted command continues with the seed at which it stopped.

    Returns:
        The file's content and its path.

    Raises:
        UserError: the suite is not Meta-World's or holds nothing out, or the run trained on held-out goals or with task ids.
    """
    plan = replace(plan, engine="python" if plan.engine == "auto" else plan.engine)
    setup, suite = prepare(run, checkpoint, plan)
    tasks, options, source = suite.test, setup.options, setup.source
    if tasks is not None and tasks.make is not None:
        raise UserError(
            f"{suite.name} is not Meta-World's, and this protocol knows no other environments: use --protocol all-goals"
        )
    if tasks is None:
        raise UserError(f"{suite.name} holds nothing out: Meta-World's protocol measures held-out tasks")
    refuse_trained(tasks.tasks, setup.suite)
    if options.task_id:
        raise UserError("Meta-World's protocol shows no task ids, and this run was trained with --task-id")
    every = setup.agent.adapt_every  # fine-tuned agents adapt on `every` episodes at a time until the trial's are used up
    episodes = plan.episodes or every or source.episodes
    steps = max(1, source.episodes // every) if every else max(1, setup.agent.phases - 1)
    goals_by_env = shares(tasks)
    rounds = -(-QUOTA // (len(goals_by_env) // len(tasks.names)))
    # if nothing is solved early
    most = EVALUATIONS * options.max_episode_steps * len(goals_by_env) * (steps * episodes + rounds)
    content: Any = {
        **checkpoint_header(run, checkpoint, setup, suite, plan.seed),
        "engine": plan.engine,
        "episodes": episodes * steps,
    }
    name = f"{METAWORLD}_{plan.engine}_{checkpoint.path.name}{plan.suffix}{f'_n{seeds}' if seeds > 1 else ''}"
    work = {**content, "protocol": METAWORLD, "weights": checkpoint.digest}
    figures: dict[str, Any] = {}
    with session(run, name, work, most * seeds, quiet=quiet) as (journal, bar):
        for seed in range(plan.seed, plan.seed + seeds):
            measure_seed = partial(
                measure,
                setup.agent,
                tasks,
                engine=plan.engine,
                seed=seed,
                max_episode_steps=options.max_episode_steps,
                episodes=episodes,
                device=source.device,
                steps=steps,
                reward=options.reward,
                evaluations=EVALUATIONS,
                progress=bar.part(most),
            )
            figures[str(seed)] = journal.part(str(seed), measure_seed)
        content |= rules(tasks, figures)
        path = run.store(content, name)
    return content, path


def rules(tasks: TaskDistribution, figures: dict[str, Any]) -> dict[str, Any]:
    """The part of the file that holds Meta-World's rules and the figures by seed."""
    of_seeds = list(figures.values())
    mean = {key: round(float(np.mean([of_seed[key] for of_seed in of_seeds])), 9) for key in ("success", "return")}
    by_task = {name: round(float(np.mean([of_seed["by_task"][name] for of_seed in of_seeds])), 9) for name in tasks.names}
    return {
        "protocol": METAWORLD,
        "terminate_on_success": True,
        "evaluations": EVALUATIONS,
        "episodes_counted": QUOTA,
        "sides": {"test": {**mean, "by_task": by_task, "seeds": figures}},
    }


def all_goals(run: Run, content: UpstreamEvaluation) -> ControlEvaluation | None:
    """The largest `all-goals` evaluation of the same checkpoint on the same held-out goals, or None."""
    files = (run.path / "evaluations").glob(f"{ALL_GOALS}_{content['checkpoint']}*.json")
    newest_first = sorted(files, key=lambda file: file.stat().st_mtime_ns, reverse=True)
    evaluations = [whole(read(file)) for file in newest_first]
    suite = content["suite"], content["suite_seed"]
    return best(ours for ours in evaluations if (ours["suite"], ours["suite_seed"]) == suite and "test" in ours["sides"])


def table(content: UpstreamEvaluation) -> None:
    """Print the figures."""
    from rich.table import Table

    side = content["sides"]["test"]
    names = list(side["by_task"]) if len(side["by_task"]) > 1 else []
    grid = Table(
        title=f"Meta-World's own evaluation ({content['engine']}), {plural(len(side['seeds']), 'seed')}", title_justify="left"
    )
    for column in ("seed", "success", "return", *names):
        grid.add_column(column, justify="right")
    for seed, figures in [*side["seeds"].items(), ("mean", side)]:
        by_task = (f"{figures['by_task'][name]:.3f}" for name in names)
        grid.add_row(seed, f"{figures['success']:.3f}", f"{figures['return']:,.0f}", *by_task)
    console.print(grid)
