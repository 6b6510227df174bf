"""The protocol `all-goals`, which treats every goal equally.

Each goal gets the same number of trials, each trial the same number of full-length episodes. Within a trial the agent
samples its actions, as in training. Episode e shows its behaviour after k = e - 1 episodes of experience. Before each
episode a copy of its state also plays one episode with deterministic actions. The trial does not continue from that episode,
because training never showed the agent a trial of deterministic actions.
"""

import hashlib
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Any

import numpy as np
import torch

from metarl.envs import MetaVectorEnv, Task
from metarl.evaluation import intervals as statistics
from metarl.evaluation.control_schema import OfTask, Side, Statistics
from metarl.evaluation.measures import OF_GOALS, RETURN
from metarl.evaluation.vocabulary import DETERMINISTIC, MODES, SAMPLED
from metarl.learner import Learner
from metarl.rollouts.random_streams import EVALUATION, RESETS, generator
from metarl.rollouts.trials import Played, play_trial
from metarl.system.journal import Journal
from metarl.system.memory import refuse_beyond

Curves = dict[str, dict[str, np.ndarray]]
"""Figures by mode and measure, each (goals, trials, episodes)."""


def evaluate(
    learner: Learner,
    env: MetaVectorEnv,
    tasks: Sequence[Task],
    *,
    trials: int,
    episodes: int,
    seed: int,
    device: torch.device,
    adapt_every: int = 1,
    modes: Sequence[str] = MODES,
    progress: Callable[[int], None] = lambda steps: None,
    journal: Journal | None = None,
    part: str = "",
    trial_of: Callable[..., Iterable[Played]] | None = None,
    acting: str = "auto",
) -> tuple[Curves, np.ndarray | None]:
    """Evaluate a learner on every task, with the same number of trials and episodes.

    Args:
        learner: the learner to evaluate; it is not changed.
        env: the environments; each batch of trials fills them.
        tasks: the goals.
        trials: trials per goal.
        episodes: episodes per trial.
        seed: of the actions; each (goal, trial) has its own random stream.
        device: where the learner's tensors are.
        adapt_every: episodes of experience per call of the learner's `adapt`.
        modes: some of `MODES`; the trial itself always samples.
        progress: called with the environment steps done.
        journal: holds the batches done before and records new ones, under names that begin with `part`.
        trial_of: plays a trial for this type of `learner`; default: `play_trial`.
        acting: see `metarl.rollouts.playing.play`; only for `play_trial`.

    Returns:
        The curves (only returns if the environments report no success), and the mean standard deviation of the last
        episodes' actions (None for discrete actions).
    """
    shape = (len(tasks), trials, episodes)
    measures = [measure.key for measure in (OF_GOALS if env.distribution.success else (RETURN,))]
    figures = len(tasks) * trials * (100 + episodes * len(measures) * len(modes) * 40)
    steps = env.num_envs * env.max_episode_steps
    needs = {f"figures of {len(tasks) * trials:,} trials": figures, f"{steps:,} steps of an episode": steps * 50}
    refuse_beyond(needs, "fewer trials and episodes and shorter episodes need less")
    curves: Curves = {mode: {measure: np.zeros(shape) for measure in measures} for mode in modes}
    spread: list[list[float]] = []
    jobs = [(goal, trial) for trial in range(trials) for goal in range(len(tasks))]
    steps_per_episode = env.max_episode_steps * len(modes)

    def play_batch(first: int) -> dict[str, Any]:
        batch = jobs[first : first + env.num_envs]
        filled = batch + [batch[-1]] * (env.num_envs - len(batch))  # spare environments repeat the last goal; not counted
        play: Callable[..., Iterable[Played]] = trial_of or partial(play_trial, acting=acting)
        trials_of_batch = play(
            env,
            learner,
            [tasks[goal] for goal, _ in filled],
            [trial_generator(seed, tasks[goal], trial) for goal, trial in filled],
            episodes=episodes,
            adapt_every=adapt_every,
            resets=lambda e: int(generator(seed, RESETS, first, e).integers(2**31)),
            device=device,
            branch=lambda e: DETERMINISTIC in modes,
        )
        return _measured(
            trials_of_batch,
            modes,
            measures,
            len(batch),
            lambda e: progress((first * episodes + len(batch) * e) * steps_per_episode),
        )

    for first in range(0, len(jobs), env.num_envs):
        batch = jobs[first : first + env.num_envs]
        results = journal.part(f"{part}/{first}", partial(play_batch, first)) if journal else play_batch(first)
        progress((first + len(batch)) * episodes * steps_per_episode)
        for mode, by_measure in results["figures"].items():
            for measure, values in by_measure.items():
                for (goal, trial), row in zip(batch, values):
                    curves[mode][measure][goal, trial] = row
        spread += results["std"]
    return curves, np.mean(spread, 0) if spread else None


