"""The protocol `metaworld`: runs Meta-World's own `metaworld.evaluation.metalearning_evaluation`.

Its rules: 20 environments share 40 goals of each held-out task. Ten times, each environment takes its next goal, the agent
adapts for some full episodes and is then measured. A measured episode ends at its first success and the environment starts the
next one at once; each task name counts the first 3 episodes that end, whatever their goals. Goals that are solved fast
therefore fill the quota. The figure is comparable with published ones, but does not replace `all-goals`.

The engine `python` runs Meta-World's own loop on Meta-World's own environments. `native` runs it on the compiled engine
(see `upstream_envs`); agents that act in compiled code play whole episodes there (see `upstream_compiled`), by the same rules.
Other versions of Meta-World may have other rules, so the file names the version.
"""

import importlib
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch

from metarl.envs import TaskDistribution
from metarl.errors import UserError
from metarl.evaluation.control_schema import ControlEvaluation, UpstreamEvaluation, whole
from metarl.evaluation.plan import Plan, checkpoint_header, prepare, refuse_trained
from metarl.evaluation.schema import read
from metarl.evaluation.session import session
from metarl.evaluation.shown import best
from metarl.evaluation.upstream_agent import UpstreamAgent
from metarl.evaluation.upstream_compiled import QUOTA, measure_compiled
from metarl.evaluation.upstream_envs import ENGINES, Measurement, shares
from metarl.evaluation.vocabulary import ALL_GOALS, METAWORLD
from metarl.evaluation.wording import rules_of
from metarl.learner import Learner
from metarl.runs.checkpoints import Checkpoint
from metarl.runs.directory import Run
from metarl.system.console import console
from metarl.system.counts import plural

EVALUATIONS = 10
"""Meta-World's number of draws of goals."""


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
    acting: str = "auto",
    progress: Callable[[int], None] = lambda steps: None,
) -> dict[str, Any]:
    """Evaluate a learner once under the protocol.

    Args:
        learner: the learner to evaluate.
        tasks: the held-out tasks.
        engine: python (Meta-World's own environments) or native.
        seed: of the order of goals and of the actions.
        max_episode_steps: steps per episode, at most Meta-World's 500.
        episodes: episodes of adaptation before each of the `steps` calls of `adapt`.
        device: where the learner's tensors are.
        reward: v2 or v1.
        evaluations: draws of goals.
        acting: on the native engine auto, compiled or python; see `metarl.rollouts.playing.play`.
        progress: called from time to time with the environment steps so far, of all environments together.

    Returns:
        `success` and `return`, means over task names, and `by_task`, success per task.

    Raises:
        UserError: the tasks are not Meta-World's, or episodes are longer than Meta-World's.
    """
    what = Measurement(tasks, seed, max_episode_steps, episodes, steps, reward, evaluations)
    if engine == "native" and acting != "python":
        found = measure_compiled(learner, what, device=device, acting=acting, progress=progress)
        if found is not None:
            return rounded(found, tasks)

    def make(view: Any) -> UpstreamAgent:
        return UpstreamAgent(
            learner, view, seed=seed, device=device, max_episode_steps=max_episode_steps, episodes=episodes, progress=progress
        )

    return figure(make, what, engine)


def figure(make_agent: Callable[[Any], Any], what: Measurement, engine: str) -> dict[str, Any]:
    """Like `measure`, for any agent that follows `metaworld.evaluation.MetaLearningAgent`.

    Args:
        make_agent: builds the agent from a view of the environments (number of environments, spaces). The agent's observations
            end with the previous action, reward and done.
        what: what is measured.
        engine: python or native.
    """
    evaluation = importlib.import_module("metaworld.evaluation")
    env, view = ENGINES[engine](what.tasks, what.seed, what.max_episode_steps, what.reward)
    try:
        success, returned, by_task = evaluation.metalearning_evaluation(
            make_agent(view),
            env,
            num_evals=what.evaluations,
            adaptation_steps=what.steps,
            adaptation_episodes=what.episodes,
            evaluation_episodes=QUOTA,
        )
    finally:
        (env if engine == "python" else view).close()
    return rounded({"success": success, "return": returned, "by_task": by_task}, what.tasks)


def rounded(found: Mapping[str, Any], tasks: TaskDistribution) -> dict[str, Any]:
    """Round figures: Meta-World sums over a set, whose order and so the sum's last bit differ between processes."""
    by_task = {name: round(float(found["by_task"][name]), 9) for name in tasks.names}
    return {"success": round(found["success"], 9), "return": round(found["return"], 6), "by_task": by_task}


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
                acting=options.acting,
                progress=bar.part(most),
            )
            figures[str(seed)] = journal.part(str(seed), measure_seed)
        content |= rules(tasks, figures)
        path = run.store(content, name)
    return content, path


def rules(tasks: TaskDistribution, figures: dict[str, Any]) -> dict[str, Any]:
    """The part of the file that holds Meta-World's rules, with their version, and the figures by seed."""
    of_seeds = list(figures.values())
    mean = {key: round(float(np.mean([of_seed[key] for of_seed in of_seeds])), 9) for key in ("success", "return")}
    by_task = {name: round(float(np.mean([of_seed["by_task"][name] for of_seed in of_seeds])), 9) for name in tasks.names}
    return {
        "protocol": METAWORLD,
        "rules": version("metaworld"),
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
    how = f"{content['engine']}, {rules_of(content)}"
    grid = Table(title=f"Meta-World's own evaluation ({how}), {plural(len(side['seeds']), 'seed')}", title_justify="left")
    for column in ("seed", "success", "return", *names):
        grid.add_column(column, justify="right")
    for seed, figures in [*side["seeds"].items(), ("mean", side)]:
        by_task = (f"{figures['by_task'][name]:.3f}" for name in names)
        grid.add_row(seed, f"{figures['success']:.3f}", f"{figures['return']:,.0f}", *by_task)
    console.print(grid)
