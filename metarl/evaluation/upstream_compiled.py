"""Meta-World's own evaluation for agents that act in compiled code: whole episodes at once, counted by Meta-World's rule.

Meta-World repeats the measured episode of each environment until its quota is full. Measured actions are deterministic and
every measured episode starts from the same states of agent and environment, so an environment repeats one episode. This module
plays it once and counts it as often as Meta-World's loop would.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from metarl.evaluation.upstream_envs import Measurement, native_envs
from metarl.learner import Learner, PolicyInput
from metarl.rollouts.compiled import compiled_program
from metarl.rollouts.playing import draw_noise, play
from metarl.rollouts.random_streams import EVALUATION, generator
from metarl.rollouts.rollout import Rollout
from metarl.rollouts.storage import first_input, next_input

QUOTA = 3
"""Episodes that Meta-World counts per task name."""


def measure_compiled(
    learner: Learner, what: Measurement, *, device: torch.device, acting: str, progress: Callable[[int], None]
) -> dict[str, Any] | None:
    """See `metarl.evaluation.metaworld.measure`; None: the learner does not act in compiled code."""
    envs, env = native_envs(what.tasks, what.seed, what.max_episode_steps, what.reward)
    n, done = env.num_envs, 0

    def played(state: Any, before: Any, number: int, noise: np.ndarray | None) -> tuple[Rollout, Any]:
        nonlocal done
        obs, _ = env.reset()
        most, begun = number * what.max_episode_steps * n, done
        rollout, state = play(
            env,
            learner,
            state,
            before._replace(obs=obs),
            episodes=number,
            noise=noise,
            device=device,
            progress=lambda share: progress(begun + round(share * most)),
            acting=acting,
        )
        done += most
        return rollout, state

    try:
        if compiled_program(env, learner, learner.initial_state(n), acting) is None:
            return None
        found = []
        for evaluation in range(what.evaluations):
            envs.call("toggle_terminate_on_success", False)
            envs.call("sample_tasks")
            generators = [generator(what.seed, EVALUATION, evaluation, env_id) for env_id in range(n)]
            state, before = learner.initial_state(n), first_input(env, np.empty(0))
            for _ in range(what.steps):
                noise = draw_noise(env.single_action_space, generators, what.episodes * what.max_episode_steps)
                support, state = played(state, before, what.episodes, noise)
                before = next_input(support)
                with torch.no_grad():
                    state = learner.adapt(state, as_upstream_shows(support))
            envs.call("toggle_terminate_on_success", True)
            measured, _ = played(state, before, 1, None)
            found.append(counted([goals[0].name for goals in envs.goals_by_env], measured))
    finally:
        env.close()
    success, returned = ({name: np.mean([one[i][name] for one in found]) for name in what.tasks.names} for i in range(2))
    return {"success": float(np.mean([*success.values()])), "return": float(np.mean([*returned.values()])), "by_task": success}


def as_upstream_shows(support: Rollout) -> Rollout:
    """The rollout as Meta-World lets agents see it: without success, and without the observation after an episode's end.

    The observation before it takes its place.
    """
    shown = support.query.obs
    return replace(
        support,
        success=torch.zeros_like(support.success),
        ends=(support.ends[0], shown[support.done]),
        final=PolicyInput(shown[-1], *support.final[1:]),
    )


def counted(names: Sequence[str], measured: Rollout) -> tuple[dict[str, float], dict[str, float]]:
    """Success and return by task name, over the first `QUOTA` episodes that end if every environment repeats its episode.

    Args:
        names: each environment's task name.
        measured: one episode of every environment.
    """
    length, outcome = measured.valid.sum(0).tolist(), measured.by_episode(1)
    means: tuple[dict[str, float], dict[str, float]] = {}, {}
    for name in dict.fromkeys(names):
        mine = [i for i, other in enumerate(names) if other == name]
        # episodes that end in the same step count in the order of the environments
        first = sorted((repeat * length[i], i) for i in mine for repeat in range(1, QUOTA + 1))[:QUOTA]
        for mean, key in zip(means, ("success", "return")):
            mean[name] = float(np.mean([outcome[key][0, i] for _, i in first]))
    return means
