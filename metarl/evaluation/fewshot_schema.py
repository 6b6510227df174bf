"""What a report uses of the evaluation of a few-shot learner, checked: files of older versions have less, damaged ones too."""

import base64
import io
from collections.abc import Callable, Collection
from typing import Any

import numpy as np
from PIL import Image

from metarl.evaluation.vocabulary import SIDES
from metarl.system.printable import printable

PROTOCOL = "episodes"
_NEEDED = {
    "run": str,
    "agent": str,
    "suite": str,
    "split": str,
    "run_seed": int,
    "checkpoint": str,
    "step": int,
    "episodes": int,
    "ways": int,
    "shots": int,
    "queries": int,
    "measure": str,
    "sides": dict,
}
_PIXELS = 256 * 256 * 1000
"""More than example images ever are."""


def whole(content: dict[str, Any]) -> dict[str, Any]:
    """An evaluation in which all that a report needs is there; "left_out" names what else was there and is damaged.

    Raises what its first fault raises.
    """
    if any(not isinstance(content[key], kind) for key, kind in _NEEDED.items()):
        raise ValueError("a value of the wrong kind")
    _true(content["measure"] in ("accuracy", "mse"))
    for key in ("episodes", "ways", "shots", "queries"):
        _count(content[key], 1)
    content["trained_on"] = {"suite": content["suite"]}
    with_ = content.setdefault("trained_with", {})
    content["trained_with"] = {key: int(with_.get(key, content[key])) for key in ("ways", "shots")}
    content["left_out"] = []
    known(content["sides"], SIDES)
    for side in content["sides"].values():
        _numbers(side["by_shots"], (content["shots"] + 1, 3), ends=True)
        figures = _numbers(side["figures"], (content["episodes"], content["shots"] + 1))
        _true(bool((figures >= 0).all()), content["measure"] != "accuracy" or bool((figures <= 1).all()))
        for key, (name, check) in _PARTS.items():
            if key in side:
                try:
                    side[key] = check(_clean(side[key]), content)
                except (ValueError, LookupError, TypeError, AttributeError, OverflowError, RecursionError):
                    del side[key]
                    content["left_out"].append(name)
    return content


def tiles(items: dict[str, Any]) -> list[np.ndarray]:
    """The images of `metarl.evaluation.fewshot_diagnostics`, uint8 (height, width, 3) each.

    Raises:
        ValueError: it is none of them.
    """
    try:
        size, count = items["size"], items["count"]
        with Image.open(io.BytesIO(base64.b64decode(items["image"], validate=True))) as opened:
            if opened.size != (size, size * count) or size * size * count > _PIXELS:
                raise ValueError("an image of another size")
            pixels = np.asarray(opened.convert("RGB"))
    except Exception as error:  # PIL raises many kinds; whatever it is, these are no images
        raise ValueError(str(error)) from None
    return np.split(pixels, count) if count else []


def known(found: dict[str, Any], names: Collection[str]) -> None:
    """Raise ValueError but for a dict with some of these keys, and no other: keys may become names of files, and words."""
    if not isinstance(found, dict) or not found or not found.keys() <= set(names):
        raise ValueError("keys that are not known")


def _clean(value: Any) -> Any:
    """With every text in it printable."""
    if isinstance(value, str):
        return printable(value)
    if isinstance(value, list):
        return [_clean(one) for one in value]
    return {key: _clean(one) for key, one in value.items()} if isinstance(value, dict) else value


def _true(*conditions: bool) -> None:
    if not all(conditions):
        raise ValueError("a value of the wrong kind")


def _numbers(rows: Any, shape: tuple[int, ...], *, ends: bool = False) -> np.ndarray:
    """Finite numbers of this shape; with `ends` each row's second and third may be null."""
    array = np.array(rows, dtype=float)  # null becomes NaN
    _true(array.shape == shape, not np.isnan(array[..., 0] if ends else array).any(), not np.isinf(array).any())
    return array


def _count(value: Any, least: int = 0) -> int:
    _true(isinstance(value, int), not isinstance(value, bool))
    _true(least <= value < 10**12)
    return value


def _names(value: Any) -> list[str]:
    _true(isinstance(value, list))
    _true(all(isinstance(name, str) for name in value))
    return value


def _items(items: Any) -> int:
    """How many examples there are."""
    return len(tiles(items)) if isinstance(items, dict) else len(_names(items))


def _by_steps(value: Any, content: dict[str, Any]) -> Any:
    n = len(value["steps"])
    _true(n > 0, value["taken"] in value["steps"])
    for count in value["steps"]:
        _count(count)
    for key in ("measured", "difference"):
        _numbers(value[key], (n, 3), ends=True)
    return value


def _answers(value: Any, content: dict[str, Any]) -> Any:
    _true(_count(value["right"]) <= _count(value["asked"], 1))
    _count(value["confused"]), _count(value["classes"])
    _names([value["class"], value["example"]])
    for a, b, times, together in value["confusions"]:
        _names([a, b])
        _true(0 < _count(times) <= _count(together))
    _true(_items(value["seen"]["items"]) == len(_names(value["seen"]["classes"])))
    for rows in (value["by_class"], value["by_group"]):
        _names([row[0] for row in rows])
        _numbers([row[1:4] for row in rows], (len(rows), 3) if rows else (0,), ends=bool(rows))
        for row in rows:
            _count(row[4], 1)
    matrix = value["matrix"]
    n = len(_names(matrix["names"]))
    counts, asked = (_numbers(matrix[key], (n, n)) for key in ("counts", "asked"))
    _true(n > 0, isinstance(matrix["grouped"], bool), _count(matrix["all"]) >= n, bool((counts >= 0).all()))
    _true(bool((counts <= asked).all()))
    return value


def _examples(value: Any, content: dict[str, Any]) -> Any:
    _true(isinstance(value, list))
    check: Callable[[Any], None] = _curves if content["measure"] == "mse" else _episode
    for example in value:
        check(example)
    return value


def _episode(example: Any) -> None:
    ways, count = len(_names(example["classes"])), _items(example["items"])
    rows = len(example["support"])
    _true(0 < rows <= ways, len(example["query"]) == rows, _count(example["right"]) <= _count(example["asked"], 1))
    for some in example["support"]:
        _true(all(_count(item) < count for item in some))
    for some in example["query"]:
        for item, best, chance, of_right in some:
            _true(_count(item) < count, _count(best) < ways)
            _numbers([chance, of_right], (2,))


def _curves(example: Any) -> None:
    n, steps = len(example["x"]), example["steps"]
    _true(n > 1)
    if example["true"] is not None:
        _numbers(example["true"], (n,))
    _numbers(example["x"], (n,))
    _numbers(example["support"], (len(example["support"]), 2) if example["support"] else (0,))
    _numbers(example["curves"], (2 if steps is None else len(steps), n))
    for count in steps or []:
        _count(count)


_PARTS: dict[str, tuple[str, Callable[[Any, dict[str, Any]], Any]]] = {
    "by_steps": ("figures by gradient steps", _by_steps),
    "answers": ("which classes are confused", _answers),
    "examples": ("example episodes", _examples),
}