def _measured(
    trial: Iterable[Played], modes: Sequence[str], measures: Sequence[str], count: int, progress: Callable[[int], None]
) -> dict[str, Any]:
    """Play a trial. Returns figures of the first `count` environments by mode and measure, (count, episodes), and the std.

    `progress` is called with the number of episodes done.
    """
    figures: dict[str, dict[str, list[np.ndarray]]] = {mode: {measure: [] for measure in measures} for mode in modes}
    std = None
    for e, played in enumerate(trial):
        for mode, rollout in ((SAMPLED, played.support), (DETERMINISTIC, played.branch)):
            if rollout is not None:
                by_measure = rollout.by_episode(1)
                for measure in measures:
                    figures[mode][measure].append(by_measure[measure][0, :count])
        std = getattr(played.support.prediction, "std", None)
        progress(e + 1)
    return {
        "figures": {mode: {k: np.stack(v, 1).tolist() for k, v in of_mode.items()} for mode, of_mode in figures.items()},
        "std": [] if std is None else std[:, :count].mean(0).cpu().tolist(),
    }


def trial_generator(seed: int, task: Task, trial: int) -> np.random.Generator:
    """The random stream of a trial's actions; it does not depend on the task's place in a list."""
    key = int.from_bytes(hashlib.sha256(repr((task.name, task.params)).encode()).digest()[:8], "little")
    return generator(seed, EVALUATION, key, trial)


def summary(curves: Curves, names: Sequence[str] | None = None) -> dict[str, dict[str, list[statistics.Interval]]]:
    """Mean and 95 % interval over goals per episode, for each mode and measure; `names` are the goals' tasks."""
    out: dict[str, dict[str, list[statistics.Interval]]] = {}
    for mode, measures in curves.items():
        out[mode] = {}
        for measure, values in measures.items():
            interval = statistics.mean if measure == "return" else statistics.proportion
            by_goal = values.mean(1)
            out[mode][measure] = [interval(by_goal[:, e], names) for e in range(by_goal.shape[1])]
    return out


def gain(measure: str, values: np.ndarray, names: Sequence[str] | None = None) -> statistics.Interval:
    """Last episode minus first, paired by goal; values are (goals, trials, episodes), `names` the goals' tasks."""
    by_goal = values.mean(1)
    interval = statistics.mean if measure == "return" else statistics.difference
    return interval(by_goal[:, -1] - by_goal[:, 0], names)


def side_content(tasks: Sequence[Task], curves: Curves, std: np.ndarray | None, axes: Sequence[str] = ()) -> Side:
    """One side's part of the evaluation file: goals, statistics over the suite and per task, all figures.

    Args:
        tasks, curves, std: see `evaluate`.
        axes: see `TaskDistribution`.
    """
    names = [task.name for task in tasks]
    by_task: dict[str, OfTask] = {}
    for name in dict.fromkeys(names) if len(set(names)) > 1 else ():
        of_task = np.array([task.name == name for task in tasks])
        curves_of_task = {mode: {k: v[of_task] for k, v in measures.items()} for mode, measures in curves.items()}
        by_task[name] = {"goals": int(of_task.sum()), **_statistics(curves_of_task)}
    named: Any = {"axes": list(axes)} if axes else {}
    return {
        "goals": [[task.name, list(task.params) if isinstance(task.params, tuple) else task.params] for task in tasks],
        **named,
        **_statistics(curves, names),
        "by_task": by_task,
        "std": None if std is None else [round(float(x), 6) for x in std],
        "figures": {mode: {k: np.round(v, 6).tolist() for k, v in measures.items()} for mode, measures in curves.items()},
    }


def _statistics(curves: Curves, names: Sequence[str] | None = None) -> Statistics:
    return {
        "by_episode": {m: {k: [list(i) for i in v] for k, v in s.items()} for m, s in summary(curves, names).items()},
        "gain": {mode: {k: list(gain(k, v, names)) for k, v in measures.items()} for mode, measures in curves.items()},
    }
