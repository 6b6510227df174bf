"""Distributions against torch's own, statistics against numpy's, and the two ways through the recurrent policy."""

import gymnasium
import numpy as np
import pytest
import torch
from torch.distributions import AffineTransform, Independent, Normal, TanhTransform, TransformedDistribution, kl_divergence
from torch.distributions import Categorical as TorchCategorical
from torch.distributions import Uniform as TorchUniform
from torch.func import functional_call

from metarl.envs.scales import metaworld_scale
from metarl.errors import UserError
from metarl.learner import PolicyInput, where
from metarl.nn.distributions import ActionHead, Categorical, Gaussian, SquashedGaussian, Uniform, bounded
from metarl.nn.input_scaling import InputScaler
from metarl.nn.policies import CONDITIONING, FeedForwardPolicy, RecurrentPolicy, action_size

BOX = gymnasium.spaces.Box(-1, 1, (4,), np.float32)


def _gaussians():
    rng = torch.Generator().manual_seed(0)
    return [Gaussian(torch.randn(5, 4, generator=rng).double(), torch.randn(5, 4, generator=rng).double()) for _ in range(2)]


def test_gaussian_equals_torch_and_sums_over_the_action():
    ours, other = _gaussians()
    reference, second = (Independent(Normal(g.mean, g.std), 1) for g in (ours, other))
    action = ours.sample(torch.full((5, 4), 0.7, dtype=torch.float64))
    np.testing.assert_allclose(action, ours.mean + 0.7 * ours.std)
    np.testing.assert_allclose(ours.log_prob(action), reference.log_prob(action), rtol=1e-12)
    np.testing.assert_allclose(ours.entropy(), reference.entropy(), rtol=1e-12)
    np.testing.assert_allclose(ours.kl(other), kl_divergence(reference, second), rtol=1e-12)


def test_categorical_equals_torch_and_samples_by_its_probabilities():
    logits = torch.tensor([[0.1, 2.0, -1.0], [3.0, 0.0, 0.0]]).double()
    ours, other = Categorical(logits), Categorical(logits.flip(-1))
    reference, second = TorchCategorical(logits=logits), TorchCategorical(logits=logits.flip(-1))
    action = torch.tensor([2, 0])
    np.testing.assert_allclose(ours.log_prob(action), reference.log_prob(action), rtol=1e-12)
    np.testing.assert_allclose(ours.entropy(), reference.entropy(), rtol=1e-12)
    np.testing.assert_allclose(ours.kl(other), kl_divergence(reference, second), rtol=1e-12)
    noise = torch.linspace(0, 1 - 1e-9, 100_001, dtype=torch.float64)[:, None]
    drawn = Categorical(logits[:1].expand(100_001, -1)).sample(noise)
    frequency = np.bincount(drawn, minlength=3) / 100_001
    np.testing.assert_allclose(frequency, reference.probs[0], atol=1e-4)


LOW, HIGH = torch.tensor([-0.5, 1.0, -3.0]).double(), torch.tensor([2.0, 4.0, -1.0]).double()
"""Bounds of actions, none of which lie around 0."""


def test_uniform_equals_torch_between_any_bounds():
    ours, reference = Uniform(LOW, HIGH), Independent(TorchUniform(LOW, HIGH), 1)
    noise = torch.linspace(-2, 2, 15).reshape(5, 3).double()
    action = ours.sample(noise)
    np.testing.assert_allclose(action, reference.base_dist.icdf(torch.special.ndtr(noise)), rtol=1e-12)
    np.testing.assert_allclose(ours.log_prob(action), reference.log_prob(action)[:1], rtol=1e-12)
    np.testing.assert_allclose(ours.mode, reference.mean, rtol=1e-12)


def test_squashed_gaussian_equals_torch_between_any_bounds():
    mean, log_std = torch.tensor([0.3, -0.2, 0.0]).double(), torch.tensor([-0.5, 0.0, 0.4]).double()
    ours = SquashedGaussian(mean, log_std, LOW, HIGH)
    squash = [TanhTransform(), AffineTransform((LOW + HIGH) / 2, (HIGH - LOW) / 2)]
    reference = Independent(TransformedDistribution(Normal(mean, log_std.exp()), squash), 1)
    noise = torch.linspace(-2, 2, 15).reshape(5, 3).double()
    inner = mean + log_std.exp() * noise
    action = ours.sample(noise)
    np.testing.assert_allclose(action, (LOW + HIGH) / 2 + (HIGH - LOW) / 2 * inner.tanh(), rtol=1e-12)
    np.testing.assert_allclose(ours.log_prob(action), reference.log_prob(action), rtol=1e-9)
    np.testing.assert_allclose(ours.mode, (LOW + HIGH) / 2 + (HIGH - LOW) / 2 * mean.tanh(), rtol=1e-12)


