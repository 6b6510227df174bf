"""Records diagnostics of a few-shot evaluation: class confusions, example episodes, figures by gradient step.

The notes are JSON, one per batch, so that an interrupted evaluation keeps them. The evaluation's file holds their summary,
which is small and free of tensors, so that reports load it quickly.
"""

import base64
import io
from collections.abc import Iterator, Sequence
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from metarl.agents.fewshot.base import FewShot, score_by_task
from metarl.datasets.episodes import Data, Episode, Examples, Part, Resident
from metarl.datasets.sinusoid import sine_curves
from metarl.datasets.text import Texts
from metarl.evaluation import intervals as statistics
from metarl.learner import State

STEPS = {"accuracy": (0, 1, 2, 3, 5, 10), "mse": tuple(range(11))}
"""Numbers of gradient steps after which a gradient-based learner is measured, by measure."""
EPISODES, FEWER, MANY_WAYS = 4, 2, 10
"""Number of example episodes, taken from the start of the stream; fewer if they have more than `MANY_WAYS` ways."""
WAYS, EACH = 20, 5
"""Limits of an example episode: classes, and examples per class in the support and in the query."""
TILE = 56
"""Maximum height and width of example images, pixels."""
MATRIX, PAIRS, SEEN, CLASSES = 30, 50, 10, 50
"""Maximum rows of the confusion matrix, confusions listed, confusions shown with examples, and classes by accuracy."""
GRID = np.linspace(-5, 5, 101)
"""Points at which regression curves are drawn."""


@runtime_checkable
class Stepwise(Protocol):
    """A learner that adapts by gradient steps and can return the state after each."""

    @property
    def steps(self) -> int:
        """Number of gradient steps that `adapt` takes."""

    def after(self, state: State, support: Examples, counts: Sequence[int]) -> list[State]:
        """The states after each of these numbers of steps, starting from `state`; 0: `state` itself."""


