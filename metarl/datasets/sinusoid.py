"""Draw tasks of sinusoid regression, the first experiment of MAML (Finn et al. 2017, section 5.1)."""

from dataclasses import dataclass

import numpy as np
import torch

from metarl.datasets.episodes import Episode, Examples, Part


@dataclass(frozen=True)
class Sinusoid:
    """y = A sin(x - phase): A in [0.1, 5], phase in [0, pi], x in [-5, 5], all uniform. See `metarl.datasets.episodes.Data`."""

    name: str = "sinusoid"
    kind: str = "regression"
    split: str = "tasks of every part are drawn from the same distribution: amplitude 0.1 to 5, phase 0 to pi, x from -5 to 5"
    example_shape: tuple[int, ...] = (1,)

    def classes(self, part: Part) -> tuple[str, ...]:
        """Return no names: a task is a curve."""
        return ()

    def draw(self, part: Part, rng: np.random.Generator, *, tasks: int, ways: int = 0, shots: int, queries: int) -> Episode:
        """Draw a curve per task, with `shots` points to learn from and `queries` points to predict."""
        amplitude, phase = rng.uniform(0.1, 5, (tasks, 1, 1)), rng.uniform(0, np.pi, (tasks, 1, 1))
        points = rng.uniform(-5, 5, (tasks, shots + queries, 1))
        # y = A sin(x - phase)
        x, y = (torch.from_numpy(v.astype(np.float32)) for v in (points, amplitude * np.sin(points - phase)))
        return Episode(Examples(x[:, :shots], y[:, :shots]), Examples(x[:, shots:], y[:, shots:]), None)


def sine_curves(points: Examples, x: np.ndarray) -> np.ndarray:
    """Evaluate the sine curves through the points (tasks, n, 1) of each task, n at least 2, at x (m,): (tasks, m)."""
    # A sin(x - phase) = a sin x + b cos x
    basis = np.concatenate([np.sin(points.x.numpy()), np.cos(points.x.numpy())], -1)
    coefficients = np.linalg.pinv(basis) @ points.y.numpy()
    return (np.stack([np.sin(x), np.cos(x)], -1) @ coefficients)[..., 0]
