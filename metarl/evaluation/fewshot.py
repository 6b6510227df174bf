"""Evaluates few-shot learners: accuracy or error as a function of shots, on train, validation and held-out classes."""

from collections.abc import Callable
from copy import copy
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from metarl.agents.fewshot.base import Comparing, FewShot, score_by_task
from metarl.datasets.episodes import Data, Episode, Examples, Part
from metarl.evaluation import intervals as statistics
from metarl.evaluation.fewshot_diagnostics import Diagnostics
from metarl.evaluation.fewshot_schema import FewShotEvaluation
from metarl.evaluation.session import session
from metarl.evaluation.vocabulary import EPISODES
from metarl.rollouts.random_streams import EVALUATION, generator
from metarl.runs.checkpoints import Checkpoint
from metarl.runs.directory import Run
from metarl.runs.provenance import PACKAGES, git_commit
from metarl.system.counts import Count
from metarl.system.file_names import suffix
from metarl.system.journal import Journal
from metarl.system.machine import versions
from metarl.system.memory import refuse_beyond
from metarl.system.ranges import check
from metarl.training.fewshot import EVALUATED, QUERIES, episode_bytes
from metarl.training.setup import trained_few_shot

TASKS = 20
"""Episodes per batch; fixed, because the last digits of a matrix product depend on the number of rows."""
_STREAMS: dict[Part, int] = {"train": 0, "validation": 1, "test": 2}


@dataclass(frozen=True)
class Plan:
    """Which episodes an evaluation answers."""

    episodes: Count = 1000
    """Episodes on the held-out classes, and as many on the training classes."""
    ways: int | None = None
    """Classes per episode; default: as trained. MAML's head supports no other number."""
    shots: int | None = None
    """Maximum examples per class: the curve covers 0, 1, ... up to this number; default: as trained."""
    queries: int = QUERIES
    """Query examples per class."""
    seed: int = 0
    """Seed of the episodes, which are the same for every learner."""
    train: bool = True
    """Evaluate on training classes too, to show the generalisation gap."""
    device: str = "auto"
    """auto, cpu or cuda."""

    def __post_init__(self) -> None:
        check(self, episodes="[1, inf)", ways="[2, inf)", shots="[1, inf)", queries="[1, inf)", seed="[0, inf)")

    @property
    def suffix(self) -> str:
        """The part of a file's name that tells how the plan differs from the default, except for ways and shots."""
        return suffix(self, {"episodes": "n", "queries": "q", "seed": "s", "train": "train"})


def first_shots(support: Examples, shots: int, ways: int) -> Examples:
    """The first `shots` examples of each class, (tasks, ways * shots); for regression, the first `shots` examples."""
    if support.y.is_floating_point():
        return Examples(support.x[:, :shots], support.y[:, :shots])
    one_hot = torch.nn.functional.one_hot(support.y, ways)
    place = (one_hot.cumsum(1) * one_hot).sum(-1)  # 1 for the first of a class, 2 for the second, ...
    rows = (place <= shots).nonzero()[:, 1].view(len(place), ways * shots)
    tasks = torch.arange(len(place), device=rows.device)[:, None]
    return Examples(support.x[tasks, rows], support.y[tasks, rows])


@torch.no_grad()
def curve(learner: FewShot, episode: Episode, shots: int) -> tuple[np.ndarray, Tensor]:
    """Accuracy or mean squared error of each task after 0, 1, ... shots, (tasks, shots + 1), and the last prediction."""
    learner, episode = _encoded(learner, episode)
    by_shots = []
    for k in range(shots + 1):
        state = learner.initial_state(len(episode.query.x))
        if k:
            state = learner.adapt(state, first_shots(episode.support, k, learner.ways))
        prediction, _ = learner.predict(state, episode.query.x)
        by_shots.append(score_by_task(prediction, episode.query.y))
    return torch.stack(by_shots, 1).cpu().numpy(), prediction


def _encoded(learner: FewShot, episode: Episode) -> tuple[FewShot, Episode]:
    """For a learner that compares features: encode the episode once, and return a learner that takes features as examples."""
    if not isinstance(learner, Comparing):
        return learner, episode
    support, query = (Examples(learner.features(half.x), half.y) for half in (episode.support, episode.query))
    of_features = copy(learner)
    of_features.features = lambda x: x  # type: ignore[method-assign]
    return of_features, Episode(support, query, episode.classes)


