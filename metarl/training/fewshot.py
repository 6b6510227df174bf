"""Few-shot training: its options, the source of episodes, and the set-up of data and learner from a configuration.

`metarl.training.setup` calls `set_up`.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch

from metarl.agents import AGENTS, find
from metarl.agents.fewshot.base import FewShot
from metarl.agents.fewshot.networks import Kind
from metarl.datasets.catalog import data_set
from metarl.datasets.episodes import PARTS, Data, Episode, Part, Resident
from metarl.datasets.sentences import check_size
from metarl.datasets.splits import held_out
from metarl.errors import UserError
from metarl.learner import Learner, Metrics, State
from metarl.rollouts.random_streams import TASKS, generator
from metarl.runs.io_spec import Interface
from metarl.system.counts import Count, plural
from metarl.system.devices import choose_device
from metarl.system.memory import of_a_network, refuse_beyond
from metarl.system.ranges import check
from metarl.training.options import LoopOptions

QUERIES = 15
"""Default number of queries per class in an evaluation."""
EVALUATED: tuple[Part, ...] = ("train", "test")
"""Parts of the data set from which an evaluation draws episodes."""


@dataclass(frozen=True)
class FewShotOptions(LoopOptions):
    """Options of every few-shot learner."""

    steps: Count = 10_000
    """Outer updates, such as 2e4; rounded up to whole iterations."""
    updates: int = 100
    """Outer updates per iteration."""
    ways: int = 5
    """Classes per episode."""
    shots: int = 1
    """Support examples per class."""
    queries: int = 5
    """Query examples per class, in training."""
    meta_batch: int = 16
    """Episodes per outer update."""
    rotations: bool = True
    """Omniglot: count rotated characters as additional classes."""
    split_seed: int = 1
    """Seed of the split into train and held-out classes, if the data set has no split itself."""
    image_size: int = 28
    """Height and width of images, pixels."""
    sentence_encoder: str | None = None
    """Texts: name or folder of a sentence-transformers model that embeds them and stays frozen; default: train an embedding
    of words and parts of words."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check(
            self,
            updates="[1, inf)",
            ways="[2, inf)",
            shots="[1, inf)",
            queries="[1, inf)",
            meta_batch="[1, inf)",
            image_size="[1, 4096]",
            split_seed="[0, inf)",
        )

    shorter = "--updates"

    @property
    def steps_per_iteration(self) -> int:
        """Outer updates per iteration."""
        return self.updates


