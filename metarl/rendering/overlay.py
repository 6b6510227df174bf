"""Lay out the pictures on a page of a video, and write titles, figures and curves over them."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import matplotlib
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from metarl.errors import UserError

SMALLEST = (128, 96)
"""Width and height of the smallest picture that an overlay fits on, pixels."""
LARGEST = 4096
"""Largest width and height of a page, pixels; many players do not support more."""

BACKGROUND, TEXT, FAINT = (21, 24, 31), (240, 242, 246), (178, 185, 198)
SUCCESS, REWARD, MEMORY = (72, 214, 122), (120, 178, 255), (255, 186, 92)

_SHADE = 0.68  # opacity of the dark bands behind text
_FILL = 90  # of 255: opacity of the area under a curve
_WINDOW = 10  # steps over which changes of memory are averaged, as noisy actions make them noisy
_FINE = 4  # curves are drawn this many times larger, then shrunk: Pillow does not antialias lines
_SUCCESS = "✔ success"
_ASPECT = 16 / 9  # target shape of a grid of goals


@dataclass(frozen=True)
class Clip:
    """One episode and the scenes of it to show.

    Attributes:
        title: such as "episode 10".
        note: previous experience, such as "after 9 episodes".
        scenes: one per frame; for environments that render themselves the picture, uint8 (height, width, 3).
        steps: number of steps taken by each frame, from 1.
        rewards: (steps of the episode,) reward of each step.
        successes: (steps of the episode,) bool, success at each step.
        changes: (steps of the episode,) how far each step moved the agent's memory, NaN if unknown; None: the agent has no
            memory from step to step.
    """

    title: str
    note: str
    scenes: list[Any]
    steps: list[int]
    rewards: np.ndarray
    successes: np.ndarray
    changes: np.ndarray | None = None

    def __post_init__(self) -> None:
        if not self.scenes or len(self.scenes) != len(self.steps):
            raise ValueError("a clip has at least one frame, and a step for each")
        figures = {len(self.rewards), len(self.successes), *([] if self.changes is None else [len(self.changes)])}
        if len(figures) != 1 or not 1 <= min(self.steps) <= max(self.steps) <= figures.pop():
            raise ValueError("a clip has as many rewards, successes and changes as its episode has steps")


@dataclass(frozen=True)
class Goal:
    """A goal and its clips, shown side by side. Attributes: title: text above them at the left; note: at the right."""

    title: str
    clips: tuple[Clip, ...]
    note: str = ""


class Layout:
    """The layout of a page, in pixels: a grid of goals, each with a title strip above a row of pictures.

    Args:
        width, height: size of one picture.
        goals: goals per page.
        clips: pictures per goal.
        overlay: whether goals have titles.

    Attributes:
        size: width and height of the page, both even: yuv420p stores one colour per 2 x 2 pixels.
        columns: goals per row.

    Raises:
        UserError: the page would be too large, or the pictures are too small for an overlay.
    """

    def __init__(self, width: int, height: int, goals: int, clips: int, overlay: bool = True) -> None:
        if overlay and (width < SMALLEST[0] or height < SMALLEST[1]):
            smallest = " x ".join(map(str, SMALLEST))
            raise UserError(
                f"pictures of {width} x {height} are too small for the overlay: use at least {smallest}, or --no-overlay"
            )
        self.width, self.height = width, height
        self.font = font_size(width, height)
        self.strip = round(2.1 * self.font) if overlay else 0
        self.gap, self.between = max(2, round(height / 80)), max(4, round(height / 30))
        self.cell = clips * width + (clips - 1) * self.gap, self.strip + height
        self.columns = min(range(1, goals + 1), key=lambda columns: self._flaw(columns, goals))
        rows = -(-goals // self.columns)
        extent = (
            self.columns * self.cell[0] + (self.columns - 1) * self.between,
            rows * self.cell[1] + (rows - 1) * self.between,
        )
        self.size = extent[0] + extent[0] % 2, extent[1] + extent[1] % 2
        if max(self.size) > LARGEST:
            page = " x ".join(map(str, self.size))
            raise UserError(
                f"a page of {page} pixels is too large for a video ({LARGEST}): choose fewer goals or a smaller size"
            )

    def _flaw(self, columns: int, goals: int) -> float:
        """Penalty of a grid for differing from the shape of a screen, and for empty cells."""
        rows = -(-goals // columns)
        aspect = columns * self.cell[0] / (rows * self.cell[1])
        return abs(math.log(aspect / _ASPECT)) + 2 * math.log(rows * columns / goals)

    def corner(self, goal: int, clip: int) -> tuple[int, int]:
        """The upper left corner of a picture on the page."""
        row, column = divmod(goal, self.columns)
        left = column * (self.cell[0] + self.between) + clip * (self.width + self.gap)
        return left, row * (self.cell[1] + self.between) + self.strip

    def page(self, goals: Sequence[Goal]) -> Any:
        """An empty page with the goals' titles."""
        page = Image.new("RGB", self.size, BACKGROUND)
        draw, margin = ImageDraw.Draw(page), self.font // 2
        for i, goal in enumerate(goals if self.strip else ()):
            left, under = self.corner(i, 0)
            right, middle = left + self.cell[0] - margin, under - self.strip // 2
            draw.text((right, middle), goal.note, FAINT, _font(self.font), anchor="rm")
            room = self.cell[0] - 3 * margin - draw.textlength(goal.note, _font(self.font))
            _write(draw, (left + margin, middle), goal.title, TEXT, round(1.1 * self.font), room)
        return page


