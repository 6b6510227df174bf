"""Helpers for tests of `metarl compare`: evaluation files, a wide terminal, printed text."""

import json
from pathlib import Path
from typing import Any

import pytest


def written(folder: Path, **contents: dict[str, Any]) -> list[str]:
    folder.mkdir(exist_ok=True)
    for name, content in contents.items():
        (folder / f"{name}.json").write_text(json.dumps(content))
    return [str(folder / f"{name}.json") for name in contents]


@pytest.fixture(autouse=True)
def wide(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("metarl.system.console.console._width", 200)


def printed(capsys: Any) -> str:
    return " ".join(capsys.readouterr().out.split())
