"""RL²: hidden state, minibatches, advantages and baseline."""

import dataclasses

import numpy as np
import pytest
import torch
from builders.tiny import COUNTDOWNS, perturbed, toy

from metarl.agents.rl2 import RL2, RL2Settings
from metarl.envs import suite
from metarl.errors import UserError
from metarl.learner import NonFiniteError
from metarl.optim.advantages import PooledFit, discounted_returns
from metarl.rollouts.rollout import Rollout

SMALL = {"layers": (16,), "hidden": 16, "chunk": 50, "minibatch": 8, "epochs": 2}


def _reach(num_envs: int, max_episode_steps: int, episodes: int, **settings):
    return toy(suite("ml1:reach-v3").train, num_envs, max_episode_steps, episodes, RL2Settings(**{**SMALL, **settings}))


def _collect(agent, source, iteration: int = 0) -> Rollout:
    source.begin(iteration)
    return source.collect(agent, agent.initial_state(source.num_tasks), 0)[0]


def test_the_hidden_state_lasts_for_one_trial():
    agent, source = _reach(2, 50, 3)
    perturbed(agent).keep_states = 1
    rollout = _collect(agent, source)
    hidden = [state["hidden"] for state in rollout.states]
    for boundary in (50, 100):
        step = type(rollout.query)(*(x[boundary - 1] for x in rollout.query))
        _, next_state = agent.predict({"hidden": hidden[boundary - 1]}, step)
        torch.testing.assert_close(next_state["hidden"], hidden[boundary], rtol=0, atol=1e-5)
        assert hidden[boundary].abs().max() > 0.01
        assert rollout.query.previous_done[boundary].tolist() == [1, 1]
    assert not agent.initial_state(2)["hidden"].any()
    assert not _collect(agent, source, 1).states[0]["hidden"].any()


def test_the_policy_sees_the_previous_action_reward_and_done_across_episodes():
    agent, source = _reach(2, 20, 2)
    rollout = _collect(agent, source)
    assert torch.equal(rollout.query.previous_reward[1:], rollout.reward[:-1])
    assert torch.equal(rollout.query.previous_action[1:], rollout.action[:-1].clamp(-1, 1))
    assert torch.equal(rollout.query.previous_done[1:].bool(), rollout.done[:-1])
    assert rollout.done[:, 0].nonzero().flatten().tolist() == [19, 39]
    assert not any(x[0].any() for x in rollout.query[1:])


def test_first_ratio_is_one_everywhere():
    """Recomputing a rollout from the stored states gives the collected log-probabilities, also across episodes."""
    agent, source = _reach(3, 65, 2, chunk=25)
    perturbed(agent)
    rollout = _collect(agent, source)
    with torch.no_grad():
        x = agent._chunks(agent.policy.scaler(rollout.query))
        hidden = torch.cat([state["hidden"] for state in rollout.states])
        log_prob = agent.policy.sequence(x, hidden).log_prob(agent._chunks(rollout.action))
    valid = agent._chunks(rollout.valid)
    assert valid.sum() == 3 * 130
    torch.testing.assert_close(log_prob[valid], agent._chunks(rollout.log_prob)[valid], rtol=0, atol=1e-5)


