"""Videos of an agent before and after it adapted, side by side, drawn by several processes."""

import multiprocessing
import os
import signal
import subprocess
import tempfile
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from functools import lru_cache
from itertools import chain
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import imageio_ffmpeg
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from metarl.envs.drawing import DEFAULT_CAMERA, Painter, check_view, find_backend, inherited
from metarl.envs.scene import Scene
from metarl.errors import UserError
from metarl.machine import worker_count

HOLD = 0.7
"""Seconds for which the last picture of a row stands still."""

_CHUNK = 8  # frames a job: long enough to hide the pipe, short enough that all processes end together
_BACKGROUND, _TEXT, _FAINT, _SUCCESS = (21, 24, 31), (238, 240, 244), (158, 165, 178), (64, 205, 112)


@dataclass(frozen=True)
class Clip:
    """The shown frames of one episode.

    Attributes:
        title: what the viewer sees, such as "episode 1: no experience yet".
        scenes: one scene a frame.
        steps: the control step of each frame.
        rewards: the reward of that step.
        successes: whether success has happened at any step up to that one.
    """

    title: str
    scenes: list[Scene]
    steps: list[int]
    rewards: list[float]
    successes: list[bool]

    def __post_init__(self) -> None:
        lengths = {len(self.scenes), len(self.steps), len(self.rewards), len(self.successes)}
        if len(lengths) != 1 or 0 in lengths:
            raise ValueError("a clip has at least one frame, and a step, a reward and a success for each")


def write_video(
    path: str | Path,
    rows: Sequence[tuple[Clip, Clip]],
    *,
    width: int = 320,
    height: int = 240,
    camera: str = DEFAULT_CAMERA,
    fps: int = 20,
    titles: Sequence[str] = (),
    progress: Callable[[int, int], None] | None = None,
    processes: int | None = None,
) -> None:
    """Write an mp4 (H.264, yuv420p) that shows each row in turn: its two clips side by side, before | after.

    The shorter clip of a row waits at its end for the other one. The file appears when it is complete; an interrupt
    leaves neither a file nor a process behind.

    Args:
        path: where to; its folder is made.
        rows: pairs of clips, one pair a goal.
        width: of one clip's pictures, pixels.
        height: of one clip's pictures, pixels.
        camera: one of `metarl.envs.drawing.CAMERAS`.
        fps: frames a second; every fourth control step at 20 is real time.
        titles: what stands above each row, such as the task's name.
        progress: called with the number of pictures drawn and that of all pictures.
        processes: that draw at once; by default one for each core that this process may use. The frames do not depend
            on it.

    Raises:
        UserError: nothing to show, an unknown camera, a size out of range, no OpenGL, or no place to write to.
    """
    path = Path(path)
    if not rows:
        raise UserError("there is nothing to show: a video needs at least one goal")
    check_view(width, height, camera)
    layout = _Layout(width, height)
    jobs = [
        clip.scenes[start : start + _CHUNK]
        for row in rows
        for start in range(0, max(len(clip.scenes) for clip in row), _CHUNK)
        for clip in row
    ]
    count = min(processes or worker_count(), len(jobs))
    with _whole_file(path) as partial, closing(_draw_all(jobs, count, (width, height, camera))) as pictures:
        film = imageio_ffmpeg.write_frames(
            str(partial),
            layout.size,
            fps=fps,
            quality=None,
            macro_block_size=2,
            ffmpeg_log_level="error",
            output_params=["-crf", "20", "-preset", "medium", "-movflags", "+faststart"],
        )
        frames = _frames(rows, titles, layout, fps, _report(pictures, jobs, progress))
        first = next(frames)
        with closing(film):
            with _interrupts_blocked():  # an interrupt is lost in the hooks that Python runs around a fork
                film.send(None)
            for frame in chain([first], frames):
                try:
                    film.send(frame)
                except OSError as error:
                    raise UserError(f"cannot write {path}: ffmpeg stopped (is the disk full?)") from error


