"""`metarl doctor`: rows, exit status, and checks that fail."""

import importlib.metadata
from collections.abc import Callable
from pathlib import Path

import pytest
import tyro

from metarl.commands import doctor
from metarl.commands.doctor import EXACT, Doctor, Finding, findings
from metarl.errors import UserError
from metarl.system import machine
from metarl.system.machine import EnergyMeter


@pytest.fixture(autouse=True)
def isolated_doctor(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Use an empty cache, and skip the search for an OpenGL backend."""
    monkeypatch.setattr("metarl.envs.rendering.opengl.find_backend", lambda: "egl")
    monkeypatch.setenv("METARL_CACHE", str(tmp_path))


def rows(check: Callable[[], list[Finding]]) -> dict[str, Finding]:
    return {row.check: row for row in check()}


def test_energy_is_read_across_a_counter_overflow(tmp_path: Path) -> None:
    assert EnergyMeter(tmp_path).joules() is None
    packages = [tmp_path / "intel-rapl:0", tmp_path / "intel-rapl:1"]
    for package in packages:
        package.mkdir()
        (package / "energy_uj").write_text("9000000")
        (package / "max_energy_range_uj").write_text("10000000")
    (tmp_path / "intel-rapl:0:0").mkdir()  # a subdomain, already counted in its package
    meter = EnergyMeter(tmp_path)
    (packages[0] / "energy_uj").write_text("9500000")
    (packages[1] / "energy_uj").write_text("1000000")
    assert meter.joules() == 2.5
    assert meter.joules() == 0.0
    (packages[0] / "energy_uj").unlink()
    assert meter.joules() is None


def test_a_machine_without_problems(capsys: pytest.CaptureFixture[str]) -> None:
    assert tyro.cli(Doctor, args=[]).main() == 0
    printed = capsys.readouterr().out
    findings_by_check = rows(findings)
    packages = "metarl mujoco metaworld gymnasium numpy numba torch"
    for name in f"platform Python {packages} libmujoco CPU GPU drawing cache disk memory".split():
        assert name in findings_by_check
        assert name in printed
    assert not [row for row in findings_by_check.values() if "could not be checked" in row.result]
    assert findings_by_check["drawing"].result == "egl"
    assert findings_by_check["libmujoco"].result.endswith(".so.3.3.0")


@pytest.mark.parametrize(("package", "version"), [("mujoco", "3.3.1"), ("metaworld", "3.0.0")])
def test_another_mujoco_or_metaworld_is_a_problem(monkeypatch, capsys, package: str, version: str) -> None:  # type: ignore[no-untyped-def]
    real = importlib.metadata.version
    monkeypatch.setattr(doctor, "version", lambda name: version if name == package else real(name))
    assert Doctor().main() == 2
    printed = capsys.readouterr().out
    assert "1 problem, " in printed
    row = rows(findings)[package]
    assert row.verdict == "problem"
    assert f"{package}=={EXACT[package]}" in row.advice


def test_other_packages_out_of_range_and_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    real = importlib.metadata.version

    def version(name: str) -> str:
        if name == "tyro":
            raise importlib.metadata.PackageNotFoundError(name)
        return {"numpy": "1.26.4", "torch": "2.9.0+cu128"}.get(name) or real(name)

    monkeypatch.setattr(doctor, "version", version)
    findings_by_check = rows(doctor._packages)
    assert findings_by_check["numpy"].verdict == "warning"
    assert "numpy" in findings_by_check["numpy"].advice
    assert findings_by_check["torch"].verdict == "ok"  # local version labels of GPU builds are accepted
    assert findings_by_check["tyro"].verdict == "problem"
    assert "stable-baselines3" not in findings_by_check  # a package of an extra


def test_no_opengl_is_a_warning_that_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_backend() -> str:
        raise UserError("no OpenGL backend works: apt-get install -y libosmesa6")

    monkeypatch.setattr("metarl.envs.rendering.opengl.find_backend", no_backend)
    row = rows(doctor._drawing)["drawing"]
    assert row.verdict == "warning"
    assert "apt-get install -y libosmesa6" in row.advice


def test_another_platform_and_python(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor.platform, "system", lambda: "Darwin")
    monkeypatch.setattr(doctor.sys, "version_info", (3, 10, 1))
    findings_by_check = rows(doctor._platform)
    assert findings_by_check["platform"].verdict == findings_by_check["Python"].verdict == "problem"
    assert "Linux" in findings_by_check["platform"].advice


def test_a_cache_that_cannot_be_written(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert rows(doctor._cache)["cache"].verdict == "ok"
    (tmp_path / "file").write_text("not a folder")
    monkeypatch.setenv("METARL_CACHE", str(tmp_path / "file" / "cache"))
    row = rows(doctor._cache)["cache"]
    assert row.verdict == "warning"
    assert "METARL_CACHE" in row.advice


def test_limits_of_control_groups(monkeypatch: pytest.MonkeyPatch) -> None:
    files = {"cpu.max": ["max 100000", "150000 100000"], "memory.max": ["1500000000"], "memory.current": ["500000000"]}
    monkeypatch.setattr(machine, "cgroup_files", files.__getitem__)
    monkeypatch.setattr(machine.os, "sched_getaffinity", lambda _: {0, 1, 2, 3})
    assert machine.usable_cores() == 1.5
    row = rows(doctor._memory)["memory"]
    assert row.result.startswith("1.0 GB")
    assert row.verdict == "warning"
    monkeypatch.setattr("torch.get_num_threads", lambda: 16)
    assert "OMP_NUM_THREADS=1" in rows(doctor._cpu)["CPU"].advice


def test_a_check_that_fails_becomes_a_warning(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail() -> list[Finding]:
        raise RuntimeError("broken")

    monkeypatch.setattr(doctor, "_gpu", fail)
    row = rows(findings)["GPU"]
    assert row.verdict == "warning"
    assert "RuntimeError: broken" in row.result
