"""What a local disk has and those of clusters, networks and object stores lack or refuse: training goes on, and says so."""

import errno
import fcntl
import os
import tempfile
from pathlib import Path
from typing import Any

import pytest
import torch
from builders.made_runs import EXPERIMENT
from builders.tiny import equal_runs, train
from torch.utils import tensorboard

from metarl import cli
from metarl.commands import doctor
from metarl.datasets import download
from metarl.errors import UserError
from metarl.rendering import video
from metarl.runs.directory import Run
from metarl.sharing.opening import open_run
from metarl.system import files as cache
from metarl.system import jit, machine
from metarl.system.files import write_atomically

STATE = {"w": torch.arange(3.0)}


@pytest.fixture(autouse=True)
def nothing_said() -> None:
    """What another test was told once is told again."""
    cache.without.cache_clear()


def refuse(monkeypatch: pytest.MonkeyPatch, module: Any, name: str, number: int) -> None:
    """A function of the system that answers with an error."""

    def refusing(*args: Any, **more: Any) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(module, name, refusing)


def test_without_symbolic_links_latest_is_a_file_that_can_be_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    refuse(monkeypatch, os, "symlink", errno.EPERM)
    assert train(tmp_path / "run", 2) == 0
    latest = tmp_path / "run" / "checkpoints" / "latest"
    assert not latest.is_symlink()
    run, named = open_run(latest)
    assert run.path.resolve() == (tmp_path / "run").resolve()
    assert named == run.checkpoints()[-1].resolve()
    assert latest.read_text().strip() == named.name
    monkeypatch.undo()
    assert cli.run(["train", "--resume", str(tmp_path / "run"), "--steps", "240", "--quiet"]) == 0
    assert latest.is_symlink()  # such a run goes on on another disk
    assert open_run(latest)[1] == run.checkpoints()[-1].resolve()
    latest.unlink()
    latest.write_text("../../../elsewhere")
    with pytest.raises(UserError, match="names no checkpoint"):
        open_run(latest)


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.ENOTSUP, errno.ENOSYS])
def test_without_locks_it_goes_on_and_says_so_once(
    number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    refuse(monkeypatch, fcntl, "flock", number)
    for name in ("one", "two"):
        Run.create(tmp_path / name, EXPERIMENT).close()
    with download._locked(tmp_path):
        pass
    assert caplog.text.count("there are no locks on this file system") == 1


def test_a_lock_that_another_process_has_is_no_missing_lock(tmp_path: Path) -> None:
    first = Run.create(tmp_path / "run", EXPERIMENT)
    with pytest.raises(UserError, match="another process is writing"):
        open_run(tmp_path / "run")[0].lock()
    first.close()


@pytest.mark.parametrize(("name", "number"), [("fsync", errno.EINVAL), ("fsync", errno.ENOTSUP), ("chmod", errno.EPERM)])
def test_files_are_written_where_fsync_or_modes_are_refused(
    name: str, number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    refuse(monkeypatch, os, name, number)
    write_atomically(tmp_path / "file", b"content")
    assert (tmp_path / "file").read_bytes() == b"content"
    with video._whole_file(tmp_path / "film.mp4") as partial:
        partial.write_bytes(b"film")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "film.mp4"]


def test_a_disk_that_loses_what_is_written_is_no_missing_fsync(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    refuse(monkeypatch, os, "fsync", errno.EIO)
    with pytest.raises(OSError, match="Input/output"):
        write_atomically(tmp_path / "file", b"content")
    assert not list(tmp_path.iterdir())


def test_checkpoints_are_copied_where_folders_cannot_be_renamed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = Run.create(tmp_path / "run", EXPERIMENT)
    refuse(monkeypatch, os, "rename", errno.ENOSYS)
    for step in (100, 200):
        run.save(step, step, STATE, keep=1)
    assert torch.equal(run.load()[0].state["w"], STATE["w"])
    refuse(monkeypatch, cache.shutil, "copyfile", errno.ENOSPC)
    with pytest.raises(UserError, match="the last complete one is kept: No space left"):
        run.save(300, 300, STATE, keep=1)
    assert [path.name for path in run.checkpoints()] == [f"{200:012d}"]
    run.close()


def test_a_run_trains_without_tensorboards_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    assert train(tmp_path / "whole", 2) == 0

    refuse(monkeypatch, tensorboard, "SummaryWriter", errno.ENOTSUP)
    assert train(tmp_path / "run", 2) == 0
    assert equal_runs(tmp_path / "run", tmp_path / "whole")
    assert caplog.text.count("nothing more is written for TensorBoard") == 1
    assert "Operation not supported" in caplog.text


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.ESTALE])
def test_what_nobody_expected_to_be_refused_is_told_in_one_line(number: int, monkeypatch: Any, capsys: Any) -> None:
    def refusing(self: Any) -> int:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(doctor.Doctor, "main", refusing)
    assert cli.run(["doctor"]) == 2
    assert capsys.readouterr().err == f"metarl: system error: {os.strerror(number)}\n"


# --- The cache


def test_a_full_cache_is_known_for_one(tmp_path: Path, monkeypatch: Any, caplog: pytest.LogCaptureFixture) -> None:
    """Files can be made there, and nothing be written into them."""

    def full(**more: Any) -> Any:
        return open("/dev/full", "wb")

    monkeypatch.setattr(tempfile, "TemporaryFile", full)
    monkeypatch.setenv("METARL_CACHE", str(tmp_path))
    assert cache.refusal(tmp_path) == "No space left on device"
    assert jit.cache_folder.__wrapped__() is None
    assert f"{tmp_path}/compiled (METARL_CACHE) cannot be written: No space left on device" in caplog.text
    [row] = doctor._cache()
    assert (row.verdict, row.result) == ("warning", f"{tmp_path} cannot be written: No space left on device")


def test_compiled_code_works_where_the_disk_fills_up_meanwhile(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(jit, "cache_folder", lambda: tmp_path)
    add = jit.jit(lambda a, b: a + b)
    refuse(monkeypatch, os, "replace", errno.ENOSPC)  # how numba ends its writing
    assert add(2, 3) == 5
    assert add(2.5, 3.0) == 5.5
    assert caplog.text.count("compiled code is not cached, every start compiles again") == 1
    refuse(monkeypatch, tempfile, "TemporaryFile", errno.ENOSPC)
    multiply = jit.jit(lambda a, b: a * b)  # numba refuses to cache at all
    assert multiply(2, 3) == 6


def test_doctor_warns_of_a_cache_that_cannot_be_made(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (("METARL_CACHE", "/proc/x"), ("HOME", "/proc/nope")):
        monkeypatch.delenv("METARL_CACHE", raising=False)
        monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
        monkeypatch.setenv(name, value)
        [row] = doctor._cache()
        assert row.verdict == "warning"
        assert f"{value}" in row.result
        assert "METARL_CACHE" in row.advice


def test_a_user_without_a_home_folder_gets_no_folder_named_tilde(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("METARL_CACHE", raising=False)
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.delenv("HOME")

    def nobody(uid: int) -> None:
        raise KeyError(f"getpwuid(): uid not found: {uid}")

    monkeypatch.setattr("pwd.getpwuid", nobody)
    assert cache.directory().is_absolute()


def test_a_sandbox_that_tells_nothing_of_the_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    refuse(monkeypatch, os, "sched_getaffinity", errno.ENOSYS)
    refuse(monkeypatch, Path, "read_text", errno.EACCES)
    assert machine.usable_cores() == os.cpu_count()
    assert machine.processor()
