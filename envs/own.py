"""Suites of the user's own: what a name in a Python file gives, checked before anything is trained on it."""

import inspect
from dataclasses import replace
from typing import Any

import numpy as np

from metarl.envs.python_engine import PythonEngine
from metarl.envs.suites import Suite, Task, TaskDistribution, suite
from metarl.errors import UserError
from metarl.userfiles import UserFile, is_named, lookup

_made: dict[tuple[Any, ...], Suite] = {}
_PLAIN = (bool, int, float, str, type(None))


def find_suite(name: str, seed: int = 1, goals: int = 50, task_id: bool = False) -> Suite:
    """A suite of Meta-World's (see `metarl.envs.suite`), or of a file that the user named (see `own_suite`)."""
    return own_suite(lookup(name), seed, goals) if is_named(name) else suite(name, seed, goals, task_id)


def own_suite(file: UserFile, seed: int = 1, goals: int = 50) -> Suite:
    """The suite that a name in a Python file stands for: a `Suite`, or a function that gives one.

    Args:
        file: as `metarl.userfiles.run_file` found it.
        seed: given to a function that has a parameter `seed`.
        goals: given to a function that has a parameter `goals`.

    Returns:
        The suite, with the file's label for its name. One environment of each name was made, and took a step: where its
        info says nothing of success, so do the suite's distributions.

    Raises:
        UserError: it is no suite, or its tasks or environments cannot be trained on.
    """
    key = (file.path, file.sha256, file.label, seed, goals)
    if key not in _made:
        made = _given(file, seed, goals)
        sides = {side: _checked(file.label, getattr(made, side)) for side in ("train", "test") if getattr(made, side)}
        both = set(sides["train"].tasks) & set(sides["test"].tasks if "test" in sides else ())
        if both:
            raise UserError(
                f"{file.label}: {len(both)} tasks are both trained on and held out. Where nothing is held out, test is None"
            )
        horizon, success = made.horizon, True
        if sides["train"].make is not None:
            steps, success = _tried(file.label, sides["train"])
            horizon = horizon or steps
        sides = {side: replace(tasks, success=tasks.success and success) for side, tasks in sides.items()}
        takes_seed = callable(file.value) and "seed" in inspect.signature(file.value).parameters
        again = (lambda other: own_suite(file, other, goals)) if takes_seed else None
        _made[key] = Suite(file.label, seed, sides["train"], sides.get("test"), horizon, again)
    return _made[key]


def _given(file: UserFile, seed: int, goals: int) -> Suite:
    made = file.value
    if callable(made) and not isinstance(made, Suite):
        parameters = inspect.signature(made).parameters
        wanted = {key: value for key, value in {"seed": seed, "goals": goals}.items() if key in parameters}
        others = [p.name for p in parameters.values() if p.name not in wanted and p.default is p.empty and p.kind < 2]
        if others or (inspect.isclass(made) and not issubclass(made, Suite)):
            what = f"it asks for {', '.join(others)}" if others else "it is a class"
            raise UserError(f"{file.label} must be a suite, or a function of nothing, seed or goals that gives one: {what}")
        made = made(**wanted)
    if isinstance(made, TaskDistribution):
        made = Suite(file.label, seed, made, None)
    if not isinstance(made, Suite):
        raise UserError(f"{file.label} is {type(made).__name__}, not a metarl.envs.Suite or a function that gives one")
    return made


def _checked(label: str, tasks: TaskDistribution) -> TaskDistribution:
    """The distribution with tasks whose parameters a file can hold: numbers as Python's own."""
    plain = tuple(Task(str(task.name), _plain(label, task.params)) for task in tasks.tasks)
    if len(set(plain)) < len(plain):
        raise UserError(f"{label}: {len(plain) - len(set(plain))} of {len(plain)} tasks are there more than once")
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
        raise UserError(f"{label}: a task's parameters are numbers, strings and tuples of them, not {type(params).__name__}")
    return params


def _tried(label: str, tasks: TaskDistribution) -> tuple[int | None, bool]:
    """Take one step in one task of each name: the environment's own longest episode, and whether its info tells success."""
    try:
        engine = PythonEngine(tasks.make, tasks.names, 1)
        try:
            for name in tasks.names:
                engine.reset([0], [next(task for task in tasks.tasks if task.name == name)], [0])
                engine.action_space.seed(0)
                engine.step(np.array([engine.action_space.sample()]))
            return engine.longest, engine.tells_success
        finally:
            engine.close()
    except UserError as error:
        raise UserError(f"{label}: {error}") from None