def write_gif(
    mp4_path: str | Path,
    gif_path: str | Path,
    *,
    width: int = 480,
    fps: int = 10,
    seconds: float | None = None,
    limit: int = 2_000_000,
) -> None:
    """Turn a video into a small GIF that loops, for pages that show no videos.

    Args:
        mp4_path: the video.
        gif_path: where to.
        width: pixels; the height follows.
        fps: frames a second.
        seconds: of the video's beginning; None: all of it.
        limit: largest size in bytes; fewer colours are used to keep to it.

    Raises:
        UserError: the video cannot be read, or the GIF is larger than `limit` with the fewest colours.
    """
    source, path = Path(mp4_path), Path(gif_path)
    duration = [] if seconds is None else ["-t", str(seconds)]
    with _whole_file(path) as partial:
        for colours in (128, 64, 32):
            filters = (
                f"fps={fps},scale={width}:-1:flags=lanczos,split[a][b];[a]palettegen=max_colors={colours}[palette];"
                "[b][palette]paletteuse=dither=bayer:bayer_scale=5:diff_mode=rectangle"
            )
            command = [imageio_ffmpeg.get_ffmpeg_exe(), "-v", "error", "-y", *duration, "-i", str(source)]
            command += ["-vf", filters, "-loop", "0", str(partial)]
            done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
            if done.returncode != 0:
                lines = done.stderr.strip().splitlines() or ["ffmpeg failed"]
                raise UserError(f"cannot make a GIF of {source}: {lines[-1]}")
            if partial.stat().st_size <= limit:
                return
        raise UserError(f"the GIF of {source} would exceed {limit:,} bytes: make it shorter or narrower")


@contextmanager
def _whole_file(path: Path) -> Iterator[Path]:
    """A temporary path beside `path` that takes its place at the end, or vanishes when an exception is raised."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.stem}.", suffix=path.suffix or ".mp4")
    except OSError as error:
        raise UserError(f"cannot write {path}: {error.strerror}") from error
    os.close(handle)
    partial = Path(name)
    try:
        yield partial
        partial.chmod(0o644)
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def _report(
    chunks: Iterator[list[np.ndarray]], jobs: list[list[Scene]], progress: Callable[[int, int], None] | None
) -> Iterator[list[np.ndarray]]:
    done, total = 0, sum(map(len, jobs))
    for chunk in chunks:
        done += len(chunk)
        if progress is not None:
            progress(done, total)
        yield chunk


# --- The page: a title, two pictures, and a caption under each


class _Layout:
    """Where things stand on a frame, in pixels; everything scales with the pictures' height."""

    def __init__(self, width: int, height: int) -> None:
        self.width, self.height = width, height
        unit = max(0.7, height / 240, width / 400)
        self.margin, self.gap = round(10 * unit), round(4 * unit)
        self.top, self.bottom = round(30 * unit), round(50 * unit)
        self.small, self.large, self.line = round(12 * unit), round(14 * unit), max(1, round(3 * unit))
        self.size = (_even(2 * width + self.gap), _even(self.top + height + self.bottom))


def _even(n: int) -> int:
    return n + n % 2  # yuv420p keeps one colour for 2 x 2 pixels


@lru_cache(maxsize=8)
def _font(size: int) -> Any:
    return ImageFont.load_default(size)


def _frames(
    rows: Sequence[tuple[Clip, Clip]],
    titles: Sequence[str],
    layout: _Layout,
    fps: int,
    chunks: Iterator[list[np.ndarray]],
) -> Iterator[np.ndarray]:
    """All frames of the video in order, uint8 (height, width, 3), taking one chunk of each clip in turn."""
    for number, row in enumerate(rows):
        page = Image.new("RGB", layout.size, _BACKGROUND)
        title = titles[number] if number < len(titles) else ""
        _write_title(page, layout, title, f"goal {number + 1} of {len(rows)}")
        longest = max(len(clip.scenes) for clip in row)
        for start in range(0, longest, _CHUNK):
            sides = [next(chunks), next(chunks)]
            for k in range(start, min(start + _CHUNK, longest)):
                for side, clip in enumerate(row):
                    if k < len(clip.scenes):
                        _show(page, layout, side, clip, k, sides[side][k - start])
                frame = np.array(page)
                yield frame
        for _ in range(round(HOLD * fps)):
            yield frame


def _write_title(page: Any, layout: _Layout, left: str, right: str) -> None:
    draw, middle = ImageDraw.Draw(page), layout.top // 2
    if left:
        room = page.width - 3 * layout.margin - draw.textlength(right, _font(layout.small))
        _write(draw, (layout.margin, middle), left, layout.large, room)
        draw.text((page.width - layout.margin, middle), right, _FAINT, _font(layout.small), anchor="rm")
    else:
        draw.text((layout.margin, middle), right, _TEXT, _font(layout.large), anchor="lm")


def _write(draw: Any, left_middle: tuple[int, int], text: str, size: int, room: float) -> None:
    """Write one line, cut with an ellipsis where it is longer than `room` pixels."""
    font, shown = _font(size), text
    while len(text) > 1 and draw.textlength(shown, font) > room:
        text = text[:-1]
        shown = text.rstrip() + "…"
    draw.text(left_middle, shown, _TEXT, font, anchor="lm")