def test_running_statistics_equal_numpy_over_all_batches():
    rng = np.random.default_rng(0)
    batches = [(rng.normal(5, 3, (n, 2)), rng.normal(-2, 0.5, n)) for n in (1, 40, 7)]
    scaler = InputScaler(2, 1, None)
    for obs, reward in batches:
        scaler.observe(torch.from_numpy(obs), torch.from_numpy(reward))
    everything = np.concatenate([np.column_stack(b) for b in batches])
    assert scaler.count == 48
    np.testing.assert_allclose(scaler.mean, everything.mean(0), rtol=1e-12)
    np.testing.assert_allclose(scaler.variance, everything.var(0), rtol=1e-12)


def test_fixed_scale_is_not_moved_and_places_the_hand_in_decimetres():
    scaler = InputScaler(39, 4, metaworld_scale(["reach-v3"]))
    before = scaler.state_dict()["mean"].clone()
    scaler.observe(torch.ones(9, 39), torch.ones(9))
    assert torch.equal(scaler.state_dict()["mean"], before)
    obs = torch.zeros(1, 39)
    obs[0, :3], obs[0, 4] = torch.tensor([0.1, 0.6, 0.4]), 0.07
    x = scaler(PolicyInput(obs, torch.zeros(1, 4), torch.tensor([10.0]), torch.ones(1)))[0]
    np.testing.assert_allclose(x[:3], [1.0, 0.0, 2.0], atol=1e-5)
    assert x[4] == pytest.approx(0.07)  # an object without a part in the task stays in metres
    assert x[-2] == pytest.approx(2.0)  # (10 - 5) / 2.5
    assert x[-1] == 1
    pushing = InputScaler(39, 4, metaworld_scale(["push-v3", "reach-v3"])).observation(obs)[0]
    assert pushing[4] == pytest.approx(0.7)
    assert torch.equal(pushing[:4], x[:4])


