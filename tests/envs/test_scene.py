"""Loaded models equal stock's in every number."""

from importlib.machinery import ModuleSpec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from builders.oracle import VARIED_TASKS

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


@pytest.mark.parametrize("name", [*VARIED_TASKS, "hammer-v3", "soccer-v3", "window-close-v3", "coffee-pull-v3"])
def test_a_loaded_model_equals_upstream(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Compares all numbers of models loaded from XML files, and from a cache written by the loader or a stock environment."""
    env = StockEnv(name)
    upstream, models = env.env.model, []
    for cache in ("xml", "stock"):
        monkeypatch.setenv("METARL_CACHE", str(tmp_path / cache))
        if cache == "stock":
            keep_model(env.model_file, upstream)
        models += [load_model(env.model_file), load_model(env.model_file)]
    for loaded in models:
        assert numbers(loaded).keys() > {"geom_size", "nbody"}
        for loaded_part, upstream_part in ((loaded, upstream), (loaded.opt, upstream.opt)):
            expected = numbers(upstream_part)
            assert not [key for key, value in numbers(loaded_part).items() if not same_numbers(value, expected[key])]


def test_a_damaged_model_is_built_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: Any) -> None:
    monkeypatch.setenv("METARL_CACHE", str(tmp_path))
    first = load_model("sawyer_xyz/sawyer_reach_v3.xml")
    (path,) = tmp_path.rglob("*.mjb")
    content = path.read_bytes()
    path.write_bytes(content[:-8] + b"somewhat")
    rebuilt = load_model("sawyer_xyz/sawyer_reach_v3.xml")
    assert "damaged" in caplog.text
    assert np.array_equal(rebuilt.geom_size, first.geom_size)
    assert path.read_bytes() == content
    monkeypatch.setattr(scene, "assets", None)
    load_model("sawyer_xyz/sawyer_reach_v3.xml")


@pytest.mark.parametrize("spec", [None, ModuleSpec("metaworld", None)])
def test_a_missing_metaworld_is_reported_with_the_install_command(spec: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """There is no such package, or only a folder of that name on the path."""
    monkeypatch.setattr(scene, "find_spec", lambda name: spec)
    with pytest.raises(UserError, match="pip install metaworld"):
        scene.assets()
