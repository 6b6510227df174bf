"""Keep the module names of version 0.2 importable for one more version; each import warns and names the new module."""

import sys
import warnings
from collections.abc import Sequence
from importlib import import_module
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

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
