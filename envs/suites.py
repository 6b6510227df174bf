"""Tasks, task distributions, and the suites of Meta-World: which goals are trained on and which are held out."""

import json
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from importlib.metadata import version
from typing import Any

import gymnasium
import numpy as np

from metarl import cache
from metarl.errors import UserError, unknown

SUITES = {
    "ml1:TASK": "one task, 50 train goals and 50 held-out goals: ml1:reach-v3, ml1:push-v3, ...",
    "ml10": "10 train tasks and 5 held-out tasks, 50 goals each",
    "ml45": "45 train tasks and 5 held-out tasks, 50 goals each",
}

TASKS = tuple(
    f"{name}-v3"
    for name in (
        "assembly basketball bin-picking box-close button-press button-press-topdown button-press-topdown-wall "
        "button-press-wall coffee-button coffee-pull coffee-push dial-turn disassemble door-close door-lock door-open "
        "door-unlock drawer-close drawer-open faucet-close faucet-open hammer hand-insert handle-press "
        "handle-press-side handle-pull handle-pull-side lever-pull peg-insert-side peg-unplug-side pick-out-of-hole "
        "pick-place pick-place-wall plate-slide plate-slide-back plate-slide-back-side plate-slide-side push push-back "
        "push-wall reach reach-wall shelf-place soccer stick-pull stick-push sweep sweep-into window-close window-open"
    ).split()
)
"""Names of the 50 Meta-World tasks."""


@dataclass(frozen=True)
class Task:
    """One environment with one fixed set of parameters.

    Attributes:
        name: the environment's name, such as "reach-v3".
        params: what distinguishes the task from others of that name. Meta-World: the entries of its `rand_vec`, metres.
    """

    name: str
    params: Hashable


@dataclass(frozen=True)
class TaskDistribution:
    """A finite set of tasks that an agent is trained or evaluated on.

    Attributes:
        tasks: all tasks, in a fixed order.
        make: for environments other than Meta-World's: makes the environment of a name, an object of
            `gymnasium.Env` that also has `set_task(params)`, taking effect at the next reset. None: Meta-World.
    """

    tasks: tuple[Task, ...]
    make: Callable[[str], gymnasium.Env[Any, Any]] | None = None

    def __post_init__(self) -> None:
        if not self.tasks:
            raise UserError("a task distribution needs at least one task")

    def __len__(self) -> int:
        return len(self.tasks)

    @cached_property
    def names(self) -> tuple[str, ...]:
        """The environments' names, each once, in order of appearance."""
        return tuple(dict.fromkeys(task.name for task in self.tasks))

    def sample(self, n: int, rng: np.random.Generator) -> list[Task]:
        """Draw n tasks: each name equally often (to within one), and no task twice before all of its name were drawn."""
        by_name = {name: [task for task in self.tasks if task.name == name] for name in self.names}
        names = [self.names[i] for i in rng.permutation(len(self.names))]
        drawn: list[Task] = []
        for position, name in enumerate(names):
            count = n // len(names) + (position < n % len(names))
            choices = by_name[name]
            while count > 0:
                some = rng.permutation(len(choices))[:count]
                drawn += [choices[i] for i in some]
                count -= len(some)
        return [drawn[i] for i in rng.permutation(n)]


@dataclass(frozen=True)
class Suite:
    """Train tasks and held-out test tasks.

    Attributes:
        name: as given to `suite`.
        seed: decides the goals; equal to the seed of Meta-World's own benchmark class.
    """

    name: str
    seed: int
    train: TaskDistribution
    test: TaskDistribution


@lru_cache(maxsize=32)
def suite(name: str, seed: int = 1) -> Suite:
    """A suite of Meta-World with the goals that Meta-World itself draws for this seed.

    Built from Meta-World's benchmark classes (their registered gymnasium ids serve the test goals under the name of
    train goals), once; from the cache afterwards. Note that Meta-World draws the test goals of ML1 with `seed + 1`: the
    test goals of seed 1 are the train goals of seed 2.

    Args:
        name: "ml1:<task>", "ml10" or "ml45".
        seed: at least 0. It decides the goals and has nothing to do with the seed of a run.

    Raises:
        UserError: no such suite or task, or a negative seed.
    """
    kind, _, task = name.partition(":")
    if kind not in ("ml1", "ml10", "ml45"):
        raise unknown("suite", name, ["ml1", "ml10", "ml45", "ml1:reach-v3"])
    if kind == "ml1" and task not in TASKS:
        raise unknown("task", task, TASKS) if task else UserError("ml1 needs a task: for example ml1:reach-v3")
    if kind != "ml1" and name != kind:
        raise UserError(f"suite {kind} takes no task: write {kind}")
    if seed < 0 or seed > 2**32 - 2:
        raise UserError(f"the suite's seed must lie between 0 and 2**32 - 2, not {seed}")
    path = cache.directory("goals", f"metaworld-{version('metaworld')}", f"{name.replace(':', '-')}-s{seed}.json")
    content = cache.load(path)
    if content is None:
        content = json.dumps(_goals_of_stock(kind, task, seed)).encode()
        cache.store(path, content)
    sides = json.loads(content)
    train, test = (TaskDistribution(tuple(Task(n, tuple(p)) for n, p in sides[side])) for side in ("train", "test"))
    return Suite(name, seed, train, test)


def _goals_of_stock(kind: str, task: str, seed: int) -> dict[str, list[tuple[str, list[float]]]]:
    """Draw the goals with Meta-World's own code: seconds for ml1, about a minute for ml45."""
    import pickle

    import metaworld

    before = np.random.get_state()  # noqa: NPY002
    try:
        if kind == "ml1":
            benchmark = metaworld.ML1(task, seed=seed)
        else:
            benchmark = {"ml10": metaworld.ML10, "ml45": metaworld.ML45}[kind](seed=seed)
    finally:
        np.random.set_state(before)  # noqa: NPY002

    def plain(tasks: Sequence[Any]) -> list[tuple[str, list[float]]]:
        # Meta-World keeps the goal of a task pickled; these pickles were made in this process a moment ago.
        return [(t.env_name, pickle.loads(t.data)["rand_vec"].tolist()) for t in tasks]

    return {"train": plain(benchmark.train_tasks), "test": plain(benchmark.test_tasks)}