class Diagnostics:
    """Collects the notes of an evaluation of one part.

    Args:
        learner: the learner being evaluated.
        data, part: the data it is evaluated on.
        answers: queries per episode.
    """

    def __init__(self, learner: FewShot, data: Data, part: Part, answers: int) -> None:
        self.learner, self.data, self.part, self.answers = learner, data, part, answers
        steps = {*STEPS[learner.kind.measure], learner.steps} if isinstance(learner, Stepwise) else ()
        self.counts = sorted(steps)
        self.notes: list[dict[str, Any]] = []

    @torch.no_grad()
    def note(self, episode: Episode, figures: np.ndarray, prediction: Tensor, count: int, first: bool) -> dict[str, Any]:
        """Note diagnostics of the first `count` tasks of a batch.

        Args:
            episode: the whole batch, since the last digits of results depend on its number of tasks.
            figures, prediction: see `metarl.evaluation.fewshot.curve`.
            count: number of tasks to note.
            first: whether this is the part's first batch, which provides the example episodes.
        """
        initial, states = self.learner.initial_state(len(episode.query.x)), list[State]()
        note: dict[str, Any] = {}
        if isinstance(self.learner, Stepwise):
            states = self.learner.after(initial, episode.support, self.counts)
            known = {0: figures[:, 0], self.learner.steps: figures[:, -1]}
            scores = [known[n] if n in known else self._score(state, episode.query) for n, state in zip(self.counts, states)]
            note["steps"] = np.stack(scores, 1)[:count].tolist()
        if episode.classes is None:
            note["examples"] = self._curves(episode, initial, states, count) if first else []
            return note
        note["classes"] = episode.classes[:count].tolist()
        truth = torch.nn.functional.one_hot(episode.query.y[:count], self.learner.ways)
        answer = torch.nn.functional.one_hot(prediction[:count].argmax(-1), self.learner.ways)
        note["answers"] = torch.einsum("tqi,tqj->tij", truth.double(), answer.double()).long().tolist()
        examples = min(count, EPISODES if self.learner.ways <= MANY_WAYS else FEWER)
        note["examples"] = [self._example(episode, prediction, t) for t in range(examples)] if first else []
        return note

    def content(self) -> dict[str, Any]:
        """Summarise the notes: `examples`, and `by_steps` and `answers` if they apply."""
        summary: dict[str, Any] = {"examples": [example for note in self.notes for example in note["examples"]]}
        if self.counts:
            summary["by_steps"] = self._by_steps(np.array([row for note in self.notes for row in note["steps"]]))
        if isinstance(self.data, Resident):
            classes, answers = (np.array([x for note in self.notes for x in note[key]]) for key in ("classes", "answers"))
            summary["answers"] = self._answers(self.data, classes, answers)
        return summary

    # ------------------------------------------------------------------ gradient steps

    def _score(self, state: State, query: Examples) -> np.ndarray:
        """The measure of each task, predicted from its state."""
        return score_by_task(self.learner.predict(state, query.x)[0], query.y).cpu().numpy()

    def _by_steps(self, figures: np.ndarray) -> dict[str, Any]:
        """Means after each number of steps, and their paired differences from the number that `adapt` takes."""
        as_adapt = self.counts.index(self.learner.steps)  # type: ignore[attr-defined]
        adapted = figures[:, as_adapt]
        measure, n = self.learner.kind.measure, self.answers
        return {
            "steps": self.counts,
            "taken": self.counts[as_adapt],
            "measured": [list(statistics.of_episodes(measure, column, n)) for column in figures.T],
            "difference": [
                [0.0, 0.0, 0.0] if i == as_adapt else list(statistics.change_of_episodes(measure, column, adapted, n))
                for i, column in enumerate(figures.T)
            ],
        }

    # ------------------------------------------------------------------ classes

    def _answers(self, data: Resident, classes: np.ndarray, answers: np.ndarray) -> dict[str, Any]:
        """Find hard and confused classes; `classes` is (episodes, ways), `answers` (episodes, ways, ways)."""
        names, queries = data.classes(self.part), answers.sum(-1)
        right = np.diagonal(answers, axis1=1, axis2=2)
        grouped = all("/" in name for name in names)
        groups = [name.split("/")[0] for name in names] if grouped else list(names)
        pairs = list(_confusions(classes, answers))
        seen = list(dict.fromkeys(c for pair in pairs[:SEEN] for c in pair[:2]))
        rates = right / np.maximum(queries, 1)
        return {
            "asked": int(queries.sum()),
            "right": int(right.sum()),
            "class": data.group,
            "example": data.examples,
            "confusions": [[names[a], names[b], n, together] for a, b, n, together in pairs[:PAIRS]],
            "confused": len(pairs),
            "seen": {"classes": [names[c] for c in seen], "items": _displayed(data, data.first(self.part, seen))},
            "by_class": _hardest(list(names), classes, rates),
            "classes": len(np.unique(classes)),
            "by_group": _hardest(groups, classes, rates) if grouped else [],
            "matrix": _matrix(groups, classes, answers, grouped),
        }

    def _example(self, episode: Episode, prediction: Tensor, t: int) -> dict[str, Any]:
        """An example episode for display: some support examples and some answered queries of each class."""
        assert isinstance(self.data, Resident)
        assert episode.classes is not None
        names, chances = self.data.classes(self.part), prediction[t].double().softmax(-1)
        best, highest = chances.argmax(-1).tolist(), chances.amax(-1)
        rows: list[tuple[int, list[int], list[int]]] = []
        for way in range(min(self.learner.ways, WAYS)):
            support, query = (half.y[t].eq(way).nonzero()[:EACH, 0].tolist() for half in (episode.support, episode.query))
            rows.append((way, support, query))
        x = torch.cat([episode.support.x[t], episode.query.x[t]]).cpu()
        of_query = len(episode.support.x[t])
        order = [i for _, support, query in rows for i in (*support, *(of_query + q for q in query))]
        place = {i: n for n, i in enumerate(order)}
        return {
            "classes": [names[c] for c in episode.classes[t].tolist()],
            "right": int((prediction[t].argmax(-1) == episode.query.y[t]).sum()),
            "asked": len(episode.query.y[t]),
            "items": _displayed(self.data, x[order]),
            "support": [[place[i] for i in support] for _, support, _ in rows],
            # the item, the predicted class, its probability, and the probability of the right class
            "query": [
                [[place[of_query + q], best[q], _round(highest[q]), _round(chances[q, way])] for q in query]
                for way, _, query in rows
            ],
        }

    # ------------------------------------------------------------------ regression

    def _curves(self, episode: Episode, initial: State, states: list[State], count: int) -> list[dict[str, Any]]:
        """The true curves, the support, and the predictions before and after adapting, or after each step."""
        x = torch.tensor(GRID, dtype=torch.float32, device=self.learner.device)
        query = x[:, None].expand(len(episode.query.x), -1, 1)
        after = states or [initial, self.learner.adapt(initial, episode.support)]
        lines = np.stack([self.learner.predict(state, query)[0][..., 0].cpu().numpy() for state in after], 1)
        points = episode.map(Tensor.cpu)
        both = Examples(*(torch.cat([a, b], 1) for a, b in zip(points.support, points.query)))
        truth = sine_curves(both, GRID) if both.x.shape[1] > 1 else None
        return [
            {
                "x": _rounded(GRID),
                "true": None if truth is None else _rounded(truth[t]),
                "support": _rounded(torch.cat(points.support, -1)[t].numpy()),
                "steps": self.counts or None,
                "curves": _rounded(lines[t]),
            }
            for t in range(min(count, EPISODES))
        ]


