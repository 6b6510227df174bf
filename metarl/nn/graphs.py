"""Describe a policy as a graph of named input and output tensors with their meanings; `metarl export` writes it."""

import copy
from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch import Tensor, nn

from metarl.learner import PolicyInput
from metarl.nn.distributions import Categorical, Distribution
from metarl.nn.policies import FeedForwardPolicy, RecurrentPolicy


class Input(NamedTuple):
    """One input of a graph.

    Attributes:
        example: a tensor of valid shape and dtype.
        axes: names of the leading axes, whose lengths are free; inputs with the same name share the length.
        meaning: description in words.
        below: exclusive upper bound of integers.
    """

    example: Tensor
    axes: tuple[str, ...]
    meaning: str
    below: int = 1


class Graph(NamedTuple):
    """The result of an agent's method `graph`, which `metarl export` writes.

    Attributes:
        module: its forward takes the inputs in order and returns the outputs in order, as a tuple.
        inputs: by name.
        outputs: meanings by name.
        use: instructions for the caller, in words.
        carried: maps an output to the input that takes its value at the next step.
    """

    module: nn.Module
    inputs: dict[str, Input]
    outputs: dict[str, str]
    use: str
    carried: Mapping[str, str] = {}


_BATCH = 3
"""Rows of examples: torch treats lengths 0 and 1 as special."""
_OBS = "observations as the environment gives them, float32; they are scaled inside"
_GAUSSIAN = {
    "mean": "mean of the action, before it is clipped to the action space",
    "std": "standard deviation of each entry of the action",
}
_LOGITS = {"logits": "logits of the choices: softmax gives their probabilities"}
_ACT_GAUSSIAN = (
    "To act as evaluated with deterministic actions, clip mean to the action space; to act as trained, clip mean + std * z "
    "with z standard normal."
)
_ACT_CATEGORICAL = (
    "To act as evaluated with deterministic actions, take the largest logit; to act as trained, draw from their softmax."
)


def _outputs(policy: FeedForwardPolicy | RecurrentPolicy) -> tuple[dict[str, str], str]:
    """Return the meanings of the outputs that describe the action, and instructions for their use."""
    return (_LOGITS, _ACT_CATEGORICAL) if policy.head.discrete else (_GAUSSIAN, _ACT_GAUSSIAN)


def _tensors(prediction: Distribution) -> tuple[Tensor, ...]:
    return (prediction.logits,) if isinstance(prediction, Categorical) else (prediction.mean, prediction.std)


class _Recurrent(nn.Module):
    def __init__(self, policy: RecurrentPolicy) -> None:
        super().__init__()
        self.policy = policy

    def forward(self, obs: Tensor, action: Tensor, reward: Tensor, done: Tensor, hidden: Tensor) -> tuple[Tensor, ...]:
        x = self.policy.scaler(PolicyInput(obs, action, reward, done))
        prediction, hidden = self.policy.step(x, hidden)
        return *_tensors(prediction), hidden


def recurrent(policy: RecurrentPolicy) -> Graph:
    """Build the graph of one step of a recurrent policy; its hidden state is an input and an output."""
    outputs, act = _outputs(policy)
    entries = policy.scaler.mean.numel() - 1
    actions = policy.scaler.output_size - entries - 2
    executed = "as one-hot" if policy.head.discrete else "as executed: clipped"
    rows = torch.zeros(_BATCH)
    inputs = {
        "obs": Input(torch.zeros(_BATCH, entries), ("batch",), _OBS),
        "previous_action": Input(torch.zeros(_BATCH, actions), ("batch",), f"the previous action, {executed}; zeros at first"),
        "previous_reward": Input(rows, ("batch",), "the reward that followed it; 0 at first"),
        "previous_done": Input(rows.clone(), ("batch",), "1 if the previous step ended an episode, else 0; 0 at first"),
        "hidden": Input(
            torch.zeros(_BATCH, policy.gru.hidden_size), ("batch",), "the memory: zeros at first, then next_hidden"
        ),
    }
    use = (
        f"{act} Begin each task with zeros, and carry hidden, action, reward and done on from step to step, "
        "across episode boundaries too: that is how the agent adapts."
    )
    return Graph(
        _Recurrent(policy), inputs, {**outputs, "next_hidden": "the memory after this step"}, use, {"next_hidden": "hidden"}
    )


class _FeedForward(nn.Module):
    def __init__(self, policy: FeedForwardPolicy) -> None:
        super().__init__()
        self.policy = policy

    def forward(self, obs: Tensor) -> tuple[Tensor, ...]:
        return _tensors(self.policy(self.policy.scaler.observation(obs)))


def feed_forward(policy: FeedForwardPolicy, params: Mapping[str, Tensor]) -> Graph:
    """Build the graph of a policy without memory, with `params` in place of its weights."""
    own = copy.deepcopy(policy)
    own.load_state_dict({**policy.state_dict(), **params})
    outputs, act = _outputs(policy)
    entries = policy.scaler.mean.numel() - 1
    return Graph(_FeedForward(own), {"obs": Input(torch.zeros(_BATCH, entries), ("batch",), _OBS)}, outputs, act)
