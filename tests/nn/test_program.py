"""A program computes what its policy computes in torch, for every policy, size and set of weights."""

import gymnasium
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from metarl.learner import PolicyInput
from metarl.nn.acting import run_program
from metarl.nn.functions import exponential, sigmoid, tanh
from metarl.nn.input_scaling import InputScale
from metarl.nn.policies import CONDITIONING, FeedForwardPolicy, RecurrentPolicy, one_set
from metarl.nn.program import Program, playback

ACTIONS = gymnasium.spaces.Box(-1, 1, (4,), np.float32)
SIZES = st.lists(st.integers(1, 40), min_size=1, max_size=3)


def observations(size: int) -> gymnasium.spaces.Box:
    return gymnasium.spaces.Box(-np.inf, np.inf, (size,), np.float64)


def shaken(policy):
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in policy.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=generator) / parameter.shape[-1] ** 0.5)
    return policy


def results(program: Program, x: np.ndarray, memory: np.ndarray | None = None, which: int = 0):
    """The head's output and the memory after each row of scaled inputs, from the memory before it."""
    out, memories = [], []
    first, size = next(iter(program.memory.values()), (0, 0))
    end = len(program.operations) and int(program.operations[:, 2:5:2].sum(1).max())
    for i, row in enumerate(x):
        registers = np.full(program.registers, np.nan, np.float32)
        registers[: len(row)] = row
        if memory is not None:
            registers[first : first + size] = memory[i]
        run_program(program.operations, program.weights[which], registers)
        out.append(registers[program.out : end])
        memories.append(registers[first : first + size])
    return np.stack(out), np.stack(memories)


@settings(max_examples=25, deadline=None)
@given(SIZES, st.integers(1, 40), st.booleans(), st.integers(1, 50), st.sampled_from(CONDITIONING))
def test_a_recurrent_policy_steps_as_in_torch(layers, hidden, state_std, size, conditioning):
    scale = InputScale((0.1,) * size, (0.7,) * size, 5.0, 3.0)
    policy = shaken(RecurrentPolicy(observations(size), ACTIONS, scale, layers, hidden, 1.0, state_std, 0.05, conditioning))
    rng = np.random.default_rng(0)
    query = PolicyInput(*(torch.from_numpy(rng.normal(size=shape).astype(np.float32)) for shape in ((6, size), (6, 4), 6, 6)))
    memory = torch.from_numpy(rng.uniform(-1, 1, (6, hidden)).astype(np.float32))
    x = policy.scaler(query)
    with torch.no_grad():
        prediction, following = policy.step(x, memory)
        program = policy.program()
    out, memories = results(program, x.numpy(), memory.numpy())
    np.testing.assert_allclose(memories, following.numpy(), atol=1e-6)
    np.testing.assert_allclose(out[:, :4], prediction.mean.detach().numpy(), atol=3e-6, rtol=3e-6)
    if state_std:
        low, high = program.log_std_bounds
        np.testing.assert_allclose(out[:, 4:].clip(low, high), prediction.log_std.detach().numpy(), atol=3e-6, rtol=3e-6)
    else:
        np.testing.assert_array_equal(program.log_std, prediction.log_std[:1].detach().numpy())


@settings(max_examples=25, deadline=None)
@given(SIZES, st.integers(1, 4), st.booleans())
def test_a_feed_forward_policy_acts_with_each_tasks_own_weights(layers, tasks, state_std):
    policy = shaken(FeedForwardPolicy(observations(39), ACTIONS, None, layers, 1.0, state_std, 0.05))
    generator = torch.Generator().manual_seed(2)
    params = {name: p.detach().expand(tasks, *p.shape) for name, p in policy.named_parameters()}
    params = {name: p + torch.randn(p.shape, generator=generator) / p.shape[-1] ** 0.5 for name, p in params.items()}
    x = torch.randn(tasks, 5, 39, generator=generator)
    program = policy.program(params)
    expected = policy(x, params)
    for task in range(tasks):
        out, _ = results(program, x[task].numpy(), which=task)
        np.testing.assert_allclose(out[:, :4], expected.mean[task].detach().numpy(), atol=3e-6, rtol=3e-6)
    assert len(program.weights) == tasks


def test_weights_of_one_set_are_shared():
    policy = FeedForwardPolicy(observations(39), ACTIONS, None, (8,), 1.0, False, 0.05)
    program = policy.program(one_set(policy))
    assert program.weights.shape == (1, 39 * 8 + 8 + 8 * 4 + 4)
    assert program.memory == {}


def test_the_deviation_keeps_its_bounds():
    policy = FeedForwardPolicy(observations(39), ACTIONS, None, (8,), 1e-3, False, 0.05)
    np.testing.assert_allclose(np.exp(policy.program(one_set(policy)).log_std), 0.05, rtol=1e-6)


def test_playback_adds_nothing_to_its_noise():
    program = playback(39, 4)
    out, _ = results(program, np.random.default_rng(0).normal(size=(3, 39)).astype(np.float32))
    assert not out.any()
    assert not program.log_std.any()


@pytest.mark.parametrize(
    ("function", "exact"),
    [
        (exponential, np.exp),
        (sigmoid, lambda x: 1 / (1 + np.exp(-x))),
        (tanh, np.tanh),
    ],
)
def test_functions_over_the_range_of_float32(function, exact):
    x = np.concatenate([np.linspace(-86, 87, 4001), [-1e30, 1e30, 0.0, -0.0, 1e-30]]).astype(np.float32)
    found = np.array([function(value) for value in x])
    with np.errstate(over="ignore"):
        expected = exact(np.clip(x, -87, 88).astype(np.float64))
    np.testing.assert_allclose(found, expected, rtol=4e-7, atol=1e-37)
