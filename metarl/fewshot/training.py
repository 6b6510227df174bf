"""Few-shot training: its options, the source of episodes, and what a configuration of it stands for."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import torch

from metarl.agents import EXAMPLES, entry, find
from metarl.config import read_config
from metarl.counts import Count
from metarl.devices import choose_device
from metarl.errors import UserError
from metarl.fewshot.data import data_set
from metarl.fewshot.episodes import Data, Episode
from metarl.fewshot.learner import FewShot
from metarl.fewshot.networks import Kind
from metarl.fewshot.sentences import check_size
from metarl.interface import Interface
from metarl.learner import Learner, Metrics, State
from metarl.loop import LoopOptions
from metarl.rollout import TASKS, generator
from metarl.run import Checkpoint, Run


@dataclass(frozen=True)
class FewShotOptions(LoopOptions):
    """Options that every few-shot learner shares."""

    steps: Count = 10_000
    """Outer updates, such as 2e4; rounded up to whole iterations."""
    updates: int = 100
    """Outer updates an iteration."""
    ways: int = 5
    """Classes of an episode."""
    shots: int = 1
    """Examples of each class to learn from."""
    queries: int = 5
    """Examples of each class to answer, in training."""
    meta_batch: int = 16
    """Episodes of an outer update."""
    rotations: bool = True
    """Omniglot: turned characters are classes of their own."""
    split_seed: int = 1
    """Decides which classes are trained on and which are held out, where the data set does not say."""
    image_size: int = 28
    """Height and width of images, pixels."""
    sentence_encoder: str | None = None
    """Texts: a model of sentence-transformers, by its name or folder, that embeds them, and is not trained; default: an
    embedding of words and parts of words is trained."""

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("updates", "shots", "queries", "meta_batch"):
            if getattr(self, name) < 1:
                raise UserError(f"{name} must be at least 1, not {getattr(self, name)}")

    @property
    def steps_per_iteration(self) -> int:
        """Outer updates of an iteration."""
        return self.updates


class Episodes:
    """The source of episodes: as many batches an iteration as there are outer updates, each a function of its number.

    Args:
        data: where they are drawn.
        options: ways, shots, queries, how many episodes a batch and batches an iteration.
        device: where the tensors go.
    """

    def __init__(self, data: Data, options: FewShotOptions, device: torch.device) -> None:
        self.data, self.options, self.device = data, options, device
        self.num_tasks, self.phases = options.meta_batch, options.updates
        self.progress: Callable[[float], None] = lambda share: None
        self.iteration = 0

    def begin(self, iteration: int) -> None:
        """See `Source`."""
        self.iteration = iteration

    def collect(self, learner: Learner, state: State, phase: int) -> tuple[Episode, State]:
        """Draw a batch of episodes; the learner has no part in it."""
        o = self.options
        rng = generator(o.seed, TASKS, self.iteration, phase)
        episode = self.data.draw("train", rng, tasks=o.meta_batch, ways=o.ways, shots=o.shots, queries=o.queries)
        self.progress(2 * (phase + 1) / o.updates)  # the loop takes collection for half of an iteration: here it is all
        return episode.map(lambda tensor: tensor.to(self.device)), state

    def report(self) -> Metrics:
        """The outer updates of the iteration."""
        return {"steps": self.options.updates}


class Setup(NamedTuple):
    """What a configuration stands for: see `metarl.loop.Training`."""

    options: FewShotOptions
    data: Data
    agent: FewShot
    source: Episodes

    def announcement(self) -> str:
        """What is trained on what, in words."""
        o, data = self.options, self.data
        shape = f"{o.ways} ways, {o.shots} shots, {o.queries} queries" if data.kind != "regression" else f"{o.shots} shots"
        where = f"Split: {data.split}.\nDevice {self.source.device}"
        precision = getattr(self.agent.settings, "precision", "float32")
        narrow = f", convolutions in {precision}" if precision != "float32" and self.agent.kind.name == "image" else ""
        return f"{o.updates} updates, each on {o.meta_batch} episodes of {shape}.\n{where}{narrow}"

    def interface(self) -> Interface:
        """See `metarl.interface`."""
        kind = self.agent.kind
        return {"kind": kind.name, "shape": list(kind.shape), "outputs": kind.outputs, "classes": self.agent.classes}

    def evaluate(self, run: Run, step: int) -> Metrics:
        """What `evaluate_every` logs."""
        from metarl.fewshot.evaluation import during_training  # which needs this module

        return during_training(self)

    def close(self) -> None:
        """Nothing is held."""


OPTIONS = FewShotOptions


def set_up(config: dict[str, Any], settings: Any, options: FewShotOptions) -> Setup:
    """Data, an untrained learner, and the source. See `metarl.config.set_up`.

    Raises:
        UserError: the data set cannot be had, has too few classes or examples, or is not what the learner is for.
    """
    device = choose_device(options.device)
    data = data_set(
        config["suite"], rotations=options.rotations, seed=options.split_seed, image_size=options.image_size,
        sentence_encoder=options.sentence_encoder, device=device,
    )  # fmt: skip
    learner, _ = find(config["agent"])
    regression = data.kind == "regression"
    if regression and not learner.regression:
        raise UserError(
            f"{config['agent']} tells classes apart, and {data.name} has none: maml, transfer or nearest can learn it"
        )
    kind = Kind(data.kind, data.example_shape, 1 if regression else options.ways)
    if "interface" in config and data.kind == "vector":
        check_size(options.sentence_encoder, kind.shape, config["interface"]["shape"])
    made = learner(
        settings, kind, seed=options.seed, device=device, classes=len(data.classes("train")),
        total_updates=options.total_steps,
    )  # fmt: skip
    source = Episodes(data, options, device)
    source.collect(made, None, 0)  # what does not fit is refused before anything is made
    return Setup(options, data, made, source)


def trained(run: Run, checkpoint: Checkpoint, ways: int | None = None, **changed: Any) -> Setup:
    """A run's data and its learner as it was at a checkpoint.

    Args:
        ways: of the episodes it is to answer; default: as trained.
        changed: options that replace the configured ones.

    Raises:
        UserError: the run is not a few-shot one, or its learner knows no other ways.
    """
    if entry(run.config["agent"]).training != EXAMPLES:
        raise UserError(f"{run.path} is a run of robots, not of a few-shot learner")
    settings, options = read_config(run.config)
    setup = set_up(run.config, settings, replace(options, **changed))
    setup.agent.load_state_dict(checkpoint.state)
    if ways is not None and ways != setup.agent.ways:
        if not setup.agent.any_ways:
            raise UserError(
                f"{run.config['agent']} was trained with {setup.agent.ways} ways and its head knows no other number"
            )
        setup.agent.ways = ways
    return setup
