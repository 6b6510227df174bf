"""One cache for the whole run, in the environment before metarl is imported, so that subprocesses share it."""

import os
import shutil
import tempfile
from collections.abc import Iterator
from typing import Any

import pytest
import torch

_made = None if os.environ.get("METARL_CACHE") else tempfile.mkdtemp(prefix="metarl-tests-")
if _made:
    os.environ["METARL_CACHE"] = _made

torch.set_num_threads(1)


def pytest_unconfigure(config: pytest.Config) -> None:
    """Remove the cache, unless it was there before (a CI's own)."""
    if _made:
        shutil.rmtree(_made, ignore_errors=True)


@pytest.fixture
def make(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """`make_vec` on reach, unless told otherwise; closes what it made."""
    from oracle import model_once, reach

    from metarl.envs import make_vec

    monkeypatch.setattr("metarl.envs.engine.load_model", model_once)
    made: list[Any] = []

    def call(num_envs: int = 2, tasks: Any = None, **options: Any) -> Any:
        made.append(make_vec(tasks or reach(), num_envs, **options))
        return made[-1]

    yield call
    for env in made:
        env.close()
