"""Check that a user's environment follows the gymnasium interface: once when it is made, and at every step."""

import inspect
from collections.abc import Callable, Mapping
from typing import Any

import gymnasium
import numpy as np
from gymnasium.spaces.utils import flatten_space

from metarl.errors import UserError

_LARGEST = float(np.finfo(np.float32).max)
"""Largest float32: agents treat larger values as infinite."""


class UserEnv:
    """Wrap a user's environment and return plain values that the environment cannot change later.

    Observations are new arrays of the space's dtype, finite in float32; rewards are floats, ends of episodes are bools; info is
    a new dict. Its "success" is a bool if the environment reports it, or `is_success`, SB3's name for it.

    Args:
        name: name of its tasks, with which error messages begin.
        env: has `set_task(params)`, itself or inside its wrappers.

    Raises:
        UserError: agents cannot use the environment.
    """

    def __init__(self, name: str, env: Any) -> None:
        self.name, self.env = name, env
        if inspect.isclass(env):
            raise UserError(f"{name}: make returns the class {env.__name__}, not an instance of it")
        missing = [verb for verb in ("reset", "step") if not callable(getattr(env, verb, None))]
        if missing:
            raise UserError(f"{name}: make returns {type(env).__name__}, which has no {' and no '.join(missing)}")
        self.observation_space: Any = getattr(env, "observation_space", None)
        self.action_space: Any = getattr(env, "action_space", None)
        _check_observations(name, self.observation_space)
        _check_actions(name, self.action_space)
        check_call(
            self._set_task_of(),
            (),
            message=f"{name}: set_task must be callable with a task's parameters alone: set_task(params)",
        )
        check_call(env.step, None, message=f"{name}: step must be callable with an action alone: step(self, action)")
        check_call(
            env.reset, seed=0, message=f"{name}: reset must be callable with a seed: reset(self, *, seed=None, options=None)"
        )

    @property
    def innermost(self) -> Any:
        """The environment inside all wrappers."""
        env = self.env
        while hasattr(env, "env"):
            env = env.env
        return env

    def _set_task_of(self) -> Callable[[Any], Any]:
        """Return `set_task` of the environment or of one that it wraps."""
        env = self.env
        while not hasattr(env, "set_task"):
            if not hasattr(env, "env"):
                raise UserError(f"{type(env).__name__} has no set_task(params), which switches to a task")
            env = env.env
        return env.set_task

    def set_task(self, params: Any) -> None:
        """Set the task, effective at the next reset."""
        self._set_task_of()(params)

    def reset(self, *, seed: int | None = None) -> tuple[np.ndarray, dict[str, Any]]:
        """Reset and return the first observation.

        Raises:
            UserError: the result does not match the space or gymnasium's interface.
        """
        result = self.env.reset(seed=seed)
        if not isinstance(result, tuple | list) or len(result) != 2 or not isinstance(result[1], Mapping):
            raise UserError(f"{self.name}: reset must return (observation, info), info a dict, not {brief(result)}")
        self.observation_space, self.action_space = self.env.observation_space, self.env.action_space
        return self._observation(result[0]), {}

    def step(self, action: Any) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        """Step; see `reset` for errors. The environment receives a copy of the action, which it may modify."""
        result = self.env.step(action.copy())
        if not isinstance(result, tuple | list) or len(result) != 5 or not isinstance(result[4], Mapping):
            raise UserError(
                f"{self.name}: step must return (observation, reward, terminated, truncated, info), info a dict, "
                f"not {brief(result)}"
            )
        reward, info = _number(result[1]), _copied(result[4])
        if reward is None or not abs(reward) <= _LARGEST:
            raise UserError(f"{self.name}: a reward must be a finite number, not {_short(result[1])}")
        terminated, truncated = (self._bool(field, result[i]) for i, field in ((2, "terminated"), (3, "truncated")))
        for key in ("success", "is_success"):
            if key in info:
                info["success"] = self._bool(f"info's {key}", info[key])
                break
        return self._observation(result[0]), reward, terminated, truncated, info

    def _observation(self, value: Any) -> np.ndarray:
        """Convert to an array of the space's shape and dtype, finite in float32."""
        space = self.observation_space
        array = _array(value)
        if array is None or array.shape != space.shape:
            description = _short(value) if array is None else f"of shape {array.shape}"
            raise UserError(f"{self.name}: an observation is {description}, but its space is {space}")
        with np.errstate(over="ignore", invalid="ignore"):
            converted = np.array(array, space.dtype)
            finite = np.isfinite(converted.astype(np.float32))
        if converted.dtype.kind != "f" and array.dtype != converted.dtype and (converted != array).any():
            raise UserError(
                f"{self.name}: an observation holds {_short(array[converted != array])}, which are not of its space's "
                f"{converted.dtype}: {space}"
            )
        if not finite.all():
            raise UserError(f"{self.name}: an observation is not finite: {_short(array[~finite])}")
        return converted

    def _bool(self, field: str, value: Any) -> bool:
        number = _number(value)
        if number not in (0.0, 1.0):
            raise UserError(f"{self.name}: {field} must be true or false, not {_short(value)}")
        return bool(number)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.env, name)  # rendering, registration data, and other attributes

    def close(self) -> None:
        """Release its resources."""
        if hasattr(self.env, "close"):
            self.env.close()


