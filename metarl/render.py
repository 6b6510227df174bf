"""`metarl render`: a video of the robot in the first and in the last episode of a trial, on held-out goals."""

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import tyro

from metarl.console import Progress, say
from metarl.envs.drawing import CAMERAS, DEFAULT_CAMERA, find_backend
from metarl.envs.scene import Scene
from metarl.errors import UserError, unknown
from metarl.rollout import EVALUATION, generator, play_trial
from metarl.run import open_run
from metarl.video import Clip, write_video

FRAME_EVERY = 4
"""Control steps of 12.5 ms a frame: 20 frames a second show real time."""


@dataclass
class _Recorder:
    """Keeps what is shown of one episode of every slot."""

    env: Any
    scenes: list[list[Scene]] = field(default_factory=list)
    rewards: list[np.ndarray] = field(default_factory=list)
    succeeded: list[np.ndarray] = field(default_factory=list)
    so_far: Any = False

    def watch(self, t: int, reward: np.ndarray, success: np.ndarray) -> None:
        self.so_far = self.so_far | success
        if t % FRAME_EVERY == 0:
            self.scenes.append([self.env.engine.scene(slot) for slot in range(self.env.num_envs)])
            self.rewards.append(reward)
            self.succeeded.append(self.so_far)

    def clip(self, slot: int, title: str) -> Clip:
        return Clip(
            title,
            [scenes[slot] for scenes in self.scenes],
            [1 + i * FRAME_EVERY for i in range(len(self.scenes))],
            [float(reward[slot]) for reward in self.rewards],
            [bool(succeeded[slot]) for succeeded in self.succeeded],
        )


@dataclass(frozen=True)
class Render:
    """Draw the robot before and after it adapted: the first and the last episode of a trial side by side.

    On held-out goals (a multi-task suite has none: on train goals), in real time. The
    green sphere is the goal; the agent cannot see it, only the viewer can.
    """

    run: tyro.conf.Positional[Path]
    """A run directory, or a checkpoint's folder in one."""
    goals: int = 3
    """How many held-out goals to show, one after the other; spread evenly over the tasks."""
    episodes: int | None = None
    """Episodes of the trial, the first and the last of which are shown; default: as trained."""
    actions: str = "sampled"
    """How the agent acts in the episodes shown: sampled, as in training, or mean."""
    camera: str = DEFAULT_CAMERA
    """Where to look from; an unknown name lists all."""
    width: int = 320
    """Of each of the two pictures, pixels."""
    height: int = 240
    """Of each of the two pictures, pixels."""
    out: Path | None = None
    """The file; default: videos/<checkpoint>.mp4 in the run directory."""
    seed: int = 0
    """Of the actions."""
    device: str = "auto"
    """auto, cpu or cuda."""
    quiet: bool = False
    """Print nothing but errors."""
    debug: bool = False
    """Show a traceback with an error."""

    def __post_init__(self) -> None:
        if self.goals < 1 or self.seed < 0 or (self.episodes is not None and self.episodes < 1):
            raise UserError("goals and episodes must be at least 1 and seed at least 0")
        if self.actions not in ("sampled", "mean"):
            raise UserError(f"actions must be sampled or mean, not {self.actions!r}")
        if self.camera not in CAMERAS:
            raise unknown("camera", self.camera, CAMERAS)

    def main(self) -> int:
        """Run the command."""
        run, named = open_run(self.run)
        checkpoint, problems = run.load(named)
        for problem in problems:
            say(f"{problem}: showing the one before")
        find_backend()  # the reason why nothing can be drawn should not come after the work
        path = self.out or run.path / "videos" / f"{checkpoint.path.name}.mp4"
        rows, titles = self.play(run, checkpoint)
        with Progress(sum(len(clip.scenes) for row in rows for clip in row), what="frames", quiet=self.quiet) as bar:
            write_video(
                path, rows, titles=titles, width=self.width, height=self.height, camera=self.camera,
                progress=lambda done, total: bar.within(done),
            )  # fmt: skip
        if not self.quiet:
            say(f"written: {path}")
        return 0

    def play(self, run: Any, checkpoint: Any) -> tuple[list[tuple[Clip, Clip]], list[str]]:
        """Play a trial on each goal; returns the pairs of clips and their titles."""
        from metarl.envs import make_vec
        from metarl.envs.suites import some_of
        from metarl.train import set_up

        setup = set_up(run.config, 1, device=self.device)
        setup.env.close()
        setup.agent.load_state_dict(checkpoint.state)
        o = setup.options
        shown_side = setup.suite.test or setup.suite.train
        side = "held-out" if setup.suite.test else "train"
        tasks = some_of(shown_side.tasks, self.goals)
        env = make_vec(
            replace(shown_side, tasks=tuple(tasks)),
            len(tasks),
            engine=setup.env.engine.name,
            horizon=o.horizon,
            reward=o.reward,
        )
        torch.set_num_threads(1)
        last, mean = (self.episodes or o.episodes_per_trial) - 1, self.actions == "mean"
        shown = {e: _Recorder(env) for e in (0, last)}
        trial = play_trial(
            env, setup.agent, tasks, [generator(self.seed, EVALUATION, goal) for goal in range(len(tasks))],
            episodes=last + 1, adapt_every=setup.source.episodes, resets=lambda e: e, device=setup.source.device,
            branch=lambda e: mean and e in shown,
            watch=lambda e, branch: shown[e].watch if e in shown and branch == mean else None,
        )  # fmt: skip
        for _ in trial:
            pass
        env.close()
        titles = [f"{task.name}, {side} goal {i + 1}" for i, task in enumerate(tasks)]
        before, after_title = (
            "episode 1: no experience yet",
            f"episode {last + 1}: after {last} episode{'s' * (last != 1)}",
        )
        return [(shown[0].clip(i, before), shown[last].clip(i, after_title)) for i in range(len(tasks))], titles
