"""Options of a training, which all agents of its kind share; an agent's own are its settings."""

import math
from dataclasses import dataclass, fields
from pathlib import Path
from typing import ClassVar

from metarl.agents import CONTROL, FEW_SHOT, Preset, entry, find
from metarl.errors import UserError, unknown
from metarl.gymnasium_ids import HORIZON
from metarl.rollouts.compiled import ACTING
from metarl.system.counts import Count
from metarl.system.ranges import check
from metarl.system.user_code import is_named


@dataclass(frozen=True)
class LoopOptions:
    """Options of every training."""

    seed: int = 1
    """Seed of weights, sampling and exploration. It does not change goals or classes."""
    steps: Count = 2_000_000
    """Length of training in steps, such as 2e6; rounded up to whole iterations."""
    device: str = "auto"
    """auto, cpu or cuda."""
    preset: str | None = None
    """Named settings instead of the defaults (see `metarl list`). Options on the command line override the preset."""
    run_dir: Path | None = None
    """Directory of the run. Default: runs/<agent>_<suite>_s<seed>_<time>."""
    checkpoint_every: int = 1
    """Iterations between checkpoints."""
    keep_checkpoints: int = 3
    """Number of newest checkpoints to keep; 0: all."""
    evaluate_every: int = 0
    """Iterations between evaluations during training; 0: none."""
    evaluate_on: str = "validation"
    """Where to evaluate during training. validation: goals of the train tasks (classes) that are neither trained on nor held
    out. test: the held-out ones; choices made on these results bias later results on them, so reports mark the run."""
    quiet: bool = False
    """Print only errors."""
    debug: bool = False
    """Show a traceback with errors."""

    def __post_init__(self) -> None:
        check(
            self,
            steps="[1, inf)",
            checkpoint_every="[1, inf)",
            evaluate_every="[0, inf)",
            keep_checkpoints="[0, inf)",
            seed="[0, inf)",
        )
        if self.evaluate_on not in ("validation", "test"):
            raise UserError(f"evaluate_on must be validation or test, not {self.evaluate_on!r}")

    shorter: ClassVar[str]
    """The options that make an iteration smaller, for error messages."""

    @property
    def steps_per_iteration(self) -> int:
        """Steps per iteration."""
        raise NotImplementedError

    @property
    def iterations(self) -> int:
        """Number of iterations needed to reach `steps`."""
        return math.ceil(self.steps / self.steps_per_iteration)

    @property
    def total_steps(self) -> int:
        """Steps of all iterations: `steps`, rounded up."""
        return self.iterations * self.steps_per_iteration


@dataclass(frozen=True)
class TrainOptions(LoopOptions):
    """Options of every agent trained on environments."""

    suite_seed: int = 1
    """Seed of the train and held-out goals."""
    goals: Count = 50
    """Goals per task; Meta-World uses 50."""
    task_id: bool = False
    """Append the task as a one-hot vector to the observation (multi-task suites)."""
    num_envs: int = 20
    """Environments stepped together, each on its own task."""
    episodes_per_trial: int = 10
    """Episodes per trial, in which the agent adapts to one task."""
    max_episode_steps: int = HORIZON
    """Steps after which an episode is cut off."""
    engine: str = "auto"
    """Simulation engine: auto, native or python (see `metarl list`)."""
    acting: str = "auto"
    """How the policy acts: compiled (in compiled code beside the native engine), python (in torch), or auto."""
    reward: str = "v2"
    """Version of Meta-World's reward: v2, or v1 (results published before 2021)."""
    terminate_on_success: bool = False
    """End episodes at their first success. Agents then learn to stop just short of the goal and collect reward."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check(
            self,
            num_envs="[1, inf)",
            episodes_per_trial="[1, inf)",
            max_episode_steps="[1, inf)",
            goals="[1, 100000]",
            suite_seed="[0, 4294967294]",
        )
        if self.acting not in ACTING:
            raise unknown("acting", self.acting, ACTING)

    shorter = "--num-envs, --episodes-per-trial or --max-episode-steps"

    @property
    def steps_per_iteration(self) -> int:
        """Environment steps per iteration, over all environments."""
        return self.num_envs * self.episodes_per_trial * self.max_episode_steps


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


_OPTIONS: dict[str, type[LoopOptions]] = {CONTROL: TrainOptions, FEW_SHOT: FewShotOptions}
"""The options of each kind of training."""


def options_of(agent: str) -> type[LoopOptions]:
    """The options class for this agent's kind of training.

    Raises:
        UserError: no such agent, or settings or presets of a user-defined agent conflict with these options.
    """
    options = _OPTIONS[entry(agent).training]
    if is_named(agent):
        for preset in find(agent)[1].values():
            _check_preset(agent, preset, {field.name for field in fields(options)} | {"suite", "resume"})
    return options


def _check_preset(agent: str, preset: Preset, options: set[str]) -> None:
    ambiguous = sorted(options & {field.name for field in fields(preset.settings)})
    if ambiguous:
        names = ", ".join(ambiguous)
        raise UserError(f"{agent}: {names} is an option of every training already: give the setting another name")
    unknown = sorted(preset.options.keys() - options)
    if unknown:
        raise UserError(f"{agent}: {', '.join(unknown)} is not an option of its training")