def _round(value: Tensor) -> float:
    return round(float(value), 4)


def _rounded(values: np.ndarray) -> Any:
    return np.round(values.astype(float), 4).tolist()


def _displayed(data: Resident, x: Tensor) -> list[str] | dict[str, Any]:
    """Examples in a form that can be shown: texts, or one picture with the images stacked vertically."""
    if not len(x):
        return []
    if isinstance(data, Texts):
        return data.texts(x)
    pixels = (x * 255).round().byte().permute(0, 2, 3, 1).numpy()
    images = [Image.fromarray(image[..., 0] if image.shape[-1] == 1 else image) for image in pixels]
    size = min(TILE, pixels.shape[1])
    if size < pixels.shape[1]:
        images = [image.resize((size, size), Image.Resampling.LANCZOS) for image in images]
    stack = Image.new(images[0].mode, (size, size * len(images)))
    for i, image in enumerate(images):
        stack.paste(image, (0, i * size))
    file = io.BytesIO()
    grey = stack.mode == "L"
    stack.save(file, "PNG", optimize=True) if grey else stack.save(file, "JPEG", quality=85)
    return {"image": base64.b64encode(file.getvalue()).decode(), "size": size, "count": len(images)}


def _confusions(classes: np.ndarray, answers: np.ndarray) -> Iterator[tuple[int, int, int, int]]:
    """Yield class, mistaken class, how often, and how many queries offered that choice; most frequent first."""
    total = int(classes.max()) + 1
    keys = classes[:, :, None] * total + classes[:, None, :]
    pairs, place = np.unique(keys, return_inverse=True)
    times, together = (
        np.bincount(place.ravel(), np.broadcast_to(values, keys.shape).ravel()).astype(int)
        for values in (answers, answers.sum(-1, keepdims=True))
    )
    wrong = np.flatnonzero((times > 0) & (pairs // total != pairs % total))
    for i in wrong[np.argsort(-times[wrong], kind="stable")]:
        yield int(pairs[i] // total), int(pairs[i] % total), int(times[i]), int(together[i])


def _hardest(groups: list[str], classes: np.ndarray, rates: np.ndarray) -> list[list[Any]]:
    """Rows of name, accuracy with its interval over episodes, and number of occurrences; hardest first."""
    number = {name: i for i, name in enumerate(dict.fromkeys(groups))}
    of = np.array([number[name] for name in groups])[classes].ravel()
    counts = np.bincount(of, minlength=len(number))
    means = np.bincount(of, rates.ravel(), len(number)) / np.maximum(counts, 1)
    names = list(number)
    hardest = [i for i in np.argsort(means, kind="stable") if counts[i]][:CLASSES]
    return [[names[i], *statistics.proportion(rates.ravel()[of == i]), int(counts[i])] for i in hardest]


def _matrix(groups: list[str], classes: np.ndarray, answers: np.ndarray, grouped: bool) -> dict[str, Any]:
    """Count answers by class, or by group of classes, and how often each answer was possible.

    For groups, the diagonal counts other classes of the same group. Keeps the `MATRIX` rows with the most wrong answers.
    """
    number = {name: i for i, name in enumerate(dict.fromkeys(groups))}
    of, n = np.array([number[name] for name in groups])[classes], len(number)
    keys = of[:, :, None] * n + of[:, None, :]
    same = np.eye(classes.shape[1], dtype=bool)
    used = ~np.broadcast_to(same & grouped, keys.shape)
    counts, possible = (
        np.bincount(keys[used], np.broadcast_to(values, keys.shape)[used], n * n).reshape(n, n).astype(int)
        for values in (answers, answers.sum(-1, keepdims=True))
    )
    wrong = np.bincount(of.ravel(), (answers * ~same).sum(-1).ravel(), n)
    present = np.flatnonzero(np.bincount(of.ravel(), minlength=n))
    chosen = np.sort(present[np.argsort(-wrong[present], kind="stable")][:MATRIX])
    names = list(number)
    return {
        "grouped": grouped,
        "all": len(present),
        "names": [names[i] for i in chosen],
        "counts": counts[np.ix_(chosen, chosen)].tolist(),
        "asked": possible[np.ix_(chosen, chosen)].tolist(),
    }
