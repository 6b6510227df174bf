"""Load user-defined suites from Python files and check them before training."""

import inspect
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np

from metarl.envs.engines.python import PythonEngine
from metarl.envs.suites import Suite, Task, TaskDistribution, suite
from metarl.errors import UserError
from metarl.system.user_code import UserFile, is_named, lookup, user_traceback

_made: dict[tuple[Any, ...], Suite] = {}
_PLAIN = (bool, int, float, str, type(None))


def find_suite(name: str, seed: int = 1, goals: int = 50, task_id: bool = False) -> Suite:
    """Return a Meta-World suite (see `metarl.envs.suite`) or one from a file that the user named (see `own_suite`)."""
    return own_suite(lookup(name), seed, goals) if is_named(name) else suite(name, seed, goals, task_id)


def own_suite(file: UserFile, seed: int = 1, goals: int = 50) -> Suite:
    """Return the suite that a name in a Python file refers to: a `Suite`, or a function that returns one.

    Args:
        file: the result of `metarl.system.user_code.run_file`.
        seed: passed to a function that has a parameter `seed`.
        goals: passed to a function that has a parameter `goals`.

    Returns:
        The suite, named by the file's label. As a check, two environments of each name are made and stepped once: if an
        info does not report success, the distributions get `success=False`.

    Raises:
        UserError: the object is not a suite, or its tasks or environments cannot be used for training.
    """
    key = (file.path, file.sha256, file.label, seed, goals)
    if key not in _made:
        made = _given(file, seed, goals)
        sides = {side: _checked(file.label, getattr(made, side)) for side in ("train", "test") if getattr(made, side)}
        both = set(sides["train"].tasks) & set(sides["test"].tasks if "test" in sides else ())
        if both:
            raise UserError(
                f"{file.label}: {len(both)} tasks are both trained on and held out. If nothing is held out, set test to None"
            )
        max_episode_steps, train = made.max_episode_steps, sides["train"]
        tried = {side: _tried(file.label, tasks) for side, tasks in sides.items() if _is_new(tasks, train)}
        if "train" in tried:
            max_episode_steps = max_episode_steps or tried["train"].longest
        if len(tried) == 2 and tried["train"].spaces != tried["test"].spaces:
            raise UserError(f"{file.label}: held-out tasks have other observation or action spaces than those trained on")
        success = all(found.success for found in tried.values())
        sides = {side: replace(tasks, success=tasks.success and success) for side, tasks in sides.items()}
        takes_seed = callable(file.value) and "seed" in inspect.signature(file.value).parameters
        again = (lambda other: own_suite(file, other, goals)) if takes_seed else None
        _made[key] = Suite(file.label, seed, sides["train"], sides.get("test"), max_episode_steps, again)
    return _made[key]


def _given(file: UserFile, seed: int, goals: int) -> Suite:
    made = file.value
    if callable(made) and not isinstance(made, Suite):
        parameters = inspect.signature(made).parameters
        wanted = {key: value for key, value in {"seed": seed, "goals": goals}.items() if key in parameters}
        others = [p.name for p in parameters.values() if p.name not in wanted and p.default is p.empty and p.kind < 2]
        if others or (inspect.isclass(made) and not issubclass(made, Suite)):
            what = f"it takes {', '.join(others)}" if others else "it is a class"
            raise UserError(
                f"{file.label} must be a suite, or a function that takes at most seed and goals and returns one: {what}"
            )
        made = made(**wanted)
    if isinstance(made, TaskDistribution):
        made = Suite(file.label, seed, made, None)
    if not isinstance(made, Suite):
        raise UserError(f"{file.label} is {type(made).__name__}, not a metarl.envs.Suite or a function that returns one")
    for side, tasks in (("train", made.train), ("test", made.test)):
        if not isinstance(tasks, TaskDistribution) and (side == "train" or tasks is not None):
            raise UserError(f"{file.label}: the suite's {side} is {type(tasks).__name__}, not a metarl.envs.TaskDistribution")
    if made.max_episode_steps is not None and (type(made.max_episode_steps) is not int or made.max_episode_steps < 1):
        wrong = made.max_episode_steps
        raise UserError(f"{file.label}: the suite's max_episode_steps must be a whole number of at least 1, not {wrong!r}")
    return made


def _checked(label: str, tasks: TaskDistribution) -> TaskDistribution:
    """Convert the tasks' parameters to plain Python numbers, which files can store, and check them."""
    plain = tuple(Task(str(task.name), _plain(label, task.params)) for task in tasks.tasks)
    if len(set(plain)) < len(plain):
        raise UserError(f"{label}: {len(plain) - len(set(plain))} of {len(plain)} tasks occur more than once")
    for task in plain if tasks.axes else ():
        if not isinstance(task.params, tuple) or len(task.params) != len(tasks.axes):
            raise UserError(f"{label}: axes are {', '.join(tasks.axes)}, but a task has the parameters {task.params}")
    return replace(tasks, tasks=plain)


def _plain(label: str, params: Any) -> Any:
    if hasattr(params, "tolist"):  # numpy's numbers and arrays
        params = params.tolist()
    if isinstance(params, list | tuple):
        return tuple(_plain(label, each) for each in params)
    if not isinstance(params, _PLAIN):
        raise UserError(f"{label}: a task's parameters must be numbers, strings or tuples of them, not {type(params).__name__}")
    return params


class _Tried(NamedTuple):
    """Results of one step in each kind of environment.

    Attributes:
        longest: the environment's own episode limit; None: unknown.
        success: whether every info reported success.
        spaces: observation shape and action space of all tasks.
    """

    longest: int | None
    success: bool
    spaces: tuple[Any, ...]


def _is_new(tasks: TaskDistribution, train: TaskDistribution) -> bool:
    """Whether to try these user-defined environments: those of the train side, and those that differ from them."""
    others = tasks.make is not train.make or not set(tasks.names) <= set(train.names)
    return tasks.make is not None and (tasks is train or others)


def _tried(label: str, tasks: TaskDistribution) -> _Tried:
    """Take one step in one task of each name, in two environments at a time."""
    try:
        engine = PythonEngine(tasks.make, tasks.names, 2)
        try:
            for name in tasks.names:
                engine.reset([0, 1], [next(task for task in tasks.tasks if task.name == name)] * 2, [0, 1])
                engine.action_space.seed(0)
                engine.step(np.array([engine.action_space.sample() for _ in range(2)]))
            longest = engine.longest if type(engine.longest) is int and engine.longest > 0 else None
            return _Tried(longest, engine.tells_success, (engine.observation_space.shape, engine.action_space))
        finally:
            engine.close()
    except UserError as error:
        raise UserError(f"{label}: {error}") from None
    except Exception as error:
        if user_traceback(error):  # the command line shows it
            raise
        raise UserError(f"{label}: its environment raised {type(error).__name__}: {error}") from error
