"""RL²: what it remembers, what its update counts, and that it learns what only memory can give."""

import dataclasses

import numpy as np
import pytest
import torch
from builders.tiny import COUNTDOWNS, shaken, toy

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


def test_hidden_state_lives_through_the_episodes_of_a_trial_and_starts_anew_with_the_next():
    agent, source = _reach(2, 50, 3)
    shaken(agent).keep_states = 1
    rollout = _collect(agent, source)
    hidden = [state["hidden"] for state in rollout.states]
    for border in (50, 100):
        step = type(rollout.query)(*(x[border - 1] for x in rollout.query))
        _, after = agent.predict({"hidden": hidden[border - 1]}, step)
        assert torch.equal(after["hidden"], hidden[border])
        assert hidden[border].abs().max() > 0.01
        assert rollout.query.previous_done[border].tolist() == [1, 1]
    assert not agent.initial_state(2)["hidden"].any()
    assert not _collect(agent, source, 1).states[0]["hidden"].any()


def test_policy_sees_the_true_previous_action_reward_and_done_across_borders():
    agent, source = _reach(2, 20, 2)
    rollout = _collect(agent, source)
    assert torch.equal(rollout.query.previous_reward[1:], rollout.reward[:-1])
    assert torch.equal(rollout.query.previous_action[1:], rollout.action[:-1].clamp(-1, 1))
    assert torch.equal(rollout.query.previous_done[1:].bool(), rollout.done[:-1])
    assert rollout.done[:, 0].nonzero().flatten().tolist() == [19, 39]
    assert not any(x[0].any() for x in rollout.query[1:])


