"""What is installed holds real files where the repository has links."""

import runpy
import zipfile
from pathlib import Path

import pytest

SCRIPT = runpy.run_path(str(Path(__file__).parents[2] / "scripts" / "check_wheel"))


def test_the_wheel_holds_envs_and_agents_as_files(tmp_path: Path) -> None:
    wheel = SCRIPT["build"](tmp_path, "--no-build-isolation", "--no-index")
    assert SCRIPT["check_contents"](wheel) > 100


def test_a_wheel_without_them_is_noticed(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.whl", "w") as made:
        made.writestr("metarl/__init__.py", "1")
    with pytest.raises(SystemExit, match=r"metarl/envs/suites\.py"):
        SCRIPT["check_contents"](tmp_path / "a.whl")
