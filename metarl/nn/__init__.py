"""Networks: policies, distributions over actions, scaling of inputs."""

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
