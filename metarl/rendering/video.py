"""Draw clips with several processes and write them as an mp4 or GIF."""

import os
import subprocess
import tempfile
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing, contextmanager
from functools import lru_cache
from itertools import chain
from pathlib import Path
from typing import Any

import imageio_ffmpeg
import numpy as np
from PIL import Image, ImageOps

from metarl.envs.rendering.opengl import find_backend, variables
from metarl.envs.rendering.painter import DEFAULT_CAMERA, Painter, check_view
from metarl.envs.rendering.scene import Scene
from metarl.errors import UserError
from metarl.rendering.overlay import Goal, Layout, Overlay
from metarl.system.files import put
from metarl.system.interrupts import shielded
from metarl.system.machine import worker_count
from metarl.system.processes import process_map

HOLD = 0.7
"""Seconds for which the last picture of a page is held."""
GIF_FPS = 50
"""Highest frame rate of a GIF: delays are whole hundredths of a second, and players slow down a delay of one."""

_CHUNK = 8  # frames per job: enough to hide the cost of the pipe, few enough that all processes end together


def write_video(
    path: str | Path,
    goals: Sequence[Goal],
    *,
    grid: bool = False,
    width: int = 320,
    height: int = 240,
    camera: str = DEFAULT_CAMERA,
    fps: int = 20,
    overlay: bool = True,
    progress: Callable[[int, int], None] | None = None,
    processes: int | None = None,
) -> None:
    """Write a video in which the clips of each goal play side by side.

    The path's suffix selects a looping GIF (.gif) or an mp4 (H.264, yuv420p). Shorter clips hold their last picture until
    the longest one on the page ends. The file appears when it is complete; an interrupt leaves no file or process behind.

    Args:
        path: the file; its folder is created.
        goals: goals with equal numbers of clips. Scenes may be finished pictures, uint8 (height, width, 3).
        grid: show all goals at once; otherwise one after the other.
        width: width of one clip's pictures, pixels.
        height: height of one clip's pictures, pixels.
        camera: one of `metarl.envs.rendering.painter.CAMERAS`.
        fps: frames per second.
        overlay: write titles, figures and curves over the pictures.
        progress: called with the number of pictures drawn and the total number.
        processes: number of drawing processes; default: one per core that this process may use. It does not affect the
            frames.

    Raises:
        UserError: nothing to show, unknown camera, size out of range, no OpenGL, or the path cannot be written.
    """
    path = Path(path)
    if not goals:
        raise UserError("there is nothing to show: a video needs at least one goal")
    check_view(width, height, camera)
    pages = [goals] if grid else [[goal] for goal in goals]
    layout = Layout(width, height, len(pages[0]), len(goals[0].clips), overlay)
    writer = Overlay(width, height, [clip for goal in goals for clip in goal.clips]) if overlay else None
    jobs = [
        clip.scenes[start : start + starts.step]
        for page in pages
        for starts in [_starts(page)]
        for start in starts
        for goal in page
        for clip in goal.clips
    ]
    count = min(processes or worker_count(), len(jobs))
    gif = path.suffix.lower() == ".gif"
    drawn = isinstance(jobs[0][0], np.ndarray)
    pictures_of = _fitted(jobs, width, height) if drawn else _draw_all(jobs, count, (width, height, camera))
    with _whole_file(path) as partial, closing(pictures_of) as pictures:
        frames = _frames(pages, layout, writer, fps, _report(pictures, jobs, progress))
        if not gif:
            _encode(partial, frames, layout.size, fps, _QUALITY)
            return
        with tempfile.TemporaryDirectory(dir=partial.parent, prefix=f"{partial.name}.") as folder:
            film = Path(folder) / "film.mp4"
            _encode(film, frames, layout.size, fps, _NO_LOSS)
            _convert(film, partial, fps)


_QUALITY, _NO_LOSS = ("-crf", "23", "-preset", "medium"), ("-crf", "4", "-preset", "ultrafast")


def _encode(path: Path, frames: Iterator[np.ndarray], size: tuple[int, int], fps: int, quality: Sequence[str]) -> None:
    film = imageio_ffmpeg.write_frames(
        str(path),
        size,
        fps=fps,
        quality=None,
        macro_block_size=2,
        ffmpeg_log_level="error",
        output_params=[*quality, "-movflags", "+faststart"],
    )
    first = next(frames)
    with closing(film):
        with shielded():
            film.send(None)
        for frame in chain([first], frames):
            try:
                film.send(frame)
            except OSError as error:
                raise UserError(f"cannot write {path}: ffmpeg stopped (is the disk full?)") from error


