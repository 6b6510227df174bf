"""`metarl render`: makes a video of the robot before and after adaptation."""

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
    """Make a video of the robot before and after adaptation: the first and the last episode of a trial side by side.

    Shows held-out goals (train goals for a multi-task suite, which holds none out) in real time. Up to three goals are shown
    one after another, more in a grid. The green sphere marks the goal for you; the agent cannot see it. The video shows the
    same trial that `metarl evaluate` plays first on each goal.

    Each picture also shows the number of the episode, the number of gradient steps before it (if the agent takes any), the
    reward of each step and the return so far, a green line at the steps of success, and, for an agent with memory, how far
    each step moved that memory (the norm of the change of its hidden state). The curves of all goals have the same scales.
    """

    run: tyro.conf.Positional[Path]
    """A run directory, or a checkpoint's folder in one."""
    film: Annotated[FilmOptions, tyro.conf.arg(name="")] = FilmOptions()
    format: Literal["mp4", "gif"] | None = None
    """mp4 or gif; default: the ending of `out`, else mp4."""
    out: Path | None = None
    """The file to write. Default: videos/<checkpoint>.<format> in the run directory."""
    suite: str | None = None
    """If the run's suite is your own: its file, PATH.py:NAME. metarl runs only files that you name here."""
    agent: str | None = None
    """If the run's agent is your own: its file, PATH.py:NAME."""
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
            UserError: `out` has another ending.
        """
        named = self.out.suffix.lower().removeprefix(".") if self.out else None
        if named is not None and (named not in ("mp4", "gif") or self.format not in (None, named)):
            raise UserError(f"{self.out}: the file name must end in {self.format or 'mp4 or gif'}")
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
        if film.user_defined:
            with suppress(UserError):  # environments of the user that render with MuJoCo then use the same backend as ours
                use_backend()
        else:
            find_backend()  # fail before the work if nothing can be drawn
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
