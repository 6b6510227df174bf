"""Load user-defined suites from Python files and check them before training."""

import inspect
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np

from metarl.envs.engines.python import PythonEngine
from metarl.envs.suites import Suite, Task, TaskDistribution, suite
from metarl.errors import UserError
from metarl.system.user_code import UserFile, is_named, lookup, user_traceback

_suites: dict[tuple[Any, ...], Suite] = {}
_PLAIN = (bool, int, float, str, type(None))


def find_suite(name: str, seed: int = 1, goals: int = 50, task_id: bool = False) -> Suite:
    """Return a Meta-World suite (see `metarl.envs.suite`) or one from a file that the user named (see `user_suite`)."""
    return user_suite(lookup(name), seed, goals) if is_named(name) else suite(name, seed, goals, task_id)


def user_suite(file: UserFile, seed: int = 1, goals: int = 50) -> Suite:
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
    if key not in _suites:
        loaded = _load(file, seed, goals)
        sides = {side: _checked(file.label, getattr(loaded, side)) for side in ("train", "test") if getattr(loaded, side)}
        overlap = set(sides["train"].tasks) & set(sides["test"].tasks if "test" in sides else ())
        if overlap:
            raise UserError(
                f"{file.label}: {len(overlap)} tasks are both trained on and held out. If nothing is held out, set test to None"
            )
        max_episode_steps, train = loaded.max_episode_steps, sides["train"]
        probes = {side: _probe(file.label, tasks) for side, tasks in sides.items() if _is_new(tasks, train)}
        if "train" in probes:
            max_episode_steps = max_episode_steps or probes["train"].max_steps
        if len(probes) == 2 and probes["train"].spaces != probes["test"].spaces:
            raise UserError(f"{file.label}: held-out tasks have other observation or action spaces than those trained on")
        success = all(probe.success for probe in probes.values())
        sides = {side: replace(tasks, success=tasks.success and success) for side, tasks in sides.items()}
        takes_seed = callable(file.value) and "seed" in inspect.signature(file.value).parameters
        with_seed = (lambda new_seed: user_suite(file, new_seed, goals)) if takes_seed else None
        _suites[key] = Suite(file.label, seed, sides["train"], sides.get("test"), max_episode_steps, with_seed)
    return _suites[key]


def _load(file: UserFile, seed: int, goals: int) -> Suite:
    value = file.value
    if callable(value) and not isinstance(value, Suite):
        parameters = inspect.signature(value).parameters
        arguments = {key: value for key, value in {"seed": seed, "goals": goals}.items() if key in parameters}
        unknown = [p.name for p in parameters.values() if p.name not in arguments and p.default is p.empty and p.kind < 2]
        if unknown or (inspect.isclass(value) and not issubclass(value, Suite)):
            reason = f"it takes {', '.join(unknown)}" if unknown else "it is a class"
            raise UserError(
                f"{file.label} must be a suite, or a function that takes at most seed and goals and returns one: {reason}"
            )
        value = value(**arguments)
    if isinstance(value, TaskDistribution):
        value = Suite(file.label, seed, value, None)
    if not isinstance(value, Suite):
        raise UserError(f"{file.label} is {type(value).__name__}, not a metarl.envs.Suite or a function that returns one")
    for side, tasks in (("train", value.train), ("test", value.test)):
        if not isinstance(tasks, TaskDistribution) and (side == "train" or tasks is not None):
            raise UserError(f"{file.label}: the suite's {side} is {type(tasks).__name__}, not a metarl.envs.TaskDistribution")
    if value.max_episode_steps is not None and (type(value.max_episode_steps) is not int or value.max_episode_steps < 1):
        steps = value.max_episode_steps
        raise UserError(f"{file.label}: the suite's max_episode_steps must be a whole number of at least 1, not {steps!r}")
    return value


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
        return tuple(_plain(label, entry) for entry in params)
    if not isinstance(params, _PLAIN):
        raise UserError(f"{label}: a task's parameters must be numbers, strings or tuples of them, not {type(params).__name__}")
    return params


class _Probe(NamedTuple):
    """Results of one step in each kind of environment.

    Attributes:
        max_steps: the environment's own episode limit; None: unknown.
        success: whether every info reported success.
        spaces: observation shape and action space of all tasks.
    """

    max_steps: int | None
    success: bool
    spaces: tuple[Any, ...]


def _is_new(tasks: TaskDistribution, train: TaskDistribution) -> bool:
    """Whether to try these user-defined environments: those of the train side, and those that differ from them."""
    differs = tasks.make is not train.make or not set(tasks.names) <= set(train.names)
    return tasks.make is not None and (tasks is train or differs)


def _probe(label: str, tasks: TaskDistribution) -> _Probe:
    """Take one step in one task of each name, in two environments at a time."""
    try:
        engine = PythonEngine(tasks.make, tasks.names, 2)
        try:
            for name in tasks.names:
                engine.reset([0, 1], [next(task for task in tasks.tasks if task.name == name)] * 2, [0, 1])
                engine.action_space.seed(0)
                engine.step(np.array([engine.action_space.sample() for _ in range(2)]))
            max_steps = engine.longest if type(engine.longest) is int and engine.longest > 0 else None
            return _Probe(max_steps, engine.tells_success, (engine.observation_space.shape, engine.action_space))
        finally:
            engine.close()
    except UserError as error:
        raise UserError(f"{label}: {error}") from None
    except Exception as error:
        if user_traceback(error):  # the command line shows it
            raise
        raise UserError(f"{label}: its environment raised {type(error).__name__}: {error}") from error
