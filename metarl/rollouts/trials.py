"""Play trials, several consecutive episodes on one task: `Trials` for training, `play_trial` for evaluation and videos."""

import time
from collections.abc import Callable, Generator, Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch

from metarl.envs import Task, TaskDistribution
from metarl.learner import Learner, Metrics, State
from metarl.rollouts.playing import Camera, Progress, draw_noise, play
from metarl.rollouts.random_streams import ACTIONS, RESETS, TASKS, generator
from metarl.rollouts.rollout import Rollout, joined
from metarl.rollouts.storage import first_input, next_input

if TYPE_CHECKING:
    from metarl.envs import MetaVectorEnv


class Played(NamedTuple):
    """One episode of a trial, in every environment.

    Attributes:
        support: the episode of the trial itself.
        branch: the same episode played by deterministic actions; it does not affect the trial.
        adapted: how many times `adapt` has changed the learner's state so far.
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
    progress: Callable[[int, bool], Progress] = lambda e, branch: lambda share: None,
    camera: Callable[[int, bool], Camera | None] = lambda e, branch: None,
    keep_states: int = 0,
    acting: str = "auto",
) -> Generator[Played, None, State]:
    """Play a trial in every environment, episode by episode, for evaluation and videos.

    The generator returns the learner's final state.

    Args:
        env: an environment with one environment per task.
        learner: adapts while it plays (RL²), and by `adapt` after every `adapt_every` episodes.
        tasks: one per environment.
        generators: each environment's generator of action noise.
        episodes: episodes per trial.
        adapt_every: episodes passed to each call of `adapt`.
        resets: returns the seed of the reset before an episode.
        device: device of the learner's tensors.
        branch: returns whether to also play an episode by deterministic actions, from a copy of the state, before an episode.
        progress, camera: return the observers of an episode or of its branch, see `play`.
        keep_states, acting: see `play`.
    """
    state, before = learner.initial_state(len(tasks)), first_input(env, np.empty(0))
    supports: list[Rollout] = []
    adapted = 0
    for e in range(episodes):
        branched = None
        for deterministic in (True, False) if branch(e) else (False,):
            env.set_tasks(tasks)
            obs, _ = env.reset(seed=resets(e))
            noise = None if deterministic else draw_noise(env.single_action_space, generators, env.max_episode_steps)
            rollout, after = play(
                env,
                learner,
                state,
                before._replace(obs=obs),
                episodes=1,
                noise=noise,
                device=device,
                keep_states=keep_states,
                progress=progress(e, deterministic),
                camera=camera(e, deterministic),
                acting=acting,
            )
            branched = rollout if deterministic else branched
        yield Played(rollout, branched, adapted)
        state, before = after, next_input(rollout)
        supports.append(rollout)
        if len(supports) == adapt_every:
            unadapted = state
            with torch.no_grad():
                state, supports = learner.adapt(state, joined(supports)), []
            adapted += state is not unadapted
    return state


class Trials:
    """Collect trials for training robots: per iteration one trial in every environment, on new tasks; a phase has `episodes`
    episodes.

    If the environment draws a task for every episode (`resample="episode"`), the reset of an iteration draws the first ones.

    Args:
        env: the environment; its `max_episode_steps` is the length of an episode.
        tasks: the distribution of tasks.
        episodes: episodes per phase.
        seed: the run's seed.
        device: device of the learner's tensors.
        acting: see `play`.

    Attributes:
        num_tasks: tasks per iteration, one per environment.
        progress: called with the completed share (0 to 1) of the current collection.
    """

    def __init__(
        self,
        env: "MetaVectorEnv",
        tasks: TaskDistribution,
        episodes: int,
        seed: int,
        device: torch.device,
        acting: str = "auto",
    ) -> None:
        self.env, self.tasks, self.episodes, self.seed = env, tasks, episodes, seed
        self.device, self.acting = device, acting
        self.num_tasks = env.num_envs
        self.progress: Callable[[float], None] = lambda share: None

    def begin(self, iteration: int) -> None:
        """Draw a task per environment and reset."""
        self.iteration = iteration
        self._steps, self._seconds = 0, 0.0
        self._played: list[dict[str, np.ndarray]] = []
        if self.env.resample == "never":
            self.env.set_tasks(self.tasks.sample(self.num_tasks, generator(self.seed, TASKS, iteration)))
        seed = int(generator(self.seed, RESETS, iteration).integers(2**31))
        obs, _ = self.env.reset(seed=seed)
        self._names = np.array([task.name for task in self.env.tasks if task])
        self.next_input = first_input(self.env, obs)

    def collect(self, learner: Learner, state: State, phase: int) -> tuple[Rollout, State]:
        """Play `episodes` episodes with sampled actions."""
        steps = self.episodes * self.env.max_episode_steps
        generators = [generator(self.seed, ACTIONS, self.iteration, phase, env_id) for env_id in range(self.num_tasks)]
        noise = draw_noise(self.env.single_action_space, generators, steps)

        began = time.perf_counter()
        rollout, state = play(
            self.env,
            learner,
            state,
            self.next_input,
            episodes=self.episodes,
            noise=noise,
            device=self.device,
            keep_states=getattr(learner, "keep_states", 1),
            progress=self.progress,
            acting=self.acting,
        )
        self.next_input = next_input(rollout)
        self.record(int(rollout.valid.sum()), time.perf_counter() - began, rollout.by_episode(self.episodes))
        return rollout, state

    def record(self, steps: int, seconds: float, played: dict[str, np.ndarray]) -> None:
        """Record played episodes; called by `collect`, and by agents that step `env` in their own loop.

        Args:
            steps: total over all environments.
            seconds: time they took.
            played: see `Rollout.by_episode`; without a column per environment there are no metrics by task.
        """
        self._steps += steps
        self._seconds += seconds
        self._played.append(played)

    def report(self) -> Metrics:
        """Return means over the iteration's episodes, over the first and the last of each trial and over those of each task of
        several, and the number of steps.
        """
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
        by_task = self._by_task({key: found[key] for key in ("success", "return") if key in names})
        return means | by_task | {"steps": self._steps, "collect_seconds": self._seconds}

    def _by_task(self, found: dict[str, np.ndarray]) -> Metrics:
        """Means over the episodes on each task's name; {} for a single name."""
        # with resample="episode" the episodes of a column are on different tasks
        if len(self.tasks.names) == 1 or self.env.resample == "episode" or found["return"].shape[1:] != (self.num_tasks,):
            return {}
        return {
            f"task/{name}/{key}": float(values[:, self._names == name].mean())
            for name in self.tasks.names
            if name in self._names  # there may be fewer environments than names
            for key, values in found.items()
        }
