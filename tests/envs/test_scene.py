"""Models are stock's, in every number, however they were loaded."""

from importlib.machinery import ModuleSpec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from builders.oracle import SOME

from metarl.envs.engines.python import StockEnv
from metarl.envs.rendering import scene
from metarl.envs.rendering.scene import keep_model, load_model
from metarl.errors import UserError


def numbers(part: Any) -> dict[str, np.ndarray]:
    """All fields of an MjModel or MjOption that hold numbers."""
    values = {name: getattr(part, name) for name in dir(part) if not name.startswith("_")}
    return {name: np.asarray(v) for name, v in values.items() if isinstance(v, np.ndarray | int | float)}


def same_numbers(a: np.ndarray, b: np.ndarray) -> bool:
    """The mesh normals of some files hold NaN."""
    return np.array_equal(a, b, equal_nan=a.dtype.kind == "f")


@pytest.mark.parametrize("name", [*SOME, "hammer-v3", "soccer-v3", "window-close-v3", "coffee-pull-v3"])
def test_a_loaded_model_is_stocks(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In every number: from its XML files, and as it was kept then, or by a stock environment."""
    env = StockEnv(name)
    stock, models = env.env.model, []
    for cache in ("xml", "stock"):
        monkeypatch.setenv("METARL_CACHE", str(tmp_path / cache))
        if cache == "stock":
            keep_model(env.model_file, stock)
        models += [load_model(env.model_file), load_model(env.model_file)]
    for ours in models:
        assert numbers(ours).keys() > {"geom_size", "nbody"}
        for ours_part, stock_part in ((ours, stock), (ours.opt, stock.opt)):
            expected = numbers(stock_part)
            assert not [key for key, value in numbers(ours_part).items() if not same_numbers(value, expected[key])]


def test_a_damaged_model_is_built_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: Any) -> None:
    monkeypatch.setenv("METARL_CACHE", str(tmp_path))
    first = load_model("sawyer_xyz/sawyer_reach_v3.xml")
    (path,) = tmp_path.rglob("*.mjb")
    whole = path.read_bytes()
    path.write_bytes(whole[:-8] + b"somewhat")
    again = load_model("sawyer_xyz/sawyer_reach_v3.xml")
    assert "damaged" in caplog.text
    assert np.array_equal(again.geom_size, first.geom_size)
    assert path.read_bytes() == whole
    monkeypatch.setattr(scene, "assets", None)
    load_model("sawyer_xyz/sawyer_reach_v3.xml")


@pytest.mark.parametrize("found", [None, ModuleSpec("metaworld", None)])
def test_without_meta_world_it_is_said_what_to_install(found: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing of that name, or only a folder of that name somewhere on the path."""
    monkeypatch.setattr(scene, "find_spec", lambda name: found)
    with pytest.raises(UserError, match="pip install metaworld"):
        scene.assets()