def test_first_ratio_is_one_everywhere():
    """Recomputing a rollout from the stored states gives the collected log-probabilities, borders included."""
    agent, source = _reach(3, 65, 2, chunk=25)
    shaken(agent)
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
    """Episodes end early and chunks are filled up: loss and gradient are those of each environment's steps in turn."""
    settings = {**SMALL, "chunk": 4, "minibatch": 99, "epochs": 1, "shards": shards, "state_std": True, "entropy": 0.1}
    agent, source = toy(COUNTDOWNS, 4, 10, 2, RL2Settings(**settings, learning_rate=0.0, max_grad_norm=1e9))
    rollout = _collect(shaken(agent), source)
    advantage = agent.advantages(rollout, agent.scaled(rollout))[0]
    with torch.no_grad():  # so that ratios are not 1, and some beyond the clipping
        for parameter in agent.policy.parameters():
            parameter.add_(0.05 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(0)))
        x = agent.policy.scaler(rollout.query)
    terms = []
    for env_id, task in enumerate(source.env.tasks):
        for first in range(0, 2 * task.params, 4):
            own = slice(first, min(first + 4, 2 * task.params)), slice(env_id, env_id + 1)
            prediction = agent.policy.sequence(x[own], rollout.states[first // 4]["hidden"][env_id : env_id + 1])
            ratio = (prediction.log_prob(rollout.action[own]) - rollout.log_prob[own]).exp()
            gain = torch.minimum(ratio * advantage[own], ratio.clamp(0.8, 1.2) * advantage[own])
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

    def noted(self, data, count, part):
        parts.append(part.tolist())
        return original(self, data, count, part)

    monkeypatch.setattr(RL2, "_loss", noted)
    agent.update([_collect(agent, source)], 0)
    assert [len(part) for part in parts] == [2] * 3 * 3 * 2  # two parts, side by side, of each of three minibatches
    passes = np.reshape(parts, (3, 12))
    assert np.sort(passes).tolist() == [list(range(12))] * 3
    assert not np.array_equal(passes[0], passes[1])


def test_a_parts_gradients_add_up_to_the_minibatch_and_to_a_finite_difference():
    agent, source = _reach(2, 40, 1, chunk=20)
    shaken(agent)
    rollout = _collect(agent, source)
    gradients = {}
    for shards in (1, 2, 3):
        one, _ = _reach(2, 40, 1, chunk=20, shards=shards, epochs=1, learning_rate=0.0, max_grad_norm=1e9)
        one.policy.load_state_dict(agent.policy.state_dict())
        one.update([rollout], 0)
        gradients[shards] = torch.cat([p.grad.flatten() for p in one.policy.parameters()])
    torch.testing.assert_close(gradients[1], gradients[2], rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(gradients[1], gradients[3], rtol=1e-4, atol=1e-6)


def test_resuming_an_agent_continues_it_bit_for_bit():
    whole, source = _reach(2, 20, 2)
    cut, source_2 = _reach(2, 20, 2)
    whole.iterate(source, 0)
    cut.iterate(source_2, 0)
    state = cut.state_dict()
    again, source_3 = _reach(2, 20, 2)
    again.load_state_dict(state)
    assert whole.iterate(source, 1) == again.iterate(source_3, 1)
    assert all(torch.equal(a, b) for a, b in zip(whole.policy.parameters(), again.policy.parameters()))


def test_what_is_annealed_reaches_its_end_and_is_part_of_the_checkpoint():
    agent, source = _reach(2, 10, 1, std=1.0, max_std_final=0.5, learning_rate_final=0.0, entropy_final=0.0)
    agent.total_iterations = 3
    for iteration in range(3):
        agent.iterate(source, iteration)
    assert agent.entropy == 0
    assert agent.optimizer.param_groups[0]["lr"] == 0
    assert agent.state_dict()["policy"]["head.max_log_std"].item() == pytest.approx(np.log(0.5))
    assert _collect(agent, source).prediction.std.max() <= 0.5 + 1e-6


def test_a_loss_that_is_not_finite_stops_the_update_before_the_weights_change():
    agent, source = _reach(2, 20, 1)
    rollout = _collect(agent, source)
    before = [p.clone() for p in agent.policy.parameters()]
    reward = rollout.reward.clone()
    reward[3, 0] = float("nan")
    with pytest.raises(NonFiniteError, match="not finite"):
        agent.update([dataclasses.replace(rollout, reward=reward)], 0)
    assert all(torch.equal(a, b) for a, b in zip(before, agent.policy.parameters()))


def test_episodes_that_end_early_wait_for_the_others_and_statistics_count_each_step_once():
    agent, source = toy(COUNTDOWNS, 4, 10, 2, RL2Settings(**{**SMALL, "chunk": 4}))
    rollout = _collect(agent, source)
    lengths = [task.params for task in source.env.tasks]
    assert rollout.valid.sum(0).tolist() == [2 * n for n in lengths]
    assert len(rollout.reward) == 2 * max(lengths)
    agent.update([rollout], 0)
    scaler = agent.policy.scaler
    seen = np.concatenate([1000.0 + 100 * np.arange(n) for n in lengths] * 2)
    assert scaler.count.item() == 2 * sum(lengths)
    np.testing.assert_allclose(scaler.mean[0], seen.mean(), rtol=1e-6)
    np.testing.assert_allclose(scaler.variance[0], seen.var(), rtol=1e-5)


@pytest.mark.parametrize("bootstrap", [True, False])
def test_a_trial_that_ends_early_has_the_advantages_of_the_same_trial_alone(bootstrap):
    """For the same baseline: the recursion runs over the trial's own steps, and stops where they stop."""
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


def test_the_baseline_leaves_an_advantage_where_trials_are_short():
    """Its features are more than the trial's steps: fitted to those alone it would equal their returns."""
    agent, source = toy(COUNTDOWNS, 6, 10, 2, RL2Settings(**SMALL, bootstrap=False))
    rollout = _collect(agent, source)
    returns = discounted_returns(torch.where(rollout.valid, rollout.reward, 0.0), agent.settings.gamma)
    value, explained = agent.baseline(rollout, agent.scaled(rollout))
    left = (returns - value[:-1])[rollout.valid].var() / returns[rollout.valid].var()
    assert left > 0.05
    assert explained < 0.5  # rewards are the noise of actions, of which nothing can be foretold


def test_the_variance_explained_is_that_of_trials_the_baseline_was_not_fitted_to():
    """Rewards that only the trial's own noise decides are not explained, however well they are fitted."""
    agent, source = _reach(4, 40, 1)
    rollout = _collect(agent, source)
    noise = torch.randn(rollout.reward.shape, generator=torch.Generator().manual_seed(0))
    assert agent.baseline(dataclasses.replace(rollout, reward=noise), agent.scaled(rollout))[1] < 0.3
    time = rollout.step.float()
    assert agent.baseline(dataclasses.replace(rollout, reward=time), agent.scaled(rollout))[1] > 0.5


@pytest.mark.parametrize("bootstrap", [True, False])
def test_the_baseline_is_fitted_to_the_returns_that_miss_little(bootstrap, monkeypatch):
    """Trials of 6 and 10 steps: to all, or where something comes after them, all but the last half or 3 / (1 - gamma)."""
    asked = []

    def fit(features, returns, weight, pull):
        asked.append((returns.numpy(), weight.numpy(), pull))
        return PooledFit(*(torch.ones(features.shape[1:]).double() for _ in range(2)))

    monkeypatch.setattr("metarl.agents.rl2.fit_pooled", fit)
    agent, source = toy(COUNTDOWNS, 4, 10, 2, RL2Settings(**SMALL, bootstrap=bootstrap, gamma=0.25, pull=7.0))
    rollout = _collect(agent, source)
    value, explained = agent.baseline(rollout, agent.scaled(rollout))
    ((returns, weight, pull),) = asked
    assert pull == 7
    for env_id, task in enumerate(source.env.tasks):
        n, after = 2 * task.params, 0.0
        fitted = n - (min(n // 2, 4) if bootstrap else 0)
        assert weight[:, env_id].tolist() == [1.0] * fitted + [0.0] * (10 - fitted)
        for t in reversed(range(n)):
            after = float(rollout.reward[t, env_id]) + 0.25 * after
            assert returns[t, env_id] == pytest.approx(after, rel=1e-6)
        said = agent._features(rollout, agent.scaled(rollout))[:, env_id].sum(-1).numpy() * (np.arange(11) < n + bootstrap)
        np.testing.assert_allclose(value[:, env_id], said, rtol=1e-9)
    valid = rollout.valid.numpy()
    left = returns[valid] - agent._features(rollout, agent.scaled(rollout))[:-1].sum(-1).numpy()[valid]
    assert explained == pytest.approx(1 - left.var() / returns[valid].var(), rel=1e-6)


def test_the_baseline_sees_inputs_squares_and_time_and_no_reward_across_a_border():
    agent, source = _reach(2, 20, 2)
    rollout = _collect(agent, source)
    rollout = dataclasses.replace(rollout, query=rollout.query._replace(previous_reward=rollout.query.previous_reward + 3))
    features = agent._features(rollout, agent.scaled(rollout)).numpy()
    assert features.shape == (41, 2, 2 * (39 + 4 + 2) + 7)
    x, squares, time = np.split(features, [45, 90], -1)
    np.testing.assert_array_equal(squares, x**2)
    seen = agent.policy.scaler(rollout.query).double().numpy()
    border = rollout.query.previous_done[:, 0].numpy() == 1
    assert np.flatnonzero(border).tolist() == [20]
    np.testing.assert_array_equal(x[:40][~border], seen[~border])
    np.testing.assert_array_equal(x[:40][border][..., :-2], seen[border][..., :-2])
    assert seen[border][..., -2].all()
    assert not x[:40][border][..., -2].any()
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
    ],
)
def test_settings_that_make_no_sense_are_refused(wrong):
    with pytest.raises(UserError):
        RL2Settings(**wrong)


def test_zeros_that_make_sense_are_settings():
    settings = RL2Settings(learning_rate=0.0, gamma=0.0, lam=0.0, anneal_from=0.0, entropy=0.0)
    assert settings.learning_rate == 0
