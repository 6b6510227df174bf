"""Videos: what is in them, that they do not depend on the number of processes, and that they are whole or not there."""

import itertools
import multiprocessing
import os
import signal
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import imageio_ffmpeg
import numpy as np
import pytest
from builders.scenes import need_backend, play, upstream_env
from PIL import Image

from metarl.envs.rendering.painter import Painter
from metarl.errors import UserError
from metarl.rendering import video
from metarl.rendering.overlay import MEMORY, REWARD, SUCCESS, Clip, Goal, Layout, Overlay, _recent
from metarl.rendering.video import write_video

WIDTH, HEIGHT = 128, 96
FPS = 10
HELD = 7


@pytest.fixture(scope="module", autouse=True)
def short_jobs() -> Iterator[None]:
    """Three frames a job, so that few frames are several jobs."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(video, "_CHUNK", 3)
        yield


@pytest.fixture(scope="module")
def goals() -> list[Goal]:
    """Two goals of different models; the first with clips of different lengths, longer than a job."""
    need_backend()
    reach, drawer = upstream_env("reach-v3"), upstream_env("drawer-open-v3")
    scenes, steps, rewards, _ = play(reach, 20)
    success = np.arange(20) >= 15
    after = Clip("episode 2", "after 1 episode", scenes[3::4], steps[3::4], np.array(rewards), success)
    before = replace(after, title="episode 1", note="no experience yet", scenes=after.scenes[:2], steps=after.steps[:2])
    scenes, steps, rewards, _ = play(drawer, 1)
    other = Clip(
        "a title that is far too long for the width of this picture", "", scenes, steps, np.array(rewards), success[:1]
    )
    return [Goal("reach", (before, after), "1 of 2"), Goal("drawer", (other, other), "2 of 2")]


@pytest.fixture(scope="module")
def file(goals: list[Goal], tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("video") / "new folder" / "video.mp4"
    write_video(path, goals, width=WIDTH, height=HEIGHT, fps=FPS, processes=2)
    return path


def frames(path: Path) -> np.ndarray:
    """All frames, uint8 (frame, height, width, 3)."""
    reader = imageio_ffmpeg.read_frames(str(path))
    width, height = next(reader)["size"]
    return np.stack([np.frombuffer(data, np.uint8).reshape(height, width, 3) for data in reader])


def part(page: np.ndarray, layout: Layout, goal: int, clip: int) -> np.ndarray:
    """One picture of a page."""
    x, y = layout.corner(goal, clip)
    return page[y : y + layout.height, x : x + layout.width].astype(int)


def test_a_video_decodes_to_what_was_drawn(goals: list[Goal], file: Path) -> None:
    film = frames(file)
    layout = Layout(WIDTH, HEIGHT, 1, 2)
    assert film.shape == (5 + HELD + 1 + HELD, layout.size[1], layout.size[0], 3)
    (before, after), (other, _) = goals[0].clips, goals[1].clips
    expected = {(0, 0): (before, 0), (4, 0): (before, 1), (3, 1): (after, 3), (12, 1): (other, 0)}
    overlay = Overlay(WIDTH, HEIGHT, [before, after, other])
    with Painter(WIDTH, HEIGHT) as painter:
        for (k, side), (clip, frame) in expected.items():
            picture = Image.fromarray(painter.draw(clip.scenes[frame]))
            overlay.draw(picture, clip, frame)
            assert np.abs(part(film[k], layout, 0, side) - np.asarray(picture)).mean() < 9, (k, side)
    assert np.abs(film[11].astype(int) - film[4]).mean() < 2  # the last frame of a page is held
    assert np.abs(film[12].astype(int) - film[11]).mean() > 4  # and the next page is another one


def test_a_video_can_be_played_by_a_browser(file: Path) -> None:
    meta = next(imageio_ffmpeg.read_frames(str(file)))
    assert meta["codec"] == "h264"
    assert meta["pix_fmt"].startswith("yuv420p")
    assert meta["fps"] == FPS
    content = file.read_bytes()
    assert content.index(b"moov") < content.index(b"mdat")  # its index comes first, so that it starts at once
    assert file.stat().st_mode & 0o777 == 0o644
    assert list(file.parent.iterdir()) == [file]


def test_frames_do_not_depend_on_the_number_of_processes(goals: list[Goal], file: Path, tmp_path: Path) -> None:
    calls: list[tuple[int, int]] = []
    path = tmp_path / "one.mp4"
    write_video(
        path, goals, width=WIDTH, height=HEIGHT, fps=FPS, processes=1, progress=lambda done, total: calls.append((done, total))
    )
    assert np.array_equal(frames(path), frames(file))
    assert calls[-1] == (9, 9)
    assert all(a[0] <= b[0] for a, b in itertools.pairwise(calls))


def test_a_grid_shows_all_goals_at_once_in_pictures_alone(goals: list[Goal], tmp_path: Path) -> None:
    """Without anything written over it, in a GIF, whose colours are few: frames of goals of different models."""
    path = tmp_path / "grid.gif"
    width, height = 65, 49  # odd
    write_video(path, goals, grid=True, width=width, height=height, fps=FPS, overlay=False, processes=1)
    layout = Layout(width, height, 2, 2, overlay=False)
    with Image.open(path) as film:
        assert film.size == layout.size
        assert getattr(film, "n_frames", 1) == 5 + HELD
        assert film.info["loop"] == 0  # for ever
        assert film.info["duration"] == 1000 / FPS
        film.seek(3)
        page = np.asarray(film.convert("RGB"))
    shown = [(0, 0, goals[0].clips[0].scenes[1]), (0, 1, goals[0].clips[1].scenes[3]), (1, 0, goals[1].clips[0].scenes[0])]
    with Painter(width, height) as painter:
        for goal, clip, scene in shown:
            assert np.abs(part(page, layout, goal, clip) - painter.draw(scene)).mean() < 12, (goal, clip)
    assert list(tmp_path.iterdir()) == [path]


def interrupt(done: int, total: int) -> None:
    raise KeyboardInterrupt


def kill_children(done: int, total: int) -> None:
    for child in multiprocessing.active_children():
        os.kill(int(child.pid or 0), signal.SIGKILL)


@pytest.mark.parametrize(
    ("name", "trouble", "error"),
    [("video.gif", interrupt, KeyboardInterrupt), ("video.mp4", kill_children, UserError)],
)
def test_trouble_leaves_no_file_and_no_process(goals: list[Goal], tmp_path: Path, name, trouble, error) -> None:  # type: ignore[no-untyped-def]
    before = dict(os.environ)
    path = tmp_path / name
    path.write_bytes(b"an older video")
    with pytest.raises(error):
        write_video(path, goals, width=32, height=32, overlay=False, progress=trouble, processes=1)
    assert list(tmp_path.iterdir()) == [path]
    assert path.read_bytes() == b"an older video"
    assert not multiprocessing.active_children()
    assert dict(os.environ) == before
    assert signal.SIGINT not in signal.pthread_sigmask(signal.SIG_BLOCK, ())


def test_wrong_input(goals: list[Goal], tmp_path: Path) -> None:
    with pytest.raises(UserError, match="nothing to show"):
        write_video(tmp_path / "video.mp4", [])
    with pytest.raises(UserError, match=r"unknown camera 'nowhere'. There are: side, .*corner4"):
        write_video(tmp_path / "video.mp4", goals, camera="nowhere")
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot write"):
        write_video(tmp_path / "file" / "video.mp4", goals)
    clip = goals[0].clips[0]
    for wrong in ({"steps": clip.steps[:1]}, {"scenes": [], "steps": []}, {"rewards": clip.rewards[:9]}, {"steps": [4, 21]}):
        with pytest.raises(ValueError, match="a clip has"):
            replace(clip, **wrong)  # type: ignore[arg-type]
    with pytest.raises(UserError, match="pixels"):
        write_video(tmp_path / "video.mp4", goals, width=1)
    with pytest.raises(UserError, match="too small for the overlay"):
        write_video(tmp_path / "video.mp4", goals, width=100)
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


# --- What is written over a picture


def clip(rewards: list[float], successes: list[bool] | None = None, changes: list[float] | None = None) -> Clip:
    """An episode of which every step is shown, whatever is seen in it."""
    found = np.array(successes or [False] * len(rewards))
    scenes = [None] * len(rewards)
    return Clip(
        "episode 2",
        "after 1 episode",
        scenes,
        [*range(1, len(rewards) + 1)],
        np.array(rewards),
        found,
        None if changes is None else np.array(changes),
    )


def written(overlay: Overlay, of: Clip, frame: int) -> np.ndarray:
    """A white picture with what is written over it."""
    picture = Image.new("RGB", (overlay.width, overlay.height), "white")
    overlay.draw(picture, of, frame)
    return np.asarray(picture).astype(int)


def near(picture: np.ndarray, colour: tuple[int, int, int]) -> np.ndarray:
    """Where a picture has just about this colour."""
    return np.abs(picture - np.array(colour)).max(-1) < 25


@pytest.mark.parametrize("size", [(128, 96), (320, 240), (640, 200), (333, 777)])
def test_only_the_bands_are_written_on_and_the_border_at_success(size: tuple[int, int]) -> None:
    of = clip([1.0] * 10, [False] * 5 + [True] * 5, [0.5] * 10)
    overlay = Overlay(*size, [of])
    assert overlay.top + overlay.bottom < 0.7 * size[1]
    middle = slice(overlay.top, -overlay.bottom)
    assert (written(overlay, of, 4)[middle] == 255).all()
    after, border = written(overlay, of, 5), overlay.border
    assert (after[middle, border:-border] == 255).all()
    assert (after[middle, :border] == SUCCESS).all()
    assert (after[middle, -border:] == SUCCESS).all()


def test_the_curve_of_rewards_grows_with_the_episode_on_a_scale_that_all_share() -> None:
    low, high = clip([2.0] * 100), clip([8.0] * 100)
    overlay = Overlay(320, 240, [low, high])
    start, room = overlay.curve, overlay.room

    def line(of: Clip, frame: int) -> tuple[np.ndarray, np.ndarray]:
        return np.nonzero(near(written(overlay, of, frame), REWARD))

    rows, columns = line(high, 49)
    assert abs(columns.min() - start) <= 1
    assert abs(columns.max() - (start + room / 2)) <= 2  # half of the episode, half of the way
    top = rows.min()
    rows, columns = line(high, 99)
    assert abs(columns.max() - (start + room)) <= 2
    # 2 of 8: a quarter of the height, which is the line's less 4 pixels
    assert abs(np.median(line(low, 99)[0]) - (top + 0.75 * (overlay.line - 5))) <= 1.5


def test_negative_rewards_hang_below_zero() -> None:
    """From the height of zero, which is the top where no reward is positive."""
    of = clip([-4.0] * 50 + [0.0] * 50)
    overlay = Overlay(320, 240, [of])
    rows, columns = np.nonzero(near(written(overlay, of, 99), REWARD))
    share = (columns - overlay.curve) / overlay.room
    assert rows[share < 0.45].min() > rows[share > 0.55].max()


def test_success_is_shown_at_the_steps_where_it_held() -> None:
    of = clip([1.0] * 100, [25 <= t < 50 for t in range(100)])
    overlay = Overlay(320, 240, [of])
    start, room = overlay.curve, overlay.room
    assert not near(written(overlay, of, 24), SUCCESS).any()
    inside = near(written(overlay, of, 99), SUCCESS)[-overlay.bottom : -overlay.border, overlay.border : -overlay.border]
    columns = np.nonzero(inside)[1] + overlay.border
    assert abs(columns.min() - (start + room / 4)) <= 1
    assert abs(columns.max() - (start + room / 2)) <= 2


def test_memory_is_shown_of_agents_that_have_one() -> None:
    """As the mean over the last ten known steps."""
    still, moving = clip([1.0] * 20), clip([1.0] * 20, changes=[np.nan] + [2.0] * 10 + [0.0] * 9)
    with_memory, without = Overlay(320, 240, [moving, still]), Overlay(320, 240, [still])
    assert with_memory.bottom == without.bottom + without.line
    assert near(written(with_memory, moving, 10), MEMORY).any()
    assert not near(written(with_memory, still, 10), MEMORY).any()
    assert moving.changes is not None
    assert _recent(moving.changes).tolist() == pytest.approx([0.0] + [2.0] * 10 + [2 - 0.2 * i for i in range(1, 10)])


@pytest.mark.parametrize(
    ("goals", "clips", "columns"),
    [(1, 2, 1), (4, 2, 2), (5, 2, 2), (6, 2, 2), (9, 2, 3), (4, 1, 2), (9, 1, 3), (4, 3, 1)],
)
def test_a_grid_comes_close_to_the_shape_of_a_screen(goals: int, clips: int, columns: int) -> None:
    layout = Layout(160, 120, goals, clips, overlay=False)
    assert layout.columns == columns


@pytest.mark.parametrize("overlay", [True, False])
@pytest.mark.parametrize(("goals", "clips"), [(1, 1), (5, 2), (7, 3), (12, 1)])
def test_pictures_lie_on_the_page_and_not_on_each_other(goals: int, clips: int, overlay: bool) -> None:
    layout = Layout(131, 97, goals, clips, overlay)
    page = np.zeros(layout.size[::-1], int)
    assert layout.size[0] % 2 == layout.size[1] % 2 == 0
    for goal, of_goal in itertools.product(range(goals), range(clips)):
        x, y = layout.corner(goal, of_goal)
        assert x >= 0
        assert y >= layout.strip
        page[y : y + 97, x : x + 131] += 1
    assert page.max() == 1
    assert page.sum() == goals * clips * 131 * 97


def test_a_page_that_is_too_large_is_refused() -> None:
    with pytest.raises(UserError, match="choose fewer goals or a smaller size"):
        Layout(1280, 960, 9, 2)
