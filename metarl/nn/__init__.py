"""Networks: policies, distributions over actions, scaling of inputs.

Names are imported on first access: compiled acting uses this package's programs without torch.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from metarl.nn.distributions import ActionHead, Categorical, Distribution, Gaussian
    from metarl.nn.input_scaling import InputScale, InputScaler
    from metarl.nn.policies import FeedForwardPolicy, RecurrentPolicy

__all__ = [
    "ActionHead",
    "Categorical",
    "Distribution",
    "FeedForwardPolicy",
    "Gaussian",
    "InputScale",
    "InputScaler",
    "RecurrentPolicy",
]
_MODULES = {
    **dict.fromkeys(("ActionHead", "Categorical", "Distribution", "Gaussian"), "distributions"),
    **dict.fromkeys(("InputScale", "InputScaler"), "input_scaling"),
    **dict.fromkeys(("FeedForwardPolicy", "RecurrentPolicy"), "policies"),
}


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"metarl.nn.{_MODULES[name]}"), name)
