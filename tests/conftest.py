"""Set one cache for the whole test run before metarl is imported, so that subprocesses share it."""

import copy
import os
import shutil
import tempfile
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any

import pytest
import torch

_made = None if os.environ.get("METARL_CACHE") else tempfile.mkdtemp(prefix="metarl-tests-")
if _made:
    os.environ["METARL_CACHE"] = _made

torch.set_num_threads(1)


def pytest_unconfigure(config: pytest.Config) -> None:
    """Remove the cache, unless METARL_CACHE was set (as in continuous integration)."""
    if _made:
        shutil.rmtree(_made, ignore_errors=True)


@pytest.fixture(scope="session", autouse=True)
def models_compiled_once() -> Iterator[None]:
    """Copies of a model that was compiled before: stock environments of a task compile the same XML (0.1 s) again and again."""
    from metarl.envs.rendering.opengl import import_mujoco

    models = import_mujoco().MjModel
    compiled = lru_cache(maxsize=8)(models.from_xml_path)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(models, "from_xml_path", staticmethod(lambda path: copy.copy(compiled(path))))
        yield


@pytest.fixture
def make(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Call `make_vec`, by default on reach; close the environments after the test."""
    from builders.oracle import model_once, reach

    from metarl.envs import make_vec

    monkeypatch.setattr("metarl.envs.engines.native.load_model", model_once)
    envs: list[Any] = []

    def call(num_envs: int = 2, tasks: Any = None, **options: Any) -> Any:
        envs.append(make_vec(tasks or reach(), num_envs, **options))
        return envs[-1]

    yield call
    for env in envs:
        env.close()


@pytest.fixture(scope="module")
def chromium() -> Iterator[Any]:
    """One browser for all tests of a module."""
    from builders import browser

    if browser.find() is None:
        pytest.skip("no Chromium here: apt-get install -y chromium")
    with browser.Browser() as page:
        yield page


@pytest.fixture(scope="session")
def few_shot_data(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """See `fewshot_runs.make_data`."""
    from builders.fewshot_runs import make_data

    return make_data(tmp_path_factory.mktemp("few_shot_data"))


@pytest.fixture(scope="session")
def few_shot_runs(few_shot_data: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """See `fewshot_runs.make_runs`; no test may change them."""
    from builders.fewshot_runs import make_runs

    return make_runs(tmp_path_factory.mktemp("few_shot_runs"), few_shot_data)
