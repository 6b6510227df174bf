"""Evaluates a checkpoint under the protocol `all-goals`; called by `metarl evaluate` and during training."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from metarl.agents.baselines import goal_blind
from metarl.envs import TaskDistribution, make_vec
from metarl.errors import UserError
from metarl.evaluation.all_goals import evaluate, side_content
from metarl.evaluation.control_schema import ControlEvaluation, Side
from metarl.evaluation.intervals import CONFIDENCE
from metarl.evaluation.plan import NUM_ENVS, Plan, checkpoint_header, goals_by_side, prepare
from metarl.evaluation.session import session
from metarl.evaluation.vocabulary import ALL_GOALS, MODES, SAMPLED
from metarl.nn.spaces import observation_size
from metarl.runs.checkpoints import Checkpoint
from metarl.runs.directory import Run
from metarl.system.journal import Journal
from metarl.training.control import Setup


def evaluate_checkpoint(
    run: Run,
    checkpoint: Checkpoint,
    plan: Plan,
    *,
    sides: Sequence[str] = ("train", "validation", "test"),
    modes: Sequence[str] = MODES,
    protocol: str = ALL_GOALS,
    quiet: bool = False,
    warnings: Sequence[str] = (),
) -> tuple[ControlEvaluation, Path]:
    """Evaluate a checkpoint and write evaluations/<protocol>_<checkpoint>.json.

    An interrupted evaluation continues where it stopped. On one machine the file is always bit-identical, with any number of
    threads and any interruptions.

    Args:
        sides: the sides to play, if the suite and the plan have them.
        modes: see `metarl.evaluation.all_goals.evaluate`.
        protocol: the beginning of the file's name.
        warnings: what a reader of the file should know.

    Returns:
        The file's content and its path.

    Raises:
        UserError: the run trained on some held-out goals, or there is nothing to evaluate on.
    """
    setup, suite = prepare(run, checkpoint, plan)
    o, trained = setup.options, setup.suite
    goals = goals_by_side(plan, trained, suite, sides)
    if not goals or ("test" in sides and suite is not trained and "test" not in goals):
        raise UserError(f"{suite.name} holds nothing out: evaluate on train goals (--train-goals)")
    noted: Any = {"warnings": list(warnings)} if warnings else {}
    content: ControlEvaluation = {
        **checkpoint_header(run, checkpoint, setup, suite, plan.seed),
        "protocol": protocol,
        "trials": plan.trials,
        "episodes": plan.episodes or o.episodes_per_trial,
        "terminate_on_success": o.terminate_on_success,
        "engine": setup.env.engine.name,
        "confidence": CONFIDENCE,
        **noted,
        "sides": {},
    }
    name = f"{protocol}_{checkpoint.path.name}{plan.suffix}"
    counts = {side: len(tasks) for side, tasks in goals.items()}
    work = {**content, "modes": list(modes), "weights": checkpoint.digest, "goals": counts}
    del work["sides"]
    each = plan.trials * content["episodes"] * o.max_episode_steps * len(modes)
    with session(run, name, work, sum(counts.values()) * each, quiet=quiet) as (journal, bar):
        for side, tasks in goals.items():
            pool = replace((suite.test if side == "test" else None) or trained.train, tasks=tuple(tasks))
            progress = bar.part(len(tasks) * each)
            content["sides"][side] = _play_side(setup, side, pool, content, modes, journal, progress)
        path = run.store(content, name)
    return content, path


def _play_side(
    setup: Setup,
    side: str,
    pool: TaskDistribution,
    content: ControlEvaluation,
    modes: Sequence[str],
    journal: Journal,
    progress: Callable[[int], None],
) -> Side:
    trials, device, tasks = content["trials"], setup.source.device, pool.tasks
    env = make_vec(
        pool,
        min(NUM_ENVS, len(tasks) * trials),
        engine=content["engine"] if pool.make is None else "auto",
        max_episode_steps=content["max_episode_steps"],
        reward=content["reward"],
        terminate_on_success=content["terminate_on_success"],
    )
    play = partial(
        evaluate,
        env=env,
        tasks=tasks,
        trials=trials,
        seed=content["seed"],
        device=device,
        journal=journal,
        acting=setup.options.acting,
    )
    try:
        curves, std = play(
            setup.agent,
            episodes=content["episodes"],
            adapt_every=setup.support_episodes,
            modes=modes,
            progress=progress,
            part=side,
        )
        figures = side_content(tasks, curves, std, pool.axes)
        hover = None
        if std is not None:
            observed = observation_size(env.single_observation_space)
            hover = goal_blind(setup.suite.train, tuple(std.tolist()), observed, device)
        if hover is not None:
            blind, _ = play(hover, episodes=1, modes=(SAMPLED,), part=f"{side} goal-blind")
            figures["goal_blind"] = side_content(tasks, blind, None)
    finally:
        env.close()
    return figures