class _Row(NamedTuple):
    """A row of the overlay: a word, and per step the number next to it and the value of its curve."""

    word: str
    numbers: np.ndarray
    values: np.ndarray
    colour: tuple[int, int, int]

    @property
    def extremes(self) -> tuple[float, float]:
        """The lowest and highest number, which need the most room."""
        return float(self.numbers.min()), float(self.numbers.max())

    def text(self, number: float) -> str:
        """The number as text: without decimals if the row's numbers are large."""
        return f"{number:,.0f}" if max(map(abs, self.extremes)) >= 100 else f"{number:.2f}"


class Overlay:
    """Writes episode, step, success, return with a curve of rewards, and changes of the agent's memory over pictures.

    Curves run from the episode's first step at the left to its last at the right, with the same scales in all clips. A green
    line under the rewards marks steps with success. Changes of memory are means over the last 10 steps.

    Args:
        width, height: size of a picture, pixels.
        clips: all clips of the video.
    """

    def __init__(self, width: int, height: int, clips: Sequence[Clip]) -> None:
        self.width, self.height, self.font = width, height, font_size(width, height)
        self.margin, self.line, self.border = self.font // 2, round(1.4 * self.font), max(2, round(height / 80))
        self.length = max(len(clip.rewards) for clip in clips)
        rows = [self._figures(clip) for clip in clips]
        self.top = 2 * self.line + self.margin // 2
        self.bottom = max(map(len, rows)) * self.line + self.border + self.font // 3
        words = [f"{row.word} {row.text(value)}" for of_clip in rows for row in of_clip for value in row.extremes]
        self.curve = round(max(_font(self.font).getlength(word) for word in words)) + 2 * self.margin
        self.room = max(1, self.width - self.margin - self.curve)
        scales: dict[str, tuple[float, float]] = {}
        for row in (row for of_clip in rows for row in of_clip):
            low, high = scales.get(row.word, (0.0, 0.0))
            scales[row.word] = min(low, float(row.values.min())), max(high, float(row.values.max()))
        # Each curve is drawn once and revealed up to the current step.
        self.rows = {id(c): [(row, self._curve(row.values, scales[row.word])) for row in r] for c, r in zip(clips, rows)}
        shade = np.zeros((height, width))
        shade[: self.top] = shade[-self.bottom :] = _SHADE
        self.shade = Image.fromarray(np.round(255 * shade).astype(np.uint8))

    def draw(self, picture: Any, clip: Clip, frame: int) -> None:
        """Write over the picture of one frame of a clip."""
        step, size = clip.steps[frame], self.font
        picture.paste(BACKGROUND, (0, 0), self.shade)
        draw = ImageDraw.Draw(picture)
        first, second = self.margin // 2 + self.line // 2, self.margin // 2 + self.line * 3 // 2
        right = self.width - self.margin
        draw.text((right, first), f"step {step}", FAINT, _font(size), anchor="rm")
        room = right - self.margin - draw.textlength(f"step {self.length} ", _font(size))
        _write(draw, (self.margin, first), clip.title, TEXT, size, room)
        if clip.successes[:step].any():
            self._frame_success(draw, second)
        room = right - self.margin - draw.textlength(f"{_SUCCESS} ", _font(size))
        _write(draw, (self.margin, second), clip.note, FAINT, size, room)
        upper = self.height - self.bottom
        self._mark_successes(draw, upper + self.line - 1, clip.successes[:step])
        for row, curve in self.rows[id(clip)]:
            middle = upper + self.line // 2
            draw.text((self.margin, middle), row.word, FAINT, _font(size), anchor="lm")
            draw.text((self.curve - self.margin, middle), row.text(row.numbers[step - 1]), TEXT, _font(size), anchor="rm")
            so_far = curve.crop((0, 0, round(self.room * step / self.length), curve.height))
            picture.paste(row.colour, (self.curve, upper + 1), so_far)
            upper += self.line

    def _figures(self, clip: Clip) -> list["_Row"]:
        rows = [_Row("return", np.cumsum(clip.rewards), clip.rewards, REWARD)]
        if clip.changes is not None:
            recent = _recent(clip.changes)
            rows.append(_Row("memory", recent, recent, MEMORY))
        return rows

    def _curve(self, values: np.ndarray, scale: tuple[float, float]) -> Any:
        """A mask of the whole curve, with the area between it and zero filled."""
        width, height = self.room * _FINE, (self.line - 4) * _FINE
        mask = Image.new("L", (width, height))
        low, high = scale
        x = np.linspace(0, len(values) / self.length, len(values)) * (width - 1)
        half = _FINE // 2  # half the line's thickness, so that it is not cut off at the top and bottom
        *y, zero = half + (high - np.append(values, 0.0)) / max(high - low, 1e-12) * (height - 1 - 2 * half)
        draw = ImageDraw.Draw(mask)
        draw.polygon([(x[0], zero), *zip(x, y), (x[-1], zero)], _FILL)
        draw.line([*zip(x, y)], 255, _FINE + 1, joint="curve")
        return mask.resize((width // _FINE, height // _FINE), Image.Resampling.BOX)

    def _mark_successes(self, draw: Any, y: int, successes: np.ndarray) -> None:
        """Draw a line under the rewards of the steps with success."""
        edges = np.flatnonzero(np.diff(successes.astype(int), prepend=0, append=0)).reshape(-1, 2)
        for start, end in self.curve + edges / self.length * self.room:
            draw.line((round(start), y, max(round(start), round(end) - 1), y), SUCCESS, max(1, self.font // 6))

    def _frame_success(self, draw: Any, middle: int) -> None:
        draw.rectangle((0, 0, self.width - 1, self.height - 1), outline=SUCCESS, width=self.border)
        draw.text((self.width - self.margin, middle), _SUCCESS, SUCCESS, _font(self.font), anchor="rm")


def _recent(changes: np.ndarray) -> np.ndarray:
    """The mean of the known values among the last `_WINDOW` steps up to each step; 0 if none is known."""
    known = ~np.isnan(changes)
    window = np.ones(_WINDOW)
    total, count = (np.convolve(x, window)[: len(changes)] for x in (np.where(known, changes, 0.0), known))
    return total / np.maximum(count, 1)


def font_size(width: int, height: int) -> int:
    """Font size of the overlay, pixels: legible on small pictures, proportional on large ones."""
    return max(10, round(12 * min(height / 240, width / 300)))


@lru_cache(maxsize=8)
def _font(size: int) -> Any:
    return ImageFont.truetype(Path(matplotlib.get_data_path(), "fonts", "ttf", "DejaVuSans.ttf"), size)


def _write(draw: Any, left_middle: tuple[int, int], text: str, colour: Any, size: int, room: float) -> None:
    """Write one line, shortened with an ellipsis if it is longer than `room` pixels."""
    font, line = _font(size), text
    while len(text) > 1 and draw.textlength(line, font) > room:
        text = text[:-1]
        line = text.rstrip() + "…"
    draw.text(left_middle, line, colour, font, anchor="lm")