@pytest.mark.parametrize("conditioning", CONDITIONING)
def test_stepping_equals_the_sequence(conditioning):
    torch.manual_seed(0)
    space = gymnasium.spaces.Box(-1, 1, (3,), np.float64)
    policy = RecurrentPolicy(space, BOX, None, (8,), 6, 1.0, True, 0.05, conditioning)
    with torch.no_grad():
        for parameter in policy.parameters():  # film starts at zero
            parameter.add_(0.1 * torch.randn(parameter.shape))
    x, hidden = torch.randn(20, 5, policy.scaler.output_size), torch.randn(5, 6)
    whole = policy.sequence(x, hidden)
    for t in range(20):
        one, hidden = policy.step(x[t], hidden)
        torch.testing.assert_close(one.mean, whole.mean[t], rtol=1e-5, atol=1e-6)
        torch.testing.assert_close(one.log_std, whole.log_std[t], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(("conditioning", "of_input", "of_memory"), [("memory", 0, 1), ("join", 1, 1), ("film", 1, 0)])
def test_what_the_head_sees_at_first(conditioning, of_input, of_memory):
    """The derivatives of the features; film starts without the memory's influence (its last layer is zero)."""
    policy = RecurrentPolicy(gymnasium.spaces.Box(-1, 1, (3,)), BOX, None, (8,), 6, 1.0, False, 0.05, conditioning)
    encoded, hidden = torch.randn(2, 8, requires_grad=True), torch.randn(2, 6, requires_grad=True)
    total = policy.features(encoded, hidden).sum()
    found = torch.autograd.grad(total, (encoded, hidden), allow_unused=True, materialize_grads=True)
    assert [bool(derivative.any()) for derivative in found] == [of_input, of_memory]


def test_standard_deviation_keeps_its_bounds():
    head = ActionHead(3, BOX, std=1.0, state_std=False, min_std=0.1)
    with torch.no_grad():
        head.log_std.copy_(torch.tensor([-9.0, 0.0, 9.0, 1.0]))
    head.max_log_std.fill_(np.log(2.0))
    np.testing.assert_allclose(head(torch.zeros(3)).std.detach(), [0.1, 1.0, 2.0, 2.0], rtol=1e-6)


def test_head_follows_the_action_space():
    assert isinstance(ActionHead(3, gymnasium.spaces.Discrete(5), 1.0, False, 0.1)(torch.zeros(2, 3)), Categorical)
    assert action_size(gymnasium.spaces.Discrete(5)) == 5
    for space in (gymnasium.spaces.MultiDiscrete([2, 2]), gymnasium.spaces.Box(0, 1, (2, 2))):
        with pytest.raises(UserError, match="Box of one dimension or Discrete"):
            action_size(space)
    with pytest.raises(UserError, match="observations must be"):
        RecurrentPolicy(gymnasium.spaces.Discrete(3), BOX, None, (8,), 6, 1.0, False, 0.1)


def test_where_keeps_rows_apart_in_nested_states():
    new = {"a": torch.ones(3, 2), "b": (torch.ones(3), PolicyInput(*[torch.ones(3, 1)] * 4))}
    old = {"a": torch.zeros(3, 2), "b": (torch.zeros(3), PolicyInput(*[torch.zeros(3, 1)] * 4))}
    mixed = where(torch.tensor([True, False, True]), new, old)
    assert mixed["a"].tolist() == [[1, 1], [0, 0], [1, 1]]
    assert mixed["b"][0].tolist() == [1, 0, 1]
    assert isinstance(mixed["b"][1], PolicyInput)
    assert mixed["b"][1].obs.flatten().tolist() == [1, 0, 1]


@pytest.mark.parametrize("rows", [1, 2501])
def test_each_tasks_own_weights_equal_the_module_with_those_weights(rows):
    """At lengths that are computed whole, and in parts."""
    torch.manual_seed(0)
    spaces = gymnasium.spaces.Box(-1.0, 1.0, (5,)), gymnasium.spaces.Box(-1.0, 1.0, (2,))
    policy = FeedForwardPolicy(*spaces, None, (8, 8), 1.0, False, 0.05)
    x = torch.randn(3, rows, 5)
    params = {k: v.detach() + 0.1 * torch.randn(3, *v.shape) for k, v in policy.named_parameters()}
    own = policy(x, params)
    for i in range(3):
        alone = functional_call(policy, {k: v[i] for k, v in params.items()}, (x[i],))
        torch.testing.assert_close(own.mean[i], alone.mean)
        torch.testing.assert_close(own.log_std[i], alone.log_std)


@pytest.mark.parametrize("state_std", [False, True])
@pytest.mark.parametrize(("start", "wanted"), [(0.01, 0.5), (0.05, 0.5), (2.0, 0.5), (1.0, 0.5)])
def test_a_standard_deviation_beyond_a_bound_comes_back_when_the_loss_wants_it(state_std, start, wanted):
    """Below the floor, at it, above the cap and at it; the bounds are 0.05 and 1."""
    torch.manual_seed(0)
    head = ActionHead(3, BOX, 1.0, state_std, 0.05)
    head.max_log_std.fill_(0.0)
    with torch.no_grad():
        (head.linear.bias[4:] if state_std else head.log_std).fill_(float(np.log(start)))
    features, optimizer = torch.randn(20, 3), torch.optim.Adam(head.parameters(), 0.05)
    assert head(features).std.min() >= 0.05 * (1 - 1e-6)
    assert head(features).std.max() <= 1 + 1e-6
    for _ in range(120):
        loss = (head(features).log_std - float(np.log(wanted))).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        head.project()
    np.testing.assert_allclose(head(features).std.detach(), wanted, rtol=0.15)


def test_at_a_bound_the_slope_is_whole_and_between_the_bounds_nothing_changes():
    low, high = -3.0, torch.tensor(0.5)
    x = torch.tensor([-4.0, -3.0, -1.234567, 0.5, 2.0], requires_grad=True)
    y = bounded(x, low, high)
    assert y.tolist() == [-3.0, -3.0, x[2].item(), 0.5, 0.5]
    assert torch.autograd.grad(y.sum(), x)[0].tolist() == [1.0] * 5


def test_a_parameter_pushed_past_a_bound_is_brought_back_to_it():
    """Else it would have to come all the way back before anything changed."""
    head = ActionHead(3, BOX, 1.0, False, 0.05)
    head.max_log_std.fill_(0.25)
    with torch.no_grad():
        head.log_std.copy_(torch.tensor([-50.0, -1.0, 0.25, 70.0]))
    head.project()
    np.testing.assert_allclose(head.log_std.detach(), [np.log(0.05), -1.0, 0.25, 0.25], rtol=1e-6)
    ActionHead(3, gymnasium.spaces.Discrete(3), 1.0, False, 0.05).project()
