"""Choose the goals and episodes of a film and play them. `metarl render` writes the result with `metarl.rendering.video`."""

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any, Literal

import numpy as np

from metarl.agents import adaptation_step
from metarl.envs import MetaVectorEnv, Suite, Task, make_vec
from metarl.envs.rendering.painter import DEFAULT_CAMERA, check_view
from metarl.envs.suites import balanced_subset
from metarl.errors import UserError, unknown
from metarl.evaluation.all_goals import trial_generator
from metarl.evaluation.vocabulary import DETERMINISTIC, MODES, goal
from metarl.learner import distance
from metarl.rendering.overlay import Clip, Goal, Layout
from metarl.rollouts.playing import Progress as ShareDone
from metarl.rollouts.rollout import Rollout
from metarl.rollouts.trials import play_trial
from metarl.runs.checkpoints import Checkpoint
from metarl.runs.directory import Run
from metarl.system.console import Progress
from metarl.system.counts import plural
from metarl.system.devices import one_thread
from metarl.system.ranges import check
from metarl.training.setup import trained_control

STEPS_A_SECOND = 80
"""Control steps per second of real time; a step takes 12.5 ms."""
IN_TURN = 3
"""Largest number of goals that are shown one after the other by default; more are shown in a grid."""


@dataclass(frozen=True)
class FilmOptions:
    """Options of a film: its goals, episodes and appearance."""

    goals: int | None = None
    """Number of goals to show, spread evenly over the tasks; default: 3, or one per task named."""
    tasks: tuple[str, ...] = ()
    """Tasks to choose the goals from; default: all of the side."""
    side: Literal["train", "test"] | None = None
    """Train goals, or held-out goals (test); default: held-out goals if the suite has any."""
    episodes: tuple[int, ...] = ()
    """Episodes of the trial to show, counted from 1; default: the first and the last."""
    episodes_per_trial: int | None = None
    """Episodes per trial; default: as in training."""
    actions: Literal["sampled", "deterministic"] = "sampled"
    """Actions in the episodes shown: sampled, as in training, or deterministic, the mode of the policy's distribution."""
    grid: bool | None = None
    """Show all goals at once in a grid, or one after the other; default: a grid for more than 3 goals."""
    camera: str = DEFAULT_CAMERA
    """Name of the camera; an unknown name lists all."""
    size: str | None = None
    """Size of each picture, WIDTHxHEIGHT in pixels; default: 320x240, smaller if a page shows many."""
    fps: int = 20
    """Frames per second."""
    speed: float = 1.0
    """Speed relative to real time; a faster film shows fewer of the steps."""
    overlay: bool = True
    """Write titles, figures and curves over the pictures."""
    seed: int = 0
    """Seed of the actions, as in `metarl evaluate`."""
    device: str = "auto"
    """auto, cpu or cuda."""

    def __post_init__(self) -> None:
        check(
            self,
            goals="[1, inf)",
            episodes="[1, inf)",
            episodes_per_trial="[1, inf)",
            seed="[0, inf)",
            speed="(0, inf)",
            fps="[1, inf)",
        )
        if self.actions not in MODES:
            raise unknown("kind of actions", self.actions, MODES)
        if list(self.episodes) != sorted(set(self.episodes)):
            raise UserError(f"episodes must be in increasing order: {' '.join(map(str, sorted(set(self.episodes))))}")
        if self.goals is not None and self.goals < len(set(self.tasks)):
            raise UserError(f"{len(set(self.tasks))} tasks are named, but only {plural(self.goals, 'goal')}")
        if self.fps > STEPS_A_SECOND * self.speed:
            raise UserError(f"fps must be at most {STEPS_A_SECOND} x speed: there are no more frames")
        check_view(*(self.picture_size or (320, 240)), self.camera)

    @property
    def picture_size(self) -> tuple[int, int] | None:
        """Width and height in pixels.

        Raises:
            UserError: `size` is not two numbers.
        """
        if self.size is None:
            return None
        numbers = re.fullmatch(r"(\d{1,5})[xX×](\d{1,5})", self.size.strip())
        if not numbers:
            raise UserError(f"size must be WIDTHxHEIGHT in pixels, such as 320x240, not {self.size!r}")
        return int(numbers[1]), int(numbers[2])


