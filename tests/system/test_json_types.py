"""Values from JSON become what the program declares, or are refused by their key."""

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, NotRequired, TypedDict

import pytest

from metarl.system.counts import Count
from metarl.system.json_types import convert


@dataclass(frozen=True)
class Inner:
    size: int = 1


@dataclass(frozen=True)
class Settings:
    rate: float
    layers: tuple[int, ...] = (8,)
    grid: tuple[int, float] = (1, 0.5)
    names: list[str] = field(default_factory=list)
    steps: Count = 5
    limit: float | None = None
    kind: Literal["a", "b"] = "a"
    place: Path | None = None
    flag: bool = False
    inner: Inner = Inner()
    weights: dict[str, float] = field(default_factory=dict)
    anything: Any = None


class Form(TypedDict):
    agent: str
    options: dict[str, Any]
    note: NotRequired[str]


def test_each_entry_becomes_its_declared_type() -> None:
    values = {
        "rate": 1,
        "layers": [4, 8],
        "grid": [2, 1],
        "names": ["x"],
        "steps": 7,
        "limit": 2,
        "kind": "b",
        "place": "a/b",
        "flag": True,
        "inner": {"size": 3},
        "weights": {"x": 1},
        "anything": [1, "x"],
    }
    made = convert(values, Settings)
    assert made == Settings(
        1.0, (4, 8), (2, 1.0), ["x"], 7, 2.0, "b", Path("a/b"), True, Inner(3), {"x": 1.0}, anything=[1, "x"]
    )
    assert [type(made.rate), type(made.limit), type(made.grid[1]), type(made.weights["x"])] == [float] * 4
    assert convert({"rate": 0.5, "limit": None, "place": None}, Settings) == Settings(0.5)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"rate": "1"}, 'settings.rate must be a number, not "1"'),
        ({"rate": True}, "settings.rate must be a number, not true"),
        ({"rate": 10**400}, "settings.rate must be a number"),
        ({"layers": 8}, "settings.layers must be a list, not 8"),
        ({"layers": [8, 8.5]}, "settings.layers[1] must be a whole number, not 8.5"),
        ({"grid": [1]}, "settings.grid must be a list of 2, not [1]"),
        ({"names": [None]}, "settings.names[0] must be text, not null"),
        ({"steps": 1.0}, "settings.steps must be a whole number, not 1.0"),
        ({"steps": False}, "settings.steps must be a whole number, not false"),
        ({"limit": "x"}, 'settings.limit must be a number or null, not "x"'),
        ({"kind": "c"}, "settings.kind must be 'a' or 'b', not \"c\""),
        ({"place": 3}, "settings.place must be text or null, not 3"),
        ({"flag": 1}, "settings.flag must be true or false, not 1"),
        ({"inner": 3}, "settings.inner must be an object, not 3"),
        ({"inner": {"size": "x"}}, 'settings.inner.size must be a whole number, not "x"'),
        ({"weights": {"x": None}}, "settings.weights.x must be a number, not null"),
        ({"rates": 1}, "unknown key in settings 'rates'. Did you mean rate"),
        ({"names": ["x" * 1000, 1]}, "settings.names[1] must be text, not 1"),
    ],
)
def test_other_kinds_are_refused_by_their_key(change: dict[str, Any], says: str) -> None:
    with pytest.raises(ValueError, match=f"^{re.escape(says)}"):
        convert({"rate": 0.5, **change}, Settings, "settings")


def test_what_is_missing_is_named_and_a_long_value_is_cut() -> None:
    with pytest.raises(ValueError, match=r"^settings\.rate is missing$"):
        convert({}, Settings, "settings")
    with pytest.raises(ValueError, match=r'^rate must be a number, not "x+…$') as caught:
        convert({"rate": "x" * 1000}, Settings)
    assert len(str(caught.value)) < 100


def test_a_typed_dict_keeps_other_entries() -> None:
    content = {"agent": "a", "options": {"x": 1}, "more": [1]}
    assert convert(content, Form) == content
    for wrong, says in (
        ({"options": {}}, "agent is missing"),
        ({**content, "note": 3}, "note must be text, not 3"),
        ({**content, "options": []}, "options must be an object"),
        ("x", "it must be an object"),
    ):
        with pytest.raises(ValueError, match=says):
            convert(wrong, Form)
