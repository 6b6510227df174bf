"""Train and evaluate, with the commands, the smallest few-shot runs that cover every feature."""

import csv
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from metarl import cli

HOSTILE = "<script>alert(1)</script>&amp;\x07\"'"
SMALL = "--updates 2 --steps 4 --meta-batch 2 --queries 2 --device cpu --quiet --channels 4".split()
EPISODES = 25
"""Number of episodes; not a multiple of the batch size of predictions."""
RUNS: dict[str, tuple[str, list[str]]] = {
    "images": ("image", ["proto", "--ways", "3", "--shots", "2", "--image-size", "16", "--evaluate-every", "1"]),
    "gradients": ("image", ["maml", "--ways", "3", "--shots", "2", "--image-size", "16", "--inner-steps", "2"]),
    "texts": ("text", ["matching", "--ways", "3", "--shots", "2"]),
    "curves": ("regression", ["maml", "--shots", "4", "--inner-lr", "0.01"]),
    "fitted": ("regression", ["transfer", "--shots", "4", "--fit", "all", "--fit-steps", "2", "--fit-lr", "0.01"]),
}


def make_pictures(folder: Path, names: Iterable[str], count: int, size: int = 16, similarity: float = 0.7) -> None:
    """Write a folder of grey pictures for each name; `similarity` is the weight of the pattern shared within a folder."""
    rng = np.random.default_rng(0)
    for name in names:
        pattern = rng.random((size, size))
        (folder / name).mkdir(parents=True)
        for i in range(count):
            pixels = np.uint8(255 * (similarity * pattern + (1 - similarity) * rng.random((size, size))))
            Image.fromarray(pixels).save(folder / name / f"{i}.png")


def make_data(folder: Path) -> dict[str, str]:
    """Write images and texts of 20 classes with 6 examples each; names and texts contain markup. Returns data sets by kind."""
    make_pictures(folder / "images", (f"<b>{c}&amp;" for c in range(20)), 6, similarity=0.5)
    with (folder / "texts.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["text", "label"])
        for c in range(20):
            for i in range(6):
                writer.writerow([f"word{c} number {i} {HOSTILE}", f"area{c % 2}/{HOSTILE}{c}"])
    return {"image": f"folder:{folder / 'images'}", "text": f"csv:{folder / 'texts.csv'}", "regression": "sinusoid"}


def make_runs(folder: Path, data: dict[str, str]) -> dict[str, Path]:
    """Train and evaluate the runs in `RUNS`."""
    for name, (kind, (agent, *options)) in RUNS.items():
        make(folder / name, agent, data[kind], *options)
        assert evaluate(folder / name) == 0
    return {name: folder / name for name in RUNS}


def make(path: Path, agent: str, data_set: str, *options: str) -> Path:
    """Train a run with `metarl train`; returns its path."""
    assert cli.run(["train", agent, data_set, *SMALL, *options, "--run-dir", str(path)]) == 0
    return path


def evaluate(path: Path, *options: str) -> int:
    """Evaluate a run with `metarl evaluate`; returns the exit status."""
    return cli.run(
        ["evaluate", str(path), "--episodes", str(EPISODES), "--queries", "3", "--device", "cpu", "--quiet", *options]
    )


def content_of(path: Path) -> dict[str, Any]:
    """The content of the run's evaluation.json."""
    return json.loads((path / "evaluation.json").read_text())
