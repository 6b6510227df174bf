"""Keep the names of version 0.2 for one more version: modules stay importable, arguments accepted; each use warns."""

import sys
import warnings
from collections.abc import Callable, Sequence
from functools import wraps
from importlib import import_module
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any, ParamSpec, TypeVar

P = ParamSpec("P")
R = TypeVar("R")

MOVED = {
    "adapt": ("optim.inner_loop",),
    "advantages": ("optim.advantages",),
    "fewshot": (),
    "fewshot.episodes": ("datasets.episodes",),
    "fewshot.learner": ("agents.fewshot.base",),
    "fewshot.maml": ("agents.fewshot.maml",),
    "fewshot.networks": ("agents.fewshot.networks", "datasets.features"),
    "fewshot.own": ("sharing.few_shot_prediction",),
    "graphs": ("nn.graphs",),
    "networks": ("nn.policies", "nn.distributions", "nn.input_scaling"),
    "rollout": ("rollouts.rollout", "rollouts.playing", "rollouts.trials", "rollouts.random_streams"),
    "trpo": ("optim.trust_region",),
}
"""Maps each old module to the modules that now define its names, within this package."""


class _Finder(MetaPathFinder):
    def find_spec(self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None) -> ModuleSpec | None:
        package, _, module = name.partition(".")
        if package != "metarl" or module not in MOVED:
            return None
        return ModuleSpec(name, _Loader(), is_package=not MOVED[module])


class _Loader(Loader):
    def exec_module(self, module: ModuleType) -> None:
        places = [f"metarl.{place}" for place in MOVED[module.__name__.removeprefix("metarl.")]]

        def lookup(name: str) -> Any:
            for place in () if name.startswith("__") else places:
                if hasattr(found := import_module(place), name):
                    return getattr(found, name)
            raise AttributeError(f"module {module.__name__!r} has no attribute {name!r}")

        if places:
            warnings.warn(f"{module.__name__} is now {' and '.join(places)}: import from there", FutureWarning, stacklevel=2)
            vars(module)["__getattr__"] = lookup


def install() -> None:
    """Register the import finder for the modules in `MOVED`."""
    sys.meta_path.append(_Finder())


def renamed_argument(old: str, new: str) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Decorate a function so that it accepts the keyword `old` in place of `new`, with a warning."""

    def decorate(function: Callable[P, R]) -> Callable[P, R]:
        @wraps(function)
        def call(*args: P.args, **kwargs: P.kwargs) -> R:
            if old in kwargs:
                warnings.warn(f"{function.__name__}: the argument {old} is now {new}", FutureWarning, stacklevel=2)
                kwargs[new] = kwargs.pop(old)
            return function(*args, **kwargs)

        return call

    return decorate
