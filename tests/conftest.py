"""One cache for the whole run, in the environment before metarl is imported, so that subprocesses share it."""

import os
import shutil
import tempfile

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
