"""Compiled code is cached on disk and used only for the sources that it was compiled from."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from builders.oracle import Make, native_tasks

import metarl
from metarl.envs import TaskDistribution
from metarl.system import jit

SMALL = """
import numpy as np
from metarl.envs import Task, TaskDistribution, make_vec
task = Task("reach-v3", (0.0, 0.65, 0.02, 0.0, 0.85, 0.2))
env = make_vec(TaskDistribution((task,)), 1, engine="native")
env.reset()
print(env.step(np.zeros((1, 4)))[1][0])
"""
FORMULA = """
import ctypes
import numpy as np
from metarl.system.jit import formula_address
from metarl.envs.tasks.reach import reach
now, memory, out = np.linspace(0, 1, 50), np.linspace(1, 2, 50), np.zeros(7)
ctypes.CFUNCTYPE(None, *[ctypes.c_void_p] * 3)(formula_address(reach))(*(a.ctypes.data for a in (now, memory, out)))
print(out[0])
"""
"""Prints a reward. It compiles the formula alone, not the engine's loop, which takes five times as long."""


def test_damaged_compiled_code_is_compiled_again(make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Damages numba's index of one function and the code of another, as a power cut may do."""
    make(1, TaskDistribution(native_tasks(1).tasks[:1]), engine="native").reset()
    shutil.copytree(jit.cache_folder(), tmp_path / "compiled" / jit.cache_folder().name)
    monkeypatch.setenv("METARL_CACHE", str(tmp_path))

    def run() -> str:
        return subprocess.run([sys.executable, "-c", SMALL], capture_output=True, text=True, check=False).stdout

    reward = run()
    assert float(reward) > 0
    for pattern in ("reach.reach-*.nbi", "primitives.distance-*.nbc"):
        damaged = list((tmp_path / "compiled").rglob(pattern))
        assert damaged
        for path in damaged:
            path.write_bytes(path.read_bytes()[:-50])
    assert run() == reward


def test_an_edited_task_changes_its_result_at_the_next_start(tmp_path: Path) -> None:
    """Earlier compiled code is not used for an edited formula, nor for callers of an edited function."""
    code = f"import sys; sys.path.insert(0, {str(tmp_path)!r})" + FORMULA

    def run() -> float:
        process = subprocess.run([sys.executable, "-P", "-c", code], capture_output=True, text=True, check=True, cwd=tmp_path)
        return float(process.stdout)

    shutil.copytree(Path(metarl.__file__).parent, tmp_path / "metarl", ignore=shutil.ignore_patterns("__pycache__"))
    before = run()
    assert 0 < before < 10
    for name, old, new in (("reach.py", "10.0 * in_place", "20.0 * in_place"), ("primitives.py", "d = 3.0 *", "d = 4.0 *")):
        path = tmp_path / "metarl" / "envs" / "tasks" / name
        text = path.read_text()
        assert old in text
        path.write_text(text.replace(old, new, 1))
        if name == "reach.py":
            assert run() == pytest.approx(2 * before)
    farther = (4 / 3) ** 2 * (10 / before - 1)  # the reward before is 10 / (d * d + 1)
    assert run() == pytest.approx(20 / (farther + 1))


def test_a_change_in_any_source_changes_the_cache_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """numba itself would use old code after a change in another file."""
    package = Path(jit.__file__).parents[1]
    for part in ("envs", "nn", "system"):
        shutil.copytree(package / part, tmp_path / part)
    monkeypatch.setattr(jit, "__file__", str(tmp_path / "system" / "jit.py"))
    find = jit.cache_folder.__wrapped__
    folders = [find(), find()]
    for source in ("envs/tasks/primitives.py", "envs/engines/kernel.py", "nn/functions.py", "system/jit.py"):
        with (tmp_path / source).open("a") as file:
            file.write("# changed")
        folders.append(find())
    assert folders[0] == folders[1]
    assert len(set(folders)) == 5