class Film:
    """A film of one run by `FilmOptions`: selects goals and episodes, determines the layout, and plays the trials.

    Raises:
        UserError: the run has no such side, tasks, goals or episodes, or the page would be too large.
    """

    def __init__(self, options: FilmOptions, run: Run, checkpoint: Checkpoint, *, quiet: bool = False) -> None:
        self.options, self.setup = options, trained_control(run, checkpoint, device=options.device)
        self.agent, self.quiet = run.experiment.agent, quiet
        suite = self.setup.suite
        self.side = options.side or ("test" if suite.test else "train")
        self.tasks = choose(suite, self.side, options.tasks, options.goals)
        trial = options.episodes_per_trial or self.setup.options.episodes_per_trial
        self.episodes = options.episodes or tuple(sorted({1, trial}))
        if self.episodes[-1] > trial:
            longer = " (--episodes-per-trial plays longer ones)" if options.episodes_per_trial is None else ""
            raise UserError(f"there is no episode {self.episodes[-1]} in a trial of {trial}{longer}")
        self.grid = len(self.tasks) > IN_TURN if options.grid is None else options.grid
        self.size = options.picture_size or self._fitting()
        Layout(*self.size, *self._page, options.overlay)
        self.user_defined = suite.train.make is not None
        self.fps = max(1, min(options.fps, int(self.setup.env.metadata["render_fps"] * options.speed)))

    @property
    def _page(self) -> tuple[int, int]:
        """Goals per page, and pictures per goal."""
        return len(self.tasks) if self.grid else 1, len(self.episodes)

    def _fitting(self) -> tuple[int, int]:
        """320 x 240, or smaller to keep a page within about 1,280 pixels of width, but at least 160 x 120."""
        columns = Layout(320, 240, *self._page, overlay=False).columns * len(self.episodes)
        width = min(320, max(160, 1280 // columns // 8 * 8))
        return width, width * 3 // 4

    def play(self) -> list[Goal]:
        """Play a trial on each goal, up to the last episode shown."""
        o, options = self.setup.options, self.options
        env = make_vec(
            replace(getattr(self.setup.suite, self.side), tasks=tuple(self.tasks)),
            len(self.tasks),
            engine=self.setup.env.engine.name,
            max_episode_steps=o.max_episode_steps,
            reward=o.reward,
            terminate_on_success=o.terminate_on_success,
        )
        deterministic, last = options.actions == DETERMINISTIC, self.episodes[-1]
        cameras = {e - 1: _Camera(env, self.fps, options.speed) for e in self.episodes}
        clips: list[list[Clip]] = [[] for _ in self.tasks]
        total = last * o.max_episode_steps * len(self.tasks)
        with one_thread(), Progress(total, what="steps played", quiet=self.quiet) as bar:

            def progress(e: int, branch: bool) -> ShareDone:
                return lambda share: bar.within(total * (e + share) / last)

            trial = play_trial(
                env,
                self.setup.agent,
                self.tasks,
                [trial_generator(options.seed, task, 0) for task in self.tasks],
                episodes=last,
                adapt_every=self.setup.support_episodes,
                resets=lambda e: e,
                device=self.setup.source.device,
                branch=lambda e: deterministic and e in cameras,
                progress=progress,
                camera=lambda e, branch: cameras[e] if e in cameras and branch == deterministic else None,
                keep_states=1,
                acting=o.acting,
            )
            adapts = self.setup.adapt_every is not None
            for e, played in enumerate(trial):
                rollout = played.branch if deterministic else played.support
                if rollout is not None and e in cameras:
                    note = _note(e, played.adapted if adapts else None, adaptation_step(self.agent))
                    for of_goal, clip in zip(clips, cameras[e].clips(rollout, f"episode {e + 1}", note)):
                        of_goal.append(clip)
        env.close()
        return [self._goal(i, task, tuple(of_goal)) for i, (task, of_goal) in enumerate(zip(self.tasks, clips))]

    def _goal(self, i: int, task: Task, clips: tuple[Clip, ...]) -> Goal:
        number = sum(other.name == task.name for other in self.tasks[: i + 1])
        note = "" if self.grid or len(self.tasks) == 1 else f"{i + 1} of {len(self.tasks)}"
        return Goal(f"{task.name}, {goal(self.side)} {number}", clips, note)


def choose(suite: Suite, side: str, names: Sequence[str], goals: int | None) -> list[Task]:
    """The goals to show, spread evenly over the tasks of a side.

    Args:
        suite: the suite to choose from.
        side: train or test.
        names: names of the tasks; empty: all.
        goals: number of goals; None: 3, or one per name if there are more names.

    Raises:
        UserError: the suite has no such side or task, or too few goals.
    """
    distribution = getattr(suite, side)
    if distribution is None:
        raise UserError(f"{suite.name} holds nothing out: it only has train goals")
    for name in names:
        if name not in distribution.names:
            kind = goal(side).removesuffix("goal")
            raise UserError(f"{suite.name} has no {kind}task {name!r}. There are: {', '.join(distribution.names)}")
    candidates = [task for task in distribution.tasks if not names or task.name in names]
    if goals is not None and goals > len(candidates):
        raise UserError(f"there are {len(candidates)} such goals, not {goals}")
    return balanced_subset(candidates, goals or max(3, len(set(names))))


def _note(episodes: int, steps: int | None, step: str) -> str:
    """A note on the agent's experience before an episode: its adaptation steps if it takes any, else its episodes."""
    if steps is not None:
        return f"{plural(steps, step)}"
    return f"after {plural(episodes, 'episode')}" if episodes else "no experience yet"


class _Camera:
    """Records the scenes of an episode to show, in every environment, and makes clips of them."""

    def __init__(self, env: MetaVectorEnv, fps: int, speed: float) -> None:
        every = env.metadata["render_fps"] * speed / fps
        self.scenes = dict[int, list[Any]]()
        self.times = {int(i * every) for i in range(math.ceil(env.max_episode_steps / every))}

    def take(self, t: int, scenes: list[Any]) -> None:
        """See `metarl.rollouts.playing.Camera`."""
        self.scenes[t] = scenes

    def clips(self, rollout: Rollout, title: str, note: str) -> list[Clip]:
        """One clip per environment."""
        reward, success, valid = (x.cpu().numpy() for x in (rollout.reward, rollout.success, rollout.valid))
        changes = _changes(rollout)
        out = []
        for env_id, length in enumerate(valid.sum(0)):
            # The environment resets within an episode's last step, so its final scene is not available: the last picture,
            # at most one frame older, shows the final figures.
            times = [t for t in self.scenes if t < length - 1] or [0]
            changes_of_env = None if changes is None else changes[:length, env_id]
            out.append(
                Clip(
                    title,
                    note,
                    [self.scenes[t][env_id] for t in times],
                    [*(t + 1 for t in times[:-1]), int(length)],
                    reward[:length, env_id],
                    success[:length, env_id],
                    changes_of_env,
                )
            )
        return out


def _changes(rollout: Rollout) -> np.ndarray | None:
    """|h_t - h_(t-1)| per step and environment, where h_t is the state before step t; None if all states are one object."""
    pairs = list(pairwise(rollout.states))
    if all(a is b for a, b in pairs):
        return None
    moved = np.stack([distance(a, b).cpu().numpy() for a, b in pairs])
    return np.concatenate([np.full_like(moved[:1], np.nan), moved])
