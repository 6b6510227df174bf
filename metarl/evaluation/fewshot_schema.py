"""File format of few-shot evaluations, with its checker, which accepts older files and drops damaged optional parts."""

import base64
import io
from collections.abc import Callable
from typing import Any, NotRequired, TypedDict, cast

import numpy as np
from PIL import Image

from metarl.evaluation.measures import OF_EPISODES
from metarl.evaluation.schema import FAULTS, Header, Row, counted, known, numbers, texts, true, typed
from metarl.evaluation.vocabulary import SIDES
from metarl.system.printable import printable


class Steps(TypedDict):
    """Means after each number of gradient steps, and their differences from the number that `adapt` takes."""

    steps: list[int]
    taken: int
    measured: list[Row]
    difference: list[Row]


class Part(TypedDict):
    """The results on a part of the classes: means by shots, and figures (episodes, shots + 1).

    `metarl.evaluation.fewshot_diagnostics` writes the optional keys, for held-out classes only.
    """

    by_shots: list[Row]
    figures: list[list[float]]
    by_steps: NotRequired[Steps]
    answers: NotRequired[dict[str, Any]]
    examples: NotRequired[list[Any]]


class Shape(TypedDict):
    """Number of classes in an episode, and of examples per class."""

    ways: int
    shots: int


class FewShotEvaluation(Header):
    """An evaluation under the protocol `episodes`. Older files lack the optional keys; the checker adds the last two."""

    split: str
    episodes: int
    ways: int
    shots: int
    queries: int
    train: NotRequired[bool]
    trained_with: NotRequired[Shape]
    measure: str
    transductive: NotRequired[bool]
    confidence: NotRequired[float]
    sides: dict[str, Part]
    trained_on: NotRequired[dict[str, str]]
    left_out: NotRequired[list[str]]


_PIXELS = 256 * 256 * 1000
"""Upper limit on the pixels of example images; real files stay below it."""


def whole(content: dict[str, Any]) -> FewShotEvaluation:
    """Check that an evaluation has everything a report needs; "left_out" lists the damaged optional parts it dropped.

    The first fault in a required part raises one of `FAULTS`.
    """
    content["left_out"] = []
    content["trained_on"] = {"suite": content["suite"]}
    typed(content, FewShotEvaluation)
    true(content["measure"] in [measure.key for measure in OF_EPISODES])
    for key in ("episodes", "ways", "shots", "queries"):
        counted(content[key], 1)
    shape = content.setdefault("trained_with", {})
    content["trained_with"] = {key: int(shape.get(key, content[key])) for key in ("ways", "shots")}
    known(content["sides"], SIDES)
    for side in content["sides"].values():
        numbers(side["by_shots"], (content["shots"] + 1, 3), ends=True)
        figures = numbers(side["figures"], (content["episodes"], content["shots"] + 1))
        true(bool((figures >= 0).all()), content["measure"] != "accuracy" or bool((figures <= 1).all()))
        for key, (name, check) in _PARTS.items():
            if key in side:
                try:
                    side[key] = check(_clean(side[key]), content)
                except FAULTS:
                    del side[key]
                    content["left_out"].append(name)
    return cast(FewShotEvaluation, content)


def tiles(items: dict[str, Any]) -> list[np.ndarray]:
    """Decode the images that `metarl.evaluation.fewshot_diagnostics` wrote, uint8 (height, width, 3) each.

    Raises:
        ValueError: `items` does not hold such images.
    """
    try:
        size, count = items["size"], items["count"]
        with Image.open(io.BytesIO(base64.b64decode(items["image"], validate=True))) as opened:
            if opened.size != (size, size * count) or size * size * count > _PIXELS:
                raise ValueError("an image of another size")
            pixels = np.asarray(opened.convert("RGB"))
    except Exception as error:  # PIL raises many kinds of errors
        raise ValueError(str(error)) from None
    return np.split(pixels, count) if count else []


def _clean(value: Any) -> Any:
    """Make every text in a JSON value printable."""
    if isinstance(value, str):
        return printable(value)
    if isinstance(value, list):
        return [_clean(item) for item in value]
    return {key: _clean(item) for key, item in value.items()} if isinstance(value, dict) else value


def _items(items: Any) -> int:
    """The number of examples."""
    return len(tiles(items)) if isinstance(items, dict) else len(texts(items))


def _by_steps(value: Any, content: dict[str, Any]) -> Any:
    n = len(value["steps"])
    true(n > 0, value["taken"] in value["steps"])
    for count in value["steps"]:
        counted(count)
    for key in ("measured", "difference"):
        numbers(value[key], (n, 3), ends=True)
    return value


def _answers(value: Any, content: dict[str, Any]) -> Any:
    true(counted(value["right"]) <= counted(value["asked"], 1))
    counted(value["confused"]), counted(value["classes"])
    texts([value["class"], value["example"]])
    for a, b, times, together in value["confusions"]:
        texts([a, b])
        true(0 < counted(times) <= counted(together))
    true(_items(value["seen"]["items"]) == len(texts(value["seen"]["classes"])))
    for rows in (value["by_class"], value["by_group"]):
        texts([row[0] for row in rows])
        numbers([row[1:4] for row in rows], (len(rows), 3) if rows else (0,), ends=bool(rows))
        for row in rows:
            counted(row[4], 1)
    matrix = value["matrix"]
    n = len(texts(matrix["names"]))
    counts, possible = (numbers(matrix[key], (n, n)) for key in ("counts", "asked"))
    true(n > 0, isinstance(matrix["grouped"], bool), counted(matrix["all"]) >= n, bool((counts >= 0).all()))
    true(bool((counts <= possible).all()))
    return value


def _examples(value: Any, content: dict[str, Any]) -> Any:
    true(isinstance(value, list))
    check: Callable[[Any], None] = _curves if content["measure"] == "mse" else _episode
    for example in value:
        check(example)
    return value


def _episode(example: Any) -> None:
    ways, count = len(texts(example["classes"])), _items(example["items"])
    rows = len(example["support"])
    true(0 < rows <= ways, len(example["query"]) == rows, counted(example["right"]) <= counted(example["asked"], 1))
    for items in example["support"]:
        true(all(counted(item) < count for item in items))
    for answers in example["query"]:
        for item, best, chance, of_right in answers:
            true(counted(item) < count, counted(best) < ways)
            numbers([chance, of_right], (2,))


def _curves(example: Any) -> None:
    n, steps = len(example["x"]), example["steps"]
    true(n > 1)
    if example["true"] is not None:
        numbers(example["true"], (n,))
    numbers(example["x"], (n,))
    numbers(example["support"], (len(example["support"]), 2) if example["support"] else (0,))
    numbers(example["curves"], (2 if steps is None else len(steps), n))
    for count in steps or []:
        counted(count)


_PARTS: dict[str, tuple[str, Callable[[Any, dict[str, Any]], Any]]] = {
    "by_steps": ("figures by gradient steps", _by_steps),
    "answers": ("which classes are confused", _answers),
    "examples": ("example episodes", _examples),
}