@pytest.mark.parametrize("shards", [1, 2])
def test_every_step_enters_the_loss_once_and_padding_never(shards):
    """Episodes end early and chunks are padded: loss and gradient equal those of each environment's valid steps."""
    settings = {**SMALL, "chunk": 4, "minibatch": 99, "epochs": 1, "shards": shards, "state_std": True, "entropy": 0.1}
    agent, source = toy(COUNTDOWNS, 4, 10, 2, RL2Settings(**settings, learning_rate=0.0, max_grad_norm=1e9))
    rollout = _collect(perturbed(agent), source)
    advantage = agent.advantages(rollout, agent.scaled(rollout))[0]
    with torch.no_grad():  # ratios differ from 1, and some are clipped
        for parameter in agent.policy.parameters():
            parameter.add_(0.05 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(0)))
        x = agent.policy.scaler(rollout.query)
    terms = []
    for env_id, task in enumerate(source.env.tasks):
        for first in range(0, 2 * task.params, 4):
            chunk = slice(first, min(first + 4, 2 * task.params)), slice(env_id, env_id + 1)
            prediction = agent.policy.sequence(x[chunk], rollout.states[first // 4]["hidden"][env_id : env_id + 1])
            ratio = (prediction.log_prob(rollout.action[chunk]) - rollout.log_prob[chunk]).exp()
            gain = torch.minimum(ratio * advantage[chunk], ratio.clamp(0.8, 1.2) * advantage[chunk])
            moved = ratio - 1 - ratio.log(), ((ratio - 1).abs() > 0.2).float()
            terms.append(torch.stack([-gain - 0.1 * prediction.entropy(), prediction.entropy(), *moved]).flatten(1))
    loss, entropy, kl, clip_fraction = torch.cat(terms, 1).mean(1)
    expected = torch.cat([g.flatten() for g in torch.autograd.grad(loss, list(agent.policy.parameters()))])
    assert sum(term.shape[1] for term in terms) == rollout.valid.sum() < rollout.valid.numel()
    assert 0.1 < clip_fraction < 0.9
    metrics = agent.update([rollout], 0)
    for key, value in {"loss": loss, "entropy": entropy, "kl": kl, "clip_fraction": clip_fraction}.items():
        assert metrics[key] == pytest.approx(value.item(), rel=1e-3), key
    torch.testing.assert_close(torch.cat([p.grad.flatten() for p in agent.policy.parameters()]), expected, rtol=1e-3, atol=1e-5)


def test_every_chunk_is_in_one_minibatch_of_each_pass(monkeypatch):
    agent, source = _reach(2, 130, 2, chunk=50, minibatch=4, epochs=3)
    parts, original = [], RL2._loss

    def recorded(self, data, count, part):
        parts.append(part.tolist())
        return original(self, data, count, part)

    monkeypatch.setattr(RL2, "_loss", recorded)
    agent.update([_collect(agent, source)], 0)
    assert [len(part) for part in parts] == [2] * 3 * 3 * 2  # each of the three minibatches has two parallel parts
    passes = np.reshape(parts, (3, 12))
    assert np.sort(passes).tolist() == [list(range(12))] * 3
    assert not np.array_equal(passes[0], passes[1])


def test_gradients_do_not_depend_on_the_number_of_shards():
    agent, source = _reach(2, 40, 1, chunk=20)
    perturbed(agent)
    rollout = _collect(agent, source)
    gradients = {}
    for shards in (1, 2, 3):
        sharded_agent, _ = _reach(2, 40, 1, chunk=20, shards=shards, epochs=1, learning_rate=0.0, max_grad_norm=1e9)
        sharded_agent.policy.load_state_dict(agent.policy.state_dict())
        sharded_agent.update([rollout], 0)
        gradients[shards] = torch.cat([p.grad.flatten() for p in sharded_agent.policy.parameters()])
    torch.testing.assert_close(gradients[1], gradients[2], rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(gradients[1], gradients[3], rtol=1e-4, atol=1e-6)


def test_resuming_an_agent_continues_it_bit_for_bit():
    agent, source = _reach(2, 20, 2)
    interrupted, source_2 = _reach(2, 20, 2)
    agent.iterate(source, 0)
    interrupted.iterate(source_2, 0)
    state = interrupted.state_dict()
    resumed, source_3 = _reach(2, 20, 2)
    resumed.load_state_dict(state)
    assert agent.iterate(source, 1) == resumed.iterate(source_3, 1)
    assert all(torch.equal(a, b) for a, b in zip(agent.policy.parameters(), resumed.policy.parameters()))


def test_annealed_settings_reach_their_final_values():
    agent, source = _reach(2, 10, 1, std=1.0, max_std_final=0.5, learning_rate_final=0.0, entropy_final=0.0)
    agent.total_iterations = 3
    for iteration in range(3):
        agent.iterate(source, iteration)
    assert agent.entropy == 0
    assert agent.optimizer.param_groups[0]["lr"] == 0
    assert agent.state_dict()["policy"]["head.max_log_std"].item() == pytest.approx(np.log(0.5))
    assert _collect(agent, source).prediction.std.max() <= 0.5 + 1e-6


def test_a_non_finite_loss_stops_the_update_before_weights_change():
    agent, source = _reach(2, 20, 1)
    rollout = _collect(agent, source)
    before = [p.clone() for p in agent.policy.parameters()]
    reward = rollout.reward.clone()
    reward[3, 0] = float("nan")
    with pytest.raises(NonFiniteError, match="not finite"):
        agent.update([dataclasses.replace(rollout, reward=reward)], 0)
    assert all(torch.equal(a, b) for a, b in zip(before, agent.policy.parameters()))


def test_statistics_count_each_valid_step_once():
    agent, source = toy(COUNTDOWNS, 4, 10, 2, RL2Settings(**{**SMALL, "chunk": 4}))
    rollout = _collect(agent, source)
    lengths = [task.params for task in source.env.tasks]
    assert rollout.valid.sum(0).tolist() == [2 * n for n in lengths]
    assert len(rollout.reward) == 2 * max(lengths)
    agent.update([rollout], 0)
    scaler = agent.policy.scaler
    observations = np.concatenate([1000.0 + 100 * np.arange(n) for n in lengths] * 2)
    assert scaler.count.item() == 2 * sum(lengths)
    np.testing.assert_allclose(scaler.mean[0], observations.mean(), rtol=1e-6)
    np.testing.assert_allclose(scaler.variance[0], observations.var(), rtol=1e-5)


@pytest.mark.parametrize("bootstrap", [True, False])
def test_advantages_do_not_depend_on_longer_trials_in_the_batch(bootstrap):
    """The recursion runs over the trial's valid steps only, for the same baseline."""
    settings = RL2Settings(**{**SMALL, "chunk": 4}, bootstrap=bootstrap, advantage_scale="none", gamma=0.9, lam=0.8)
    agent, source = toy(COUNTDOWNS, 6, 10, 2, settings)
    rollout = _collect(agent, source)
    advantage, value = agent.advantages(rollout, agent.scaled(rollout))[0], agent.baseline(rollout, agent.scaled(rollout))[0]
    lengths = rollout.valid.sum(0).tolist()
    assert set(lengths) == {6, 10}
    for i, n in enumerate(lengths):
        assert bool(value[n, i] != 0) == bootstrap
        assert not value[n + 1 :, i].any()
        following = 0.0
        for t in reversed(range(n)):
            following = float(rollout.reward[t, i] + 0.9 * value[t + 1, i] - value[t, i]) + 0.9 * 0.8 * following
            assert float(advantage[t, i]) == pytest.approx(following, rel=1e-4, abs=1e-5)
        assert not advantage[n:, i].any()
    agent.settings = dataclasses.replace(settings, advantage_scale="batch")
    scaled = agent.advantages(rollout, agent.scaled(rollout))[0][rollout.valid]
    raw = advantage[rollout.valid]
    np.testing.assert_allclose(scaled, (raw - raw.mean()) / raw.std(unbiased=False), rtol=1e-3, atol=1e-4)
    agent.settings = dataclasses.replace(settings, advantage_scale="trial")
    scaled = agent.advantages(rollout, agent.scaled(rollout))[0]
    for i, n in enumerate(lengths):
        raw = advantage[:n, i]
        np.testing.assert_allclose(scaled[:n, i], (raw - raw.mean()) / raw.std(unbiased=False), rtol=1e-3, atol=1e-4)


def test_the_baseline_does_not_fit_short_trials_exactly():
    """It has more features than the trial has steps: fitted to that trial alone it would equal the returns."""
    agent, source = toy(COUNTDOWNS, 6, 10, 2, RL2Settings(**SMALL, bootstrap=False))
    rollout = _collect(agent, source)
    returns = discounted_returns(torch.where(rollout.valid, rollout.reward, 0.0), agent.settings.gamma)
    value, explained = agent.baseline(rollout, agent.scaled(rollout))
    unexplained = (returns - value[:-1])[rollout.valid].var() / returns[rollout.valid].var()
    assert unexplained > 0.05
    assert explained < 0.5  # rewards are the noise of actions, which cannot be predicted


def test_explained_variance_is_measured_on_left_out_trials():
    """Rewards of pure noise are not explained, however well the baseline fits them."""
    agent, source = _reach(4, 40, 1)
    rollout = _collect(agent, source)
    noise = torch.randn(rollout.reward.shape, generator=torch.Generator().manual_seed(0))
    assert agent.baseline(dataclasses.replace(rollout, reward=noise), agent.scaled(rollout))[1] < 0.3
    time = rollout.step.float()
    assert agent.baseline(dataclasses.replace(rollout, reward=time), agent.scaled(rollout))[1] > 0.5


@pytest.mark.parametrize("bootstrap", [True, False])
def test_the_baseline_is_not_fitted_to_truncated_returns(bootstrap, monkeypatch):
    """With bootstrapping, the last half of a trial, at most 3 / (1 - gamma) steps, gets weight 0."""
    fits = []

    def fit(features, returns, weight, pull):
        fits.append((returns.numpy(), weight.numpy(), pull))
        return PooledFit(*(torch.ones(features.shape[1:]).double() for _ in range(2)))

    monkeypatch.setattr("metarl.agents.rl2.fit_pooled", fit)
    agent, source = toy(COUNTDOWNS, 4, 10, 2, RL2Settings(**SMALL, bootstrap=bootstrap, gamma=0.25, pull=7.0))
    rollout = _collect(agent, source)
    value, explained = agent.baseline(rollout, agent.scaled(rollout))
    ((returns, weight, pull),) = fits
    assert pull == 7
    for env_id, task in enumerate(source.env.tasks):
        n, following_return = 2 * task.params, 0.0
        fitted = n - (min(n // 2, 4) if bootstrap else 0)
        assert weight[:, env_id].tolist() == [1.0] * fitted + [0.0] * (10 - fitted)
        for t in reversed(range(n)):
            following_return = float(rollout.reward[t, env_id]) + 0.25 * following_return
            assert returns[t, env_id] == pytest.approx(following_return, rel=1e-6)
        predicted = agent._features(rollout, agent.scaled(rollout))[:, env_id].sum(-1).numpy() * (np.arange(11) < n + bootstrap)
        np.testing.assert_allclose(value[:, env_id], predicted, rtol=1e-9)
    valid = rollout.valid.numpy()
    residual = returns[valid] - agent._features(rollout, agent.scaled(rollout))[:-1].sum(-1).numpy()[valid]
    assert explained == pytest.approx(1 - residual.var() / returns[valid].var(), rel=1e-6)


def test_features_of_the_baseline():
    agent, source = _reach(2, 20, 2)
    rollout = _collect(agent, source)
    rollout = dataclasses.replace(rollout, query=rollout.query._replace(previous_reward=rollout.query.previous_reward + 3))
    features = agent._features(rollout, agent.scaled(rollout)).numpy()
    assert features.shape == (41, 2, 2 * (39 + 4 + 2) + 7)
    x, squares, time = np.split(features, [45, 90], -1)
    np.testing.assert_array_equal(squares, x**2)
    inputs = agent.policy.scaler(rollout.query).double().numpy()
    boundary = rollout.query.previous_done[:, 0].numpy() == 1
    assert np.flatnonzero(boundary).tolist() == [20]
    np.testing.assert_array_equal(x[:40][~boundary], inputs[~boundary])
    np.testing.assert_array_equal(x[:40][boundary][..., :-2], inputs[boundary][..., :-2])
    assert inputs[boundary][..., -2].all()
    assert not x[:40][boundary][..., -2].any()
    np.testing.assert_array_equal(x[40, :, :39], agent.policy.scaler.observation(rollout.final.obs).double())
    step, trial = np.append(np.tile(np.arange(20), 2), 0) / 20, np.arange(41) / 40
    by_hand = [np.ones(41), step, step**2, step**3, trial, trial**2, trial**3]
    np.testing.assert_allclose(time, np.stack([np.transpose(by_hand)] * 2, 1), rtol=1e-6)


@pytest.mark.parametrize(
    "wrong",
    [
        {"anneal_from": 1.0},
        {"min_std": 0.0},
        {"learning_rate": -1e-9},
        {"chunk": 0},
        {"gamma": 1.0},
        {"lam": 1.5},
        {"std": 0.0},
        {"hidden": 0},
        {"shards": 0},
        {"pull": 0.0},
        {"advantage_scale": "goal"},
        {"conditioning": "state"},
    ],
)
def test_invalid_settings_are_refused(wrong):
    with pytest.raises(UserError):
        RL2Settings(**wrong)


def test_zero_is_accepted_where_it_is_valid():
    settings = RL2Settings(learning_rate=0.0, gamma=0.0, lam=0.0, anneal_from=0.0, entropy=0.0)
    assert settings.learning_rate == 0
