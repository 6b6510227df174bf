"""Videos: what is in them, that they do not depend on the number of processes, and that they are whole or not there."""

import itertools
import multiprocessing
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import imageio_ffmpeg
import numpy as np
import pytest
from PIL import Image
from scenes import need_backend, play, stock

from metarl import video
from metarl.envs.drawing import Painter
from metarl.errors import UserError
from metarl.video import Clip, write_gif, write_video

WIDTH, HEIGHT = 96, 72
FPS = 10
HELD = 7

Rows = list[tuple[Clip, Clip]]


@pytest.fixture(scope="module", autouse=True)
def short_jobs() -> Iterator[None]:
    """Three frames a job, so that few frames are several jobs."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(video, "_CHUNK", 3)
        yield


@pytest.fixture(scope="module")
def rows() -> Rows:
    """Two rows of different models; the first with clips of different lengths, longer than a job."""
    need_backend()
    reach, drawer = stock("reach-v3"), stock("drawer-open-v3")
    scenes, steps, rewards, successes = play(reach, 20, every=4)
    after = Clip("after", scenes, steps, rewards, [False, False, False, True, True])
    before = Clip("before", scenes[:2], steps[:2], rewards[:2], successes[:2])
    other = Clip("a title that is far too long for the width of this picture", *play(drawer, 1))
    return [(before, after), (other, other)]


@pytest.fixture(scope="module")
def file(rows: Rows, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("video") / "new folder" / "video.mp4"
    write_video(path, rows, width=WIDTH, height=HEIGHT, fps=FPS, titles=["reach", "drawer"], processes=2)
    return path


def frames(path: Path) -> np.ndarray:
    """All frames, uint8 (frame, height, width, 3)."""
    reader = imageio_ffmpeg.read_frames(str(path))
    width, height = next(reader)["size"]
    return np.stack([np.frombuffer(data, np.uint8).reshape(height, width, 3) for data in reader])


def test_a_video_decodes_to_what_was_drawn(rows: Rows, file: Path) -> None:
    film = frames(file)
    layout = video._Layout(WIDTH, HEIGHT)
    assert film.shape == (5 + HELD + 1 + HELD, layout.size[1], layout.size[0], 3)
    assert layout.size[0] % 2 == layout.size[1] % 2 == 0
    below = slice(layout.top, layout.top + HEIGHT)
    left, right = slice(0, WIDTH), slice(WIDTH + layout.gap, 2 * WIDTH + layout.gap)
    (before, after), (other, _) = rows
    expected = {(0, 0): before.scenes[0], (4, 0): before.scenes[1], (3, 1): after.scenes[3], (12, 1): other.scenes[0]}
    with Painter(WIDTH, HEIGHT) as painter:
        for (k, side), scene in expected.items():
            shown = film[k, below, right if side else left].astype(int)
            assert np.abs(shown - painter.draw(scene)).mean() < 9, (k, side)
    assert np.abs(film[11].astype(int) - film[4]).mean() < 2  # the last frame of a row is held
    assert np.abs(film[12].astype(int) - film[11]).mean() > 4  # and the next row is another one


def test_a_video_can_be_played_by_a_browser(file: Path) -> None:
    meta = next(imageio_ffmpeg.read_frames(str(file)))
    assert meta["codec"] == "h264"
    assert meta["pix_fmt"].startswith("yuv420p")
    assert meta["fps"] == FPS
    content = file.read_bytes()
    assert content.index(b"moov") < content.index(b"mdat")  # its index comes first, so that it starts at once
    assert file.stat().st_mode & 0o777 == 0o644
    assert list(file.parent.iterdir()) == [file]


def test_frames_do_not_depend_on_the_number_of_processes(rows: Rows, file: Path, tmp_path: Path) -> None:
    calls: list[tuple[int, int]] = []
    path = tmp_path / "one.mp4"
    titles = ["reach", "drawer"]
    write_video(
        path,
        rows,
        width=WIDTH,
        height=HEIGHT,
        fps=FPS,
        titles=titles,
        processes=1,
        progress=lambda done, total: calls.append((done, total)),
    )
    assert np.array_equal(frames(path), frames(file))
    assert calls[-1] == (9, 9)
    assert all(a[0] <= b[0] for a, b in itertools.pairwise(calls))


def interrupt(done: int, total: int) -> None:
    raise KeyboardInterrupt


def kill_children(done: int, total: int) -> None:
    for child in multiprocessing.active_children():
        os.kill(int(child.pid or 0), signal.SIGKILL)


@pytest.mark.parametrize(("trouble", "error"), [(interrupt, KeyboardInterrupt), (kill_children, UserError)])
def test_trouble_leaves_no_file_and_no_process(rows: Rows, tmp_path: Path, trouble, error) -> None:  # type: ignore[no-untyped-def]
    before = dict(os.environ)
    path = tmp_path / "video.mp4"
    path.write_bytes(b"an older video")
    with pytest.raises(error):
        write_video(path, rows, width=32, height=32, progress=trouble, processes=1)
    assert list(tmp_path.iterdir()) == [path]
    assert path.read_bytes() == b"an older video"
    assert not multiprocessing.active_children()
    assert dict(os.environ) == before
    assert signal.SIGINT not in signal.pthread_sigmask(signal.SIG_BLOCK, ())


def test_success_is_shown_once_it_was_reached(rows: Rows) -> None:
    layout = video._Layout(320, 240)
    clip = rows[0][1]
    black = np.zeros((240, 320, 3), np.uint8)

    def greens(k: int) -> int:
        page = Image.new("RGB", layout.size)
        video._show(page, layout, 0, clip, k, black)
        return int((np.asarray(page) == video._SUCCESS).all(axis=2).sum())

    assert greens(2) == 0
    assert greens(3) > 500


def test_wrong_input(rows: Rows, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="nothing to show"):
        write_video(tmp_path / "video.mp4", [])
    with pytest.raises(UserError, match="unknown camera"):
        write_video(tmp_path / "video.mp4", rows, camera="nowhere")
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot write"):
        write_video(tmp_path / "file" / "video.mp4", rows)
    clip = rows[0][0]
    with pytest.raises(ValueError, match="at least one frame"):
        Clip("", clip.scenes, clip.steps, clip.rewards, [])
    with pytest.raises(UserError, match="pixels"):
        write_video(tmp_path / "video.mp4", rows, width=1)
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_gif(file: Path, tmp_path: Path) -> None:
    path = tmp_path / "video.gif"
    write_gif(file, path, width=120, fps=5, seconds=1.0)
    with Image.open(path) as image:
        assert getattr(image, "n_frames", 1) == 5
        assert image.width == 120
        assert image.info["loop"] == 0  # for ever
    with pytest.raises(UserError, match="exceed 100 bytes"):
        write_gif(file, tmp_path / "large.gif", limit=100)
    with pytest.raises(UserError, match="cannot make a GIF"):
        write_gif(tmp_path / "missing.mp4", tmp_path / "none.gif")
    assert [path.name for path in tmp_path.iterdir()] == ["video.gif"]