def evaluate(
    learner: FewShot,
    data: Data,
    part: Part,
    *,
    episodes: int,
    shots: int,
    queries: int,
    seed: int,
    device: torch.device,
    progress: Callable[[int], None] = lambda episodes: None,
    journal: Journal | None = None,
    diagnostics: Diagnostics | None = None,
) -> np.ndarray:
    """Evaluate a learner on episodes of a part; returns its curves over shots, (episodes, shots + 1).

    Args:
        learner: the learner to evaluate; it is not changed.
        data, part: where to draw the episodes.
        episodes, shots, queries: how many; shots and queries are per class.
        seed: of the episodes.
        device: where the learner's tensors are.
        progress: called with the number of episodes done.
        journal: holds the batches done before, and records new ones.
        diagnostics: records further notes on each batch.
    """

    def answer_batch(first: int) -> dict[str, Any]:
        rng = generator(seed, EVALUATION, _STREAMS[part], first)
        episode = data.draw(part, rng, tasks=TASKS, ways=learner.ways, shots=shots, queries=queries)
        episode = episode.map(lambda tensor: tensor.to(device))
        figures, prediction = curve(learner, episode, shots)
        results: dict[str, Any] = {"figures": figures.tolist()}
        if diagnostics:
            results["notes"] = diagnostics.note(episode, figures, prediction, min(TASKS, episodes - first), first == 0)
        return results

    rows: list[list[float]] = []
    for first in range(0, episodes, TASKS):
        results = journal.part(f"{part}/{first}", partial(answer_batch, first)) if journal else answer_batch(first)
        if diagnostics:
            diagnostics.notes.append(results["notes"])
        rows += results["figures"]
        progress(len(rows))
    return np.array(rows[:episodes])


def evaluate_checkpoint(run: Run, checkpoint: Checkpoint, plan: Plan, quiet: bool = False) -> tuple[FewShotEvaluation, Path]:
    """Evaluate a checkpoint and write evaluations/episodes_<checkpoint>_<ways>w<shots>s<plan>.json.

    Returns:
        The file's content and its path.
    """
    setup = trained_few_shot(run, checkpoint, plan.ways, device=plan.device)
    learner, options = setup.agent, setup.options
    shots = plan.shots or options.shots
    batch = {"tasks": TASKS, "ways": learner.ways, "examples": shots + plan.queries}
    needs = episode_bytes(setup.data, getattr(learner.settings, "channels", 0), **batch)
    needs[f"figures of {plan.episodes:,} episodes"] = plan.episodes * (shots + 1) * 40
    refuse_beyond(needs, "smaller --episodes, --shots or --queries need less")
    content: FewShotEvaluation = {
        "protocol": EPISODES,
        "run": run.path.name,
        "agent": run.experiment.agent,
        "suite": run.experiment.suite,
        "split": setup.data.split,
        "run_seed": options.seed,
        "checkpoint": checkpoint.path.name,
        "step": checkpoint.step,
        "episodes": plan.episodes,
        "ways": learner.ways,
        "shots": shots,
        "queries": plan.queries,
        "seed": plan.seed,
        "train": plan.train,
        "device": setup.source.device.type,
        "trained_with": {"ways": options.ways, "shots": options.shots},
        "measure": learner.kind.measure,
        "transductive": getattr(learner.settings, "transductive", False),
        "confidence": statistics.CONFIDENCE,
        "packages": versions(PACKAGES),
        "git_commit": git_commit(),
        "sides": {},
    }
    name = f"{EPISODES}_{checkpoint.path.name}_{learner.ways}w{shots}s{plan.suffix}"
    work = {**content, "weights": checkpoint.digest, "notes": True}
    del work["sides"]
    parts = EVALUATED if plan.train else ("test",)
    answers = learner.ways * plan.queries
    with session(run, name, work, len(parts) * plan.episodes, unit="episodes", quiet=quiet) as (journal, bar):
        for part in parts:
            diagnostics = Diagnostics(learner, setup.data, part, answers) if part == "test" else None
            figures = evaluate(
                learner,
                setup.data,
                part,
                episodes=plan.episodes,
                shots=shots,
                queries=plan.queries,
                seed=plan.seed,
                device=setup.source.device,
                journal=journal,
                diagnostics=diagnostics,
                progress=bar.part(plan.episodes),
            )
            summary: Any = diagnostics.content() if diagnostics else {}
            content["sides"][part] = {
                "by_shots": [list(statistics.of_episodes(learner.kind.measure, column, answers)) for column in figures.T],
                "figures": np.round(figures, 6).tolist(),
                **summary,
            }
        path = run.store(content, name)
    return content, path
