"""Define tasks, task distributions and Meta-World's suites, which separate train goals from held-out goals."""

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, lru_cache
from typing import Any

import gymnasium
import numpy as np

from metarl.envs.goals import benchmark, draw_goals
from metarl.errors import UserError, unknown
from metarl.gymnasium_ids import TASKS

SUITES = {
    "ml1:TASK": "one task, 50 train goals and 50 held-out goals: ml1:reach-v3, ml1:push-v3, ...",
    "ml10": "10 train tasks and 5 held-out tasks, 50 goals each",
    "ml25": "25 train tasks and 5 held-out tasks (Meta-World's list: basketball is in both)",
    "ml45": "45 train tasks and 5 held-out tasks",
    "mt1:TASK": "one task, goal visible, nothing held out",
    "mt10": "10 tasks, goal visible, nothing held out",
    "mt25": "25 tasks, goal visible, nothing held out",
    "mt50": "all 50 tasks, goal visible, nothing held out",
    "custom:train=A,B;test=C": "your own lists of tasks, goal hidden; ;overlap=yes if both may share a task",
}


@dataclass(frozen=True)
class Task:
    """One environment with one fixed set of parameters.

    Attributes:
        name: the environment's name, such as "reach-v3".
        params: distinguishes tasks of the same name. Meta-World: the entries of its `rand_vec`, metres.
    """

    name: str
    params: Hashable


@dataclass(frozen=True)
class TaskDistribution:
    """A finite set of tasks for training or evaluation.

    Attributes:
        tasks: all tasks, in a fixed order.
        goal_visible: whether Meta-World's observations end with the goal; otherwise with zeros.
        task_ids: task names; their one-hot index is appended to each observation, as in Meta-World's `OneHotWrapper`; (): none.
        make: for environments other than Meta-World's: returns the environment for a name, a `gymnasium.Env` that also
            has `set_task(params)`, effective at the next reset. None: Meta-World.
        axes: names of the coordinates if `params` are two or three coordinates, such as ("x", "y"); reports then draw a map.
        success: whether every step's info has `success` or `is_success`; if not, results are returns only.
    """

    tasks: tuple[Task, ...]
    make: Callable[[str], gymnasium.Env[Any, Any]] | None = None
    goal_visible: bool = False
    task_ids: tuple[str, ...] = ()
    axes: tuple[str, ...] = ()
    success: bool = True

    def __post_init__(self) -> None:
        if not self.tasks:
            raise UserError("a task distribution needs at least one task")
        missing = [name for name in self.names if self.task_ids and name not in self.task_ids]
        if missing:
            raise UserError(f"no task id for {', '.join(missing)}")
        if len(self.axes) not in (0, 2, 3):
            raise UserError(f"axes are the names of two or three coordinates, not {len(self.axes)}")

    def __len__(self) -> int:
        return len(self.tasks)

    @cached_property
    def names(self) -> tuple[str, ...]:
        """Names of the environments, without repeats, in order of appearance."""
        return tuple(dict.fromkeys(task.name for task in self.tasks))

    def sample(self, n: int, rng: np.random.Generator) -> list[Task]:
        """Draw n tasks: every name equally often (within one), and no task again until all tasks of its name were drawn."""
        by_name = {name: [task for task in self.tasks if task.name == name] for name in self.names}
        names = [self.names[i] for i in rng.permutation(len(self.names))]
        drawn: list[Task] = []
        for position, name in enumerate(names):
            count = n // len(names) + (position < n % len(names))
            choices = by_name[name]
            while count > 0:
                indices = rng.permutation(len(choices))[:count]
                drawn += [choices[i] for i in indices]
                count -= len(indices)
        return [drawn[i] for i in rng.permutation(n)]


