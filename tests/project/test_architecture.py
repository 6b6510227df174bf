"""docs/architecture.svg is what the source says today, and docs/architecture.md names every package."""

import importlib.machinery
import importlib.util
import re
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def script() -> ModuleType:
    loader = importlib.machinery.SourceFileLoader("architecture", str(ROOT / "scripts" / "architecture"))
    spec = importlib.util.spec_from_loader("architecture", loader)
    assert spec is not None
    module = importlib.util.module_from_spec(spec)
    loader.exec_module(module)
    return module


def shown(picture: str) -> tuple[set[tuple[str, str]], set[tuple[str, str]]]:
    """Packages with their floors, and arrows."""
    return (
        set(re.findall(r'data-package="(\w+)" data-floor="(\d+)"', picture)),
        set(re.findall(r'data-from="(\w+)" data-to="(\w+)"', picture)),
    )


def test_the_committed_picture_shows_the_packages_and_arrows_of_today(script: ModuleType) -> None:
    packages, arrows = shown(script.PICTURE.read_text())
    now = shown(script.drawn())
    assert (packages, arrows) == now, "run scripts/architecture and commit docs/architecture.svg"
    assert {("cli", "commands"), ("agents", "rollouts"), ("nn", "learner")} <= arrows


def test_every_arrow_goes_down(script: ModuleType) -> None:
    floor = {name: -i for i, level in enumerate(script.floors()) for name in level}
    assert all(floor[a] > floor[b] for a, b in shown(script.drawn())[1])


def test_every_package_is_drawn_and_described(script: ModuleType) -> None:
    names = {name for level in script.floors() for name in level}
    there = {path.stem for path in (ROOT / "metarl").iterdir() if path.is_dir() or path.suffix == ".py"}
    assert there - {"__init__", "__pycache__", "moved"} == names == set(script.ROLES)
    page = (ROOT / "docs" / "architecture.md").read_text()
    assert not [name for name in names if f"`{name}`" not in page]


def test_imports_are_found_wherever_they_are(script: ModuleType, tmp_path: Path) -> None:
    file = tmp_path / "module.py"
    file.write_text(
        "import metarl.errors\nfrom metarl import envs\nfrom . import sister\nfrom .. import nn\n"
        "from ..optim.inner_loop import adapt\n"
        "def f():\n    from metarl.rollouts.trials import Trials\n    return 'metarl.commands.train', 'metarl.envs:reach'\n"
    )
    found = script.imported(file, ["metarl", "agents", "module"])
    assert set(found) == {"errors", "envs", "agents", "nn", "optim", "rollouts", "commands"}