def _convert(film: Path, gif: Path, fps: int) -> None:
    """Convert a film to a GIF, with a palette computed from it."""
    filters = (
        f"fps={fps},split[a][b];[a]palettegen=max_colors=128[palette];"
        "[b][palette]paletteuse=dither=bayer:bayer_scale=5:diff_mode=rectangle"
    )
    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-v", "error", "-y", "-i", str(film), "-vf", filters, "-loop", "0", str(gif)]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, errors="replace", check=False)
    if done.returncode != 0:
        lines = done.stderr.strip().splitlines() or ["ffmpeg failed"]
        raise UserError(f"cannot make a GIF: {lines[-1]}")


@contextmanager
def _whole_file(path: Path) -> Iterator[Path]:
    """A temporary path next to `path` that replaces it at the end, or is deleted if an exception is raised."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.stem}.", suffix=path.suffix or ".mp4")
    except OSError as error:
        raise UserError(f"cannot write {path}: {error.strerror}") from error
    os.close(handle)
    partial = Path(name)
    try:
        yield partial
        try:
            put(partial, path)
        except OSError as error:
            raise UserError(f"cannot write {path}: {error.strerror}") from error
    finally:
        partial.unlink(missing_ok=True)


def _report(
    chunks: Iterator[list[np.ndarray]], jobs: list[list[Any]], progress: Callable[[int, int], None] | None
) -> Iterator[list[np.ndarray]]:
    done, total = 0, sum(map(len, jobs))
    for chunk in chunks:
        done += len(chunk)
        if progress is not None:
            progress(done, total)
        yield chunk


def _starts(page: Sequence[Goal]) -> range:
    """The first frame of each job into which the clips of a page are cut.

    Jobs are longer if goals have different models: switching the model takes as long as drawing eight pictures.
    """
    models = {getattr(clip.scenes[0], "model_file", "") for goal in page for clip in goal.clips}
    size = _CHUNK if len(models) == 1 else 4 * _CHUNK
    longest = max(len(clip.scenes) for goal in page for clip in goal.clips)
    return range(0, longest, size)


def _frames(
    pages: Sequence[Sequence[Goal]],
    layout: Layout,
    overlay: Overlay | None,
    fps: int,
    chunks: Iterator[list[np.ndarray]],
) -> Iterator[np.ndarray]:
    """All frames of the video in order, uint8 (height, width, 3), taking one chunk of each clip in turn."""
    for goals in pages:
        page = layout.page(goals)
        places = [(clip, layout.corner(i, j)) for i, goal in enumerate(goals) for j, clip in enumerate(goal.clips)]
        for start in _starts(goals):
            drawn = [next(chunks) for _ in places]
            for k in range(start, start + max(map(len, drawn))):
                for (clip, corner), pictures in zip(places, drawn):
                    if k - start < len(pictures):
                        picture = Image.fromarray(pictures[k - start])
                        if overlay is not None:
                            overlay.draw(picture, clip, k)
                        page.paste(picture, corner)
                frame = np.array(page)
                yield frame
        for _ in range(round(HOLD * fps)):
            yield frame


def _fitted(jobs: list[list[Any]], width: int, height: int) -> Generator[list[np.ndarray], None, None]:
    """Resize pictures that environments drew themselves to fit this size, padded with black."""
    for job in jobs:
        yield [np.asarray(ImageOps.pad(Image.fromarray(picture), (width, height))) for picture in job]


# --- Processes that draw


def _draw_all(jobs: list[list[Scene]], count: int, view: tuple[int, int, str]) -> Generator[list[np.ndarray], None, None]:
    """Pictures of all jobs, in order."""
    backend = find_backend()
    environment = variables(backend)
    if count > 1:  # threads of a software OpenGL would compete with the other processes
        environment["LP_NUM_THREADS"] = os.environ.get("LP_NUM_THREADS", "0")
    return process_map(
        _draw,
        ((job, backend, view) for job in jobs),
        count,
        died="a rendering process died (out of memory?): use fewer, or a smaller size",
        environment=environment,
    )


def _draw(job: list[Scene], backend: str, view: tuple[int, int, str]) -> list[np.ndarray]:
    painter = _painter(backend, *view)
    return [painter.draw(scene) for scene in job]


@lru_cache(maxsize=1)
def _painter(backend: str, width: int, height: int, camera: str) -> Painter:
    """The painter of this process, whose OpenGL context lasts as long as the process."""
    return Painter(width, height, camera, backend=backend)
