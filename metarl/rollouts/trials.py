"""Trials: several episodes in a row on one task, and `Trials`, the source that collects them for training."""

import time
from collections.abc import Callable, Generator, Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch

from metarl.envs import Task, TaskDistribution
from metarl.learner import Learner, Metrics, State

if TYPE_CHECKING:
    from metarl.envs import MetaVectorEnv
from metarl.rollouts.playing import Watch, draw_noise, nothing_before, play
from metarl.rollouts.random_streams import ACTIONS, RESETS, TASKS, generator
from metarl.rollouts.rollout import Rollout, joined


class Played(NamedTuple):
    """An episode of a trial, in every slot.

    Attributes:
        support: the trial's own.
        branch: the same by mean actions, then dropped.
        adapted: how often `adapt` had changed the learner's state before.
    """

    support: Rollout
    branch: Rollout | None
    adapted: int


def play_trial(
    env: "MetaVectorEnv",
    learner: Learner,
    tasks: Sequence[Task],
    generators: list[np.random.Generator],
    *,
    episodes: int,
    adapt_every: int,
    resets: Callable[[int], int],
    device: torch.device,
    branch: Callable[[int], bool] = lambda e: False,
    watch: Callable[[int, bool], Watch | None] = lambda e, branch: None,
    keep_states: int = 0,
) -> Generator[Played, None, State]:
    """Play a trial in every slot, episode by episode, as evaluation and pictures see it.

    The generator's return value is what the learner knows in the end.

    Args:
        env: as many slots as there are tasks.
        learner: what adapts: while it plays (RL²), and by `adapt` after every `adapt_every` episodes.
        tasks: one a slot.
        generators: of each slot's actions.
        episodes: of the trial.
        adapt_every: episodes of experience that `adapt` is given at a time.
        resets: seed of the reset before each episode.
        device: where the learner's tensors are.
        branch: before which episodes a copy of the learner also plays one by its mean actions.
        watch: what watches an episode, or its branch: see `play`.
        keep_states: see `play`.
    """
    state, previous = learner.begin(len(tasks)), nothing_before(env)
    supports: list[Rollout] = []
    adapted = 0
    for e in range(episodes):
        branched = None
        for mean in (True, False) if branch(e) else (False,):
            env.set_tasks(tasks)
            obs, _ = env.reset(seed=resets(e))
            noise = None if mean else draw_noise(env.single_action_space, generators, env.max_episode_steps)
            rollout, after, _, then = play(
                env,
                learner,
                state,
                obs,
                previous,
                episodes=1,
                noise=noise,
                device=device,
                keep_states=keep_states,
                watch=watch(e, mean),
            )
            branched = rollout if mean else branched
        yield Played(rollout, branched, adapted)
        state, previous = after, then
        supports.append(rollout)
        if len(supports) == adapt_every:
            before = state
            with torch.no_grad():
                state, supports = learner.adapt(state, joined(supports)), []
            adapted += state is not before
    return state


class Trials:
    """The source for robots: an iteration is one trial in every slot, on freshly drawn tasks; a phase of it `episodes` long.

    Where the environment draws a task for every episode (`resample="episode"`), an iteration's reset draws the first ones.

    Args:
        env: where to play; its `max_episode_steps` is the length of an episode.
        tasks: what to draw tasks from.
        episodes: episodes of a phase.
        seed: the run's seed.
        device: where the learner's tensors are.

    Attributes:
        num_tasks: tasks an iteration, one a slot.
        progress: called with the share (0 to 1) of the current collection that is done.
    """

    def __init__(self, env: "MetaVectorEnv", tasks: TaskDistribution, episodes: int, seed: int, device: torch.device) -> None:
        self.env, self.tasks, self.episodes, self.seed, self.device = env, tasks, episodes, seed, device
        self.num_tasks = env.num_envs
        self.progress: Callable[[float], None] = lambda share: None

    def begin(self, iteration: int) -> None:
        """Draw a task a slot and reset."""
        self.iteration = iteration
        self._steps, self._seconds = 0, 0.0
        self._played: list[dict[str, np.ndarray]] = []
        if self.env.resample == "never":
            self.env.set_tasks(self.tasks.sample(self.num_tasks, generator(self.seed, TASKS, iteration)))
        seed = int(generator(self.seed, RESETS, iteration).integers(2**31))
        self.obs, _ = self.env.reset(seed=seed)
        self.previous = nothing_before(self.env)

    def collect(self, learner: Learner, state: State, phase: int) -> tuple[Rollout, State]:
        """Play `episodes` episodes with sampled actions."""
        steps = self.episodes * self.env.max_episode_steps
        generators = [generator(self.seed, ACTIONS, self.iteration, phase, slot) for slot in range(self.num_tasks)]
        noise = draw_noise(self.env.single_action_space, generators, steps)

        def watch(t: int, reward: np.ndarray, success: np.ndarray) -> None:
            if t % 50 == 0:
                self.progress(t / steps)

        began = time.perf_counter()
        rollout, state, self.obs, self.previous = play(
            self.env,
            learner,
            state,
            self.obs,
            self.previous,
            episodes=self.episodes,
            noise=noise,
            device=self.device,
            keep_states=getattr(learner, "keep_states", 1),
            watch=watch,
        )
        self.record(int(rollout.valid.sum()), time.perf_counter() - began, rollout.by_episode(self.episodes))
        return rollout, state

    def record(self, steps: int, seconds: float, played: dict[str, np.ndarray]) -> None:
        """Take note of what was played: `collect` does, and agents that step `env` in a loop of their own.

        Args:
            steps: of all slots.
            seconds: that they took.
            played: see `Rollout.by_episode`.
        """
        self._steps += steps
        self._seconds += seconds
        self._played.append(played)

    def report(self) -> Metrics:
        """What the iteration's episodes were like: means over all of them, the first and the last of the trial; steps."""
        found = {key: np.concatenate([played[key] for played in self._played]) for key in self._played[0]}
        names = {"return": "return"} | (
            {"success": "success", "last_success": "last_step_success"} if self.tasks.success else {}
        )
        means = {name: float(found[key].mean()) for key, name in names.items()}
        for key in ("success", "return"):
            if key in names:
                means |= {
                    f"{key}_first_episode": float(found[key][0].mean()),
                    f"{key}_last_episode": float(found[key][-1].mean()),
                }
        return means | {"steps": self._steps, "collect_seconds": self._seconds}