class Episodes:
    """The source of episodes: one batch per outer update, determined by seed, iteration and phase.

    Args:
        data: the data set to draw from.
        options: ways, shots, queries, episodes per batch and batches per iteration.
        device: device of the tensors.
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
        """Draw a batch of episodes; learner and state are not used."""
        o = self.options
        rng = generator(o.seed, TASKS, self.iteration, phase)
        episode = self.data.draw("train", rng, tasks=o.meta_batch, ways=o.ways, shots=o.shots, queries=o.queries)
        self.progress(2 * (phase + 1) / o.updates)  # the loop counts 1 as half an iteration; collecting is all of it here
        return episode.map(lambda tensor: tensor.to(self.device)), state

    def report(self) -> Metrics:
        """The number of outer updates in the iteration, as `steps`."""
        return {"steps": self.options.updates}


class Setup(NamedTuple):
    """The objects that a configuration describes. See `metarl.training.loop.Training`."""

    options: FewShotOptions
    data: Data
    agent: FewShot
    source: Episodes

    def announcement(self) -> str:
        """Describe the training for the user: episodes, split and device."""
        o, data = self.options, self.data
        shape = plural(o.shots, "shot")
        shape = f"{o.ways} ways, {shape}, {plural(o.queries, 'query')}" if data.kind != "regression" else shape
        where = f"Split: {data.split}.\nDevice {self.source.device}"
        precision = getattr(self.agent.settings, "precision", "float32")
        narrow = f", convolutions in {precision}" if precision != "float32" and self.agent.kind.name == "image" else ""
        each = f"{plural(o.updates, 'update')}, each on {plural(o.meta_batch, 'episode')} of {shape}."
        return "\n".join([each, *self._to_evaluate(), where + narrow])

    def _to_evaluate(self) -> list[str]:
        """A hint with the options that `metarl evaluate` needs if its defaults do not fit this data set."""
        fits = _evaluable(self.data, self.options, self.agent)
        given = " ".join(f"--{name} {value}" for name, value in fits.items())
        return [f"The data set is small: metarl evaluate RUN {given}."] if given else []

    def interface(self) -> Interface:
        """See `metarl.runs.io_spec`."""
        kind = self.agent.kind
        return {"kind": kind.name, "shape": list(kind.shape), "outputs": kind.outputs, "classes": self.agent.classes}

    def close(self) -> None:
        """Do nothing: there are no resources to free."""


OPTIONS = FewShotOptions


def set_up(config: dict[str, Any], settings: Any, options: FewShotOptions) -> Setup:
    """Create data, an untrained learner and the source. See `metarl.training.setup.set_up`.

    Raises:
        UserError: the data set is not available, has too few classes or examples, or does not suit the learner.
    """
    device = choose_device(options.device)
    data = data_set(
        config["suite"],
        rotations=options.rotations,
        seed=options.split_seed,
        image_size=options.image_size,
        sentence_encoder=options.sentence_encoder,
        device=device,
    )
    learner, _ = find(config["agent"])
    regression = data.kind == "regression"
    if regression and not learner.regression:
        raise UserError(f"{config['agent']} tells classes apart, but {data.name} has none: use maml, transfer or nearest")
    kind = Kind(data.kind, data.example_shape, 1 if regression else options.ways)
    if "interface" in config and data.kind == "vector":
        check_size(options.sentence_encoder, kind.shape, config["interface"]["shape"])

    def make(device: torch.device) -> FewShot:
        return learner(
            settings,
            kind,
            seed=options.seed,
            device=device,
            classes=len(data.classes("train")),
            total_updates=options.total_steps,
        )

    o, needs = options, dict[str, float]()
    if device.type == "cpu" and config["agent"] in AGENTS:
        needs |= of_a_network(make, o.meta_batch if getattr(settings, "inner_steps", 0) else 0)
    needs |= episode_bytes(
        data, getattr(settings, "channels", 0), tasks=o.meta_batch, ways=o.ways, examples=o.shots + o.queries
    )
    refuse_beyond(needs, "smaller --meta-batch, --ways, --shots, --queries, --channels or --image-size need less")
    made = make(device)
    source = Episodes(data, options, device)
    source.collect(made, None, 0)  # fail on an impossible episode before a run directory exists
    _evaluable(data, options, made)
    return Setup(options, data, made, source)


def _evaluable(data: Data, o: FewShotOptions, learner: FewShot) -> dict[str, int]:
    """Options for `metarl evaluate` that fit the data set, as far as they differ from its defaults.

    Raises:
        UserError: no options fit, so the learner could be trained but never evaluated.
    """
    if not isinstance(data, Resident):
        return {}
    classes, fewest = len(data.classes("test")), min(int(data.parts[part].counts.min(initial=10**9)) for part in EVALUATED)
    ways = min(o.ways, classes) if learner.any_ways else o.ways
    shots = min(o.shots, fewest - 1)
    if ways < 2 or ways > classes:
        needed = ways if ways > 1 else 2
        raise UserError(
            f"{data.name} has {plural(classes, 'test class')}, of {plural(sum(len(data.classes(p)) for p in PARTS), 'class')} "
            f"in all, and {needed} ways need {needed}: it could be trained, but not evaluated. {_remedy(data, o, needed)}"
        )
    if shots < 1:
        raise UserError(f"{data.name} has a class with only one of its {data.examples}: one shot leaves no query")
    wanted = {"ways": (ways, o.ways), "shots": (shots, o.shots), "queries": (min(QUERIES, fewest - shots), QUERIES)}
    return {name: fit for name, (fit, default) in wanted.items() if fit != default}


def _remedy(data: Resident, o: FewShotOptions, ways: int) -> str:
    enough = next(n for n in range(3, 10**6) if held_out(n) >= ways)
    folders = " Or add folders train, validation and test for a split." if data.kind == "image" else ""
    fewer = f" Or use fewer --ways than {o.ways}." if o.ways > 2 else ""
    return f"A split by share holds out {ways} of {enough} classes.{fewer}{folders}"


def episode_bytes(data: Data, channels: int, *, tasks: int, ways: int, examples: int) -> dict[str, float]:
    """Lower bound of the memory of a batch, bytes: the examples and, for images, the output of the network's first layer.

    Args:
        channels: channels of the network.
        tasks: episodes per batch.
        ways, examples: classes per episode, and examples per class.
    """
    shape, count = data.example_shape, tasks * examples * (1 if data.kind == "regression" else ways)
    layer = channels * math.prod(shape[1:]) // 4 if data.kind == "image" else 0  # a convolution may be strided
    return {f"{count:,} examples of an update": 4.0 * count * (math.prod(shape) + layer)}