def _show(page: Any, layout: _Layout, side: int, clip: Clip, k: int, picture: np.ndarray) -> None:
    """Put frame k of a clip and its caption on its side of the page."""
    draw = ImageDraw.Draw(page)
    left = side * (layout.width + layout.gap)
    right, under = left + layout.width, layout.top + layout.height
    page.paste(Image.fromarray(picture), (left, layout.top))
    draw.rectangle((left, under, right - 1, page.height), _BACKGROUND)
    upper, lower = under + round(0.32 * layout.bottom), under + round(0.72 * layout.bottom)
    _write(draw, (left + layout.margin, upper), clip.title, layout.large, layout.width - 2 * layout.margin)
    # Columns of fixed width, so that the numbers do not dance.
    for column, (word, value) in enumerate([("step", f"{clip.steps[k]}"), ("reward", f"{clip.rewards[k]:.2f}")]):
        x = left + layout.margin + column * round(5.6 * layout.small)
        draw.text((x, lower), word, _FAINT, _font(layout.small), anchor="lm")
        x += round(draw.textlength(word + " ", _font(layout.small)))
        draw.text((x, lower), value, _TEXT, _font(layout.small), anchor="lm")
    if clip.successes[k]:
        frame = (left, layout.top, right - 1, under - 1)
        draw.rectangle(frame, outline=_SUCCESS, width=layout.line)
        x = right - layout.margin
        draw.text((x, lower), "success", _SUCCESS, _font(layout.large), anchor="rm")
        x -= round(draw.textlength("success", _font(layout.large))) + round(1.1 * layout.large)
        tick = [(0.0, 0.05), (0.28, 0.35), (0.8, -0.35)]  # the default font has no tick
        points = [(x + dx * layout.large, lower + dy * layout.large) for dx, dy in tick]
        draw.line(points, _SUCCESS, layout.line, joint="curve")


# --- Processes that draw


def _draw_all(jobs: list[list[Scene]], count: int, settings: tuple[int, int, str]) -> Generator[list[np.ndarray], None, None]:
    """Pictures of all jobs, in their order: job i is drawn by process i % count, which has one job at a time.

    Processes of our own and not a pool: a pool waits for ever for a process that was killed for its memory.
    """
    backend = find_backend()
    spawn = multiprocessing.get_context("spawn")
    workers: list[tuple[Any, Connection]] = []
    resource_tracker.ensure_running()  # else the first process starts it, which lets interrupts through again
    try:
        # Threads of a software OpenGL would only compete with the other processes.
        with inherited(backend), _interrupts_blocked(), _variable("LP_NUM_THREADS", "0" if count > 1 else None):
            for _ in range(count):
                ours, theirs = spawn.Pipe()
                process = spawn.Process(target=_worker, args=(theirs, backend, settings), daemon=True)
                workers.append((process, ours))
                process.start()
                theirs.close()
        for job, (_, connection) in zip(jobs, workers):
            connection.send(job)
        for i in range(len(jobs)):
            connection = workers[i % count][1]
            answer = connection.recv()
            if i + count < len(jobs):
                connection.send(jobs[i + count])
            if isinstance(answer, Exception):
                raise answer
            yield answer
    except (EOFError, BrokenPipeError, ConnectionResetError) as error:
        raise UserError("a process that draws has died (out of memory?): use fewer, or a smaller size") from error
    finally:
        for process, connection in workers:
            connection.close()
            if process.pid is not None:
                process.terminate()
                process.join()


def _worker(connection: Connection, backend: str, settings: tuple[int, int, str]) -> None:
    """Draw jobs until the other end of the pipe closes, which it also does when the parent dies."""
    try:
        width, height, camera = settings
        with Painter(width, height, camera, backend=backend) as painter:
            while True:
                job = connection.recv()
                connection.send([painter.draw(scene) for scene in job])
    except (EOFError, BrokenPipeError, ConnectionResetError):
        pass
    except Exception as error:
        connection.send(error)


@contextmanager
def _interrupts_blocked() -> Iterator[None]:
    """Processes started within never see Ctrl-C, from their first instruction on: their parent ends them."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@contextmanager
def _variable(name: str, value: str | None) -> Iterator[None]:
    """An environment variable for processes started within; one that is set stays, and None sets nothing."""
    if value is None or name in os.environ:
        yield
        return
    os.environ[name] = value
    try:
        yield
    finally:
        del os.environ[name]
