"""`metarl render`: a video of the robot before and after it adapted."""

from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro

from metarl.envs.rendering.opengl import find_backend, use_backend
from metarl.errors import UserError
from metarl.rendering.film import Film, FilmOptions
from metarl.rendering.video import GIF_FPS, write_video
from metarl.sharing.opening import open_run
from metarl.system.console import Progress, say
from metarl.system.user_code import arguments, name_again


@dataclass(frozen=True)
class Render:
    """Draw the robot before and after it adapted: the first and the last episode of a trial side by side.

    On held-out goals (a multi-task suite has none: on train goals), in real time. Up to three goals are shown one after
    the other, more of them in a grid. The green sphere is the goal; the agent cannot see it, only the viewer can. It is
    the first trial that `metarl evaluate` plays on each goal.

    Over the pictures: the episode, the gradient steps before it where the agent takes any, the reward of each step and the
    return so far, a green line at the steps of success, and, for an agent that remembers from step to step, how far each
    step moved its memory (the norm of the change of its hidden state). All goals share the scales of the curves.
    """

    run: tyro.conf.Positional[Path]
    """A run directory, or a checkpoint's folder in one."""
    film: Annotated[FilmOptions, tyro.conf.arg(name="")] = FilmOptions()
    format: Literal["mp4", "gif"] | None = None
    """mp4 or gif; default: by the name of `out`, else mp4."""
    out: Path | None = None
    """The file; default: videos/<checkpoint>.<format> in the run directory."""
    suite: str | None = None
    """Of a run on a suite of your own: its file, PATH.py:NAME. Files are run only where they are named here."""
    agent: str | None = None
    """Of a run of an agent of your own: its file, PATH.py:NAME."""
    quiet: bool = False
    """Print nothing but errors."""
    debug: bool = False
    """Show a traceback with an error."""

    def __post_init__(self) -> None:
        if self.kind == "gif" and self.film.fps > GIF_FPS:
            raise UserError(f"a GIF shows at most {GIF_FPS} frames a second, not {self.film.fps}")

    @property
    def kind(self) -> str:
        """mp4 or gif.

        Raises:
            UserError: `out` is named otherwise.
        """
        named = self.out.suffix.lower().removeprefix(".") if self.out else None
        if named is not None and (named not in ("mp4", "gif") or self.format not in (None, named)):
            raise UserError(f"{self.out}: a file of format {self.format or 'mp4 or gif'} must be named so")
        return named or self.format or "mp4"

    def main(self) -> int:
        """Run the command."""
        run, named = open_run(self.run)
        checkpoint = run.usable(named, "showing")
        how = f"metarl render {run.path}{arguments(run.config, '')}"
        for change in name_again(checkpoint.config, self.suite, self.agent, how=how):
            say(f"Beware: {change}")
        path = self.out or run.path / "videos" / f"{checkpoint.path.name}.{self.kind}"
        if path.is_dir():
            raise UserError(f"{path} is a directory: name a file")
        film = Film(self.film, run, checkpoint, quiet=self.quiet)
        if film.own:
            with suppress(UserError):  # where MuJoCo is what they are drawn with, it draws as ours do
                use_backend()
        else:
            find_backend()  # the reason why nothing can be drawn should not come after the work
        goals = film.play()
        with Progress(sum(len(c.scenes) for goal in goals for c in goal.clips), what="pictures drawn", quiet=self.quiet) as bar:
            write_video(
                path,
                goals,
                grid=film.grid,
                width=film.size[0],
                height=film.size[1],
                camera=self.film.camera,
                fps=film.fps,
                overlay=self.film.overlay,
                progress=lambda done, total: bar.within(done),
            )
        if not self.quiet:
            say(f"written: {path} ({path.stat().st_size / 1e6:.1f} MB)")
        return 0
