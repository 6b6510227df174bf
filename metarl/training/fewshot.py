"""Few-shot training: the source of episodes, and the set-up of data and learner of an experiment.

`metarl.training.setup` calls `set_up`.
"""

import math
from collections.abc import Callable
from functools import partial
from typing import NamedTuple

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
from metarl.runs.experiment import Experiment
from metarl.runs.io_spec import IoSpec, examples, of_examples
from metarl.runs.options import FewShotOptions
from metarl.system.counts import plural
from metarl.system.devices import choose_device
from metarl.system.memory import of_a_network, refuse_beyond
from metarl.training.agents import create_learner

QUERIES = 15
"""Default number of queries per class in an evaluation."""
EVALUATED: tuple[Part, ...] = ("train", "test")
"""Parts of the data set from which an evaluation draws episodes."""


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
    """The objects that an experiment describes. See `metarl.training.loop.Training`."""

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
        updates = f"{plural(o.updates, 'update')}, each on {plural(o.meta_batch, 'episode')} of {shape}."
        return "\n".join([updates, *self._to_evaluate(), where + narrow])

    def _to_evaluate(self) -> list[str]:
        """A hint with the options that `metarl evaluate` needs if its defaults do not fit this data set."""
        fitting = _evaluable(self.data, self.options, self.agent)
        arguments = " ".join(f"--{name} {value}" for name, value in fitting.items())
        return [f"The data set is small: metarl evaluate RUN {arguments}."] if arguments else []

    def io_spec(self) -> IoSpec:
        """See `metarl.runs.io_spec`."""
        return of_examples(self.agent.kind, self.agent.classes)

    def close(self) -> None:
        """Do nothing: there are no resources to free."""


def set_up(experiment: Experiment) -> Setup:
    """Create data, an untrained learner and the source. See `metarl.training.setup.set_up`.

    Raises:
        UserError: the data set is not available, has too few classes or examples, or does not suit the learner.
    """
    options, settings = experiment.options, experiment.settings
    assert isinstance(options, FewShotOptions)
    device = choose_device(options.device)
    data = data_set(
        experiment.suite,
        rotations=options.rotations,
        seed=options.split_seed,
        image_size=options.image_size,
        sentence_encoder=options.sentence_encoder,
        device=device,
    )
    learner_class, _ = find(experiment.agent)
    regression = data.kind == "regression"
    if regression and not learner_class.regression:
        raise UserError(f"{experiment.agent} tells classes apart, but {data.name} has none: use maml, transfer or nearest")
    kind = Kind(data.kind, data.example_shape, 1 if regression else options.ways)
    if experiment.io_spec is not None and data.kind == "vector":
        check_size(options.sentence_encoder, kind.shape, examples(experiment.io_spec)[0].shape)
    create = partial(create_learner, experiment, kind, len(data.classes("train")))
    o, needs = options, dict[str, float]()
    if device.type == "cpu" and experiment.agent in AGENTS:
        needs |= of_a_network(create, o.meta_batch if getattr(settings, "inner_steps", 0) else 0)
    needs |= episode_bytes(
        data, getattr(settings, "channels", 0), tasks=o.meta_batch, ways=o.ways, examples=o.shots + o.queries
    )
    refuse_beyond(needs, "smaller --meta-batch, --ways, --shots, --queries, --channels or --image-size need less")
    learner = create(device)
    source = Episodes(data, options, device)
    source.collect(learner, None, 0)  # fail on an impossible episode before a run directory exists
    _evaluable(data, options, learner)
    return Setup(options, data, learner, source)


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
        least = ways if ways > 1 else 2
        raise UserError(
            f"{data.name} has {plural(classes, 'test class')}, of {plural(sum(len(data.classes(p)) for p in PARTS), 'class')} "
            f"in all, and {least} ways need {least}: it could be trained, but not evaluated. {_remedy(data, o, least)}"
        )
    if shots < 1:
        raise UserError(f"{data.name} has a class with only one of its {data.examples}: one shot leaves no query")
    sizes = {"ways": (ways, o.ways), "shots": (shots, o.shots), "queries": (min(QUERIES, fewest - shots), QUERIES)}
    return {name: fit for name, (fit, default) in sizes.items() if fit != default}


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