@dataclass(frozen=True)
class Suite:
    """Train tasks and held-out test tasks.

    Attributes:
        name: as given to `suite`.
        seed: determines the goals; the same as the seed of Meta-World's own benchmark class.
        train: the tasks for training.
        test: the tasks for evaluation; None for multi-task suites, which hold nothing out.
        max_episode_steps: default of `metarl train --max-episode-steps`; None: 500.
        again: makes the suite for another seed, for suites other than Meta-World's; None: impossible.
    """

    name: str
    seed: int
    train: TaskDistribution
    test: TaskDistribution | None
    max_episode_steps: int | None = None
    again: Callable[[int], "Suite"] | None = field(default=None, compare=False)

    def validation(self, goals: int) -> TaskDistribution:
        """Return other goals of the train tasks, neither in `train` nor in `test`, for decisions during training.

        Args:
            goals: total number; each train task gets the same number (within one). A user-defined suite returns those of its
                train tasks under another seed, up to this number.

        Raises:
            UserError: a user-defined suite has no other tasks.
        """
        excluded = {*self.train.tasks, *(self.test.tasks if self.test else ())}
        seed = (self.seed + _VALIDATION_OFFSET) % (2**32 - 1)
        if self.train.make is None and self.again is None:
            drawn = draw_goals(self.train.names, -(-goals // len(self.train.names)), seed)
            fresh = [task for name, params in drawn if (task := Task(name, tuple(params))) not in excluded]
        else:
            fresh = [task for task in (self.again(seed).train.tasks if self.again else ()) if task not in excluded]
            if not fresh:
                raise UserError(f"{self.name} has no tasks of another seed to validate on: use --evaluate-on test")
        return replace(self.train, tasks=tuple(balanced_subset(fresh, goals)))


_VALIDATION_OFFSET = 2**31
"""Offset from the suite's seed to that of the validation goals; Meta-World itself uses the suite's seed and the next."""


def balanced_subset(tasks: Sequence[Task], count: int) -> list[Task]:
    """Return the first tasks of each name, the same number per name (within one), `count` in total."""
    names = list(dict.fromkeys(task.name for task in tasks))
    selected: list[Task] = []
    for i, name in enumerate(names):
        share = count // len(names) + (i < count % len(names))
        selected += [task for task in tasks if task.name == name][:share]
    return selected


@lru_cache(maxsize=32)
def suite(name: str, seed: int = 1, goals: int = 50, task_id: bool = False) -> Suite:
    """Return a suite of Meta-World with the goals that Meta-World itself draws for this seed.

    It equals Meta-World's benchmark classes (whose registered gymnasium ids serve the test goals as train goals), without
    their minute of resets. Note that Meta-World draws the test goals of ML1 with `seed + 1`: the test goals of seed 1 are the
    train goals of seed 2.

    Args:
        name: see `SUITES`.
        seed: at least 0. It determines the goals and is independent of the seed of a run.
        goals: goals per task. For a number other than Meta-World's 50, they are those that Meta-World would then draw: the
            first task's goals begin like the 50, later tasks' goals differ.
        task_id: append the task as one-hot to observations; only if every test task is also a train task.

    Raises:
        UserError: unknown suite or task, negative seed, no goals, or lists that are empty or overlap.
    """
    kind, _, text = name.partition(":")
    if kind not in {key.partition(":")[0] for key in SUITES}:
        raise unknown("suite", name, ["ml1", "ml10", "ml25", "ml45", "mt1", "mt10", "mt25", "mt50", "custom", "ml1:reach-v3"])
    if seed < 0 or seed > 2**32 - 2:
        raise UserError(f"the suite's seed must lie between 0 and 2**32 - 2, not {seed}")
    if not 1 <= goals <= 100_000:
        raise UserError(f"goals must lie between 1 and 100,000, not {goals}")
    train: tuple[str, ...]
    test: tuple[str, ...]
    if kind in ("ml1", "mt1"):
        if text not in TASKS:
            raise unknown("task", text, TASKS) if text else UserError(f"{kind} needs a task: for example {kind}:reach-v3")
        train = test = (text,)
    elif kind == "custom":
        train, test = _custom(text)
    elif text or ":" in name:
        raise UserError(f"suite {kind} takes no task: write {kind}")
    else:
        train, test = benchmark(kind)

    if task_id and not set(test) <= set(train):
        raise UserError(f"{name} holds out tasks that the agent never sees: their task ids would mean nothing to it")

    def distribution(names: tuple[str, ...], seed: int) -> TaskDistribution:
        tasks = tuple(Task(task, tuple(params)) for task, params in draw_goals(names, goals, seed))
        return TaskDistribution(tasks, goal_visible=kind.startswith("mt"), task_ids=train if task_id else ())

    # equal seeds would give equal goals to a task on both sides
    shared = kind == "ml1" or (kind == "custom" and not set(train).isdisjoint(test))
    held_out = None if kind.startswith("mt") else distribution(test, seed + 1 if shared else seed)
    return Suite(name, seed, distribution(train, seed), held_out)


def _custom(text: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Parse the lists in `custom:train=a,b;test=c`."""
    example = "custom:train=reach-v3,push-v3;test=pick-place-v3"
    options: dict[str, str] = {}
    for part in text.split(";"):
        key, separator, value = part.partition("=")
        if not separator or key.strip() not in ("train", "test", "overlap") or key.strip() in options:
            raise UserError(f"a custom suite is written {example} (and ;overlap=yes if both may share a task), not {text!r}")
        options[key.strip()] = value.strip()
    if options.get("overlap", "no") not in ("yes", "no"):
        raise UserError(f"overlap must be yes or no, not {options['overlap']!r}")
    lists = []
    for side in ("train", "test"):
        names = tuple(name.strip() for name in options.get(side, "").split(",") if name.strip())
        if not names:
            raise UserError(f"a custom suite needs {side} tasks: {example}")
        for name in names:
            if name not in TASKS:
                raise unknown("task", name, TASKS)
        if len(set(names)) < len(names):
            raise UserError(f"the {side} tasks include one twice: {', '.join(names)}")
        lists.append(names)
    shared = sorted(set(lists[0]) & set(lists[1]))
    if shared and options.get("overlap") != "yes":
        raise UserError(f"{', '.join(shared)} would be both trained on and held out; if you mean that, add ;overlap=yes")
    return lists[0], lists[1]