def check_call(function: Callable[..., Any], *args: Any, message: str, **kwargs: Any) -> None:
    """Raise UserError if a function cannot be called with these arguments."""
    try:
        inspect.signature(function).bind(*args, **kwargs)
    except TypeError:
        raise UserError(message) from None
    except ValueError:  # Python cannot determine the signature
        pass


def _check_observations(name: str, space: Any) -> None:
    if isinstance(space, gymnasium.spaces.Box) and len(space.shape) == 1 and space.shape[0]:
        return
    flat = None
    if isinstance(space, gymnasium.Space):
        try:
            flat = flatten_space(space)
        except (NotImplementedError, TypeError, ValueError):  # kinds of spaces without a flat form
            flat = None
    flattenable = isinstance(flat, gymnasium.spaces.Box) and flat.shape != (0,)
    raise UserError(
        f"{name} has the observation space {space}{_package(space)}: a Box of one dimension is needed"
        f"{'. gymnasium.wrappers.FlattenObservation converts it' if flattenable else ''}"
    )


def _check_actions(name: str, space: Any) -> None:
    if isinstance(space, gymnasium.spaces.Discrete):
        return
    reason = ""
    if isinstance(space, gymnasium.spaces.Box) and len(space.shape) == 1 and space.shape[0]:
        if space.dtype is not None and space.dtype.kind != "f":
            reason = f" of {space.dtype}: a Box of floats, which its environment may round, or a Discrete is needed"
        elif (np.float64(space.low) > _LARGEST).any() or (np.float64(space.high) < -_LARGEST).any():
            reason = ": agents act in float32, which cannot represent it"
        else:
            return
    raise UserError(
        f"{name} has the action space {space}{_package(space)}{reason or ': a Box of one dimension or a Discrete is needed'}"
    )


def _package(space: Any) -> str:
    """Note that a space belongs to gym if it only looks like gymnasium's."""
    return " of gym, not of gymnasium" if type(space).__module__.partition(".")[0] == "gym" else ""


def _array(value: Any) -> np.ndarray | None:
    """Convert numbers to an array; None: not numbers."""
    try:
        array = np.asarray(value)
    except (TypeError, ValueError, RuntimeError):  # ragged lists; tensors with gradients or on other devices
        return None
    return array if array.dtype.kind in "biuf" else None


def _number(value: Any) -> float | None:
    """Convert a number or an array with one entry to float; None: not a number."""
    array = _array(value)
    return float(array.item()) if array is not None and array.size == 1 else None


def _copied(info: Mapping[Any, Any]) -> dict[str, Any]:
    """Copy info, so that later changes by the environment do not affect it."""
    return {str(key): value.copy() if isinstance(value, np.ndarray) else value for key, value in info.items()}


def brief(value: Any) -> str:
    """Describe a value in a few words."""
    if isinstance(value, tuple | list):
        wrong_info = value and len(value) in (2, 5) and not isinstance(value[-1], Mapping)
        return f"{len(value)} values" + (f" that end with {_type_name(value[-1])}" if wrong_info else "")
    return f"of shape {value.shape}" if isinstance(value, np.ndarray) else _type_name(value)


def _type_name(value: Any) -> str:
    return "None" if value is None else f"a {type(value).__name__}"


def _short(value: Any) -> str:
    """Format a value in one short line."""
    if isinstance(value, np.ndarray | np.generic):
        value = value.tolist()
    text = " ".join(repr(value).split())
    return text if len(text) <= 80 else f"{text[:77]}..."
