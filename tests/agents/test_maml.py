"""MAML for control: products and gradients compared with double back-propagation, excluded tasks, outer steps."""

import dataclasses
import math

import numpy as np
import pytest
import torch
from builders.tiny import BITS, COUNTDOWNS, perturbed, toy, trial

from metarl.agents.maml import agent as maml
from metarl.agents.maml import outer_steps as outer
from metarl.agents.maml.agent import MAML, MAMLSettings
from metarl.envs import suite
from metarl.errors import UserError
from metarl.learner import NonFiniteError
from metarl.optim.inner_loop import flatten, stacked, unflatten
from metarl.runs.checkpoints import copied

SMALL = {"layers": (8,), "inner_lr": 0.3, "fvp_fraction": 1.0}


def _reach(num_envs: int = 3, max_episode_steps: int = 20, episodes: int = 2, **settings):
    return toy(suite("ml1:reach-v3").train, num_envs, max_episode_steps, episodes, MAMLSettings(**{**SMALL, **settings}))


def _in_float64(agent, batches):
    """Convert the agent and its groups to float64; the old distributions are those of the adapted policies."""
    agent.policy.double()
    agent.meta = {name: value.double() if name.startswith("rate.") else value for name, value in agent.meta.items()}
    agent.rates = {name: rate.double() for name, rate in agent.rates.items()}
    groups = [
        tuple(p.map(lambda t: t.double() if t.is_floating_point() else t) for p in group)
        for group in agent._groups([agent.phase(batch) for batch in batches])
    ]
    groups_in_float64 = []
    for group in groups:
        # each inner step's batch was collected by the parameters before it
        collected: list = []
        for phase in group:
            policy = agent.policy(
                phase.x, agent.chain(agent.meta, tuple(collected), len(collected))[-1] if collected else _start(agent, phase)
            )
            old = policy.map(torch.Tensor.detach)
            collected.append(phase._replace(old=old, log_prob=old.log_prob(phase.action)))
        groups_in_float64.append(tuple(collected))
    return groups_in_float64


def _start(agent, phase):
    return stacked(agent.split(agent.meta)[0], len(phase.x))


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"inner_steps": 2},
        {"rates": "weight"},
        {"rates": "layer", "adapt_part": "head"},
        {"first_order": True},
        {"inner_loss": "log_prob"},
        {"state_std": True},
        {"inner_steps": 0},
    ],
)
def test_the_fisher_product_equals_the_hessian_of_the_kl(settings):
    agent, source = _reach(**settings)
    groups = _in_float64(agent, trial(perturbed(agent), source))
    start = flatten(agent.meta.values()).detach()

    def kl(vector):
        return sum(outer.trpo_surrogate(agent, g, agent.chain(unflatten(vector, agent.meta), g))[1].sum() for g in groups)

    products = [outer._fisher(agent, 0.0, group) for group in groups]
    for seed in range(2):
        v = torch.randn(len(start), generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
        expected = torch.autograd.functional.vhp(kl, start, v)[1]
        product_sum = sum(product(v) for product in products)
        assert (product_sum - expected).norm() < 1e-6 * expected.norm()


@pytest.mark.parametrize("settings", [{}, {"inner_steps": 2}, {"rates": "weight"}, {"sampling_credit": 2.0}])
@pytest.mark.parametrize("surrogate", [outer.trpo_surrogate, outer.ppo_surrogate])
def test_the_meta_gradient_equals_a_finite_difference(settings, surrogate):
    agent, source = _reach(**settings)
    batches = trial(perturbed(agent), source)
    credited = agent._credited([agent.phase(b) for b in batches], batches)
    groups = [
        tuple(phase._replace(credit=c.credit[i : i + 1].double()) for phase, c in zip(group, credited))
        for i, group in enumerate(_in_float64(agent, batches))
    ]
    start = flatten(agent.meta.values()).detach()
    # move away from ratios of 1, so that clipping and the KL contribute
    noise = torch.randn(start.shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    outer._set(agent, start + 0.03 * noise)
    start = flatten(agent.meta.values()).detach()
    _, num_tasks, _, gradient = outer._mean_gradient(agent, surrogate, groups)
    assert num_tasks == 3

    def value(vector):
        meta = unflatten(vector, agent.meta)
        return sum(surrogate(agent, group, agent.chain(meta, group))[0].sum().item() for group in groups) / 3

    for seed in range(3):
        v = torch.randn(len(start), generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
        v, h = v / v.norm(), 1e-5
        difference = (value(start + h * v) - value(start - h * v)) / (2 * h)
        assert float(gradient @ v) == pytest.approx(difference, rel=1e-4, abs=1e-8)


def test_an_inner_step_uses_only_the_steps_of_its_task():
    """Episodes have 3 and 5 steps: each task's loss is the mean over its own steps."""
    agent, source = toy(COUNTDOWNS, 4, 10, 1, MAMLSettings(**SMALL))
    source.begin(0)
    rollout, _ = source.collect(perturbed(agent), agent.initial_state(4), 0)
    adapted, advantage = agent.adapt(agent.initial_state(4), rollout), agent.phase(rollout).advantage
    for i, task in enumerate(source.env.tasks):
        n = task.params
        distribution = agent.policy(agent.policy.scaler.observation(rollout.query.obs[:n, i]))
        loss = -(distribution.log_prob(rollout.action[:n, i]) * advantage[i, :n]).sum() / n
        gradient = torch.autograd.grad(loss, list(agent.policy.parameters()))
        for (name, parameter), slope in zip(agent.policy.named_parameters(), gradient):
            torch.testing.assert_close(adapted[name][i], parameter.detach() - 0.3 * slope, rtol=1e-4, atol=1e-6)


def test_advantages_are_cut_where_episodes_end_and_standardised_within_each_task():
    agent, source = _reach(num_envs=2, max_episode_steps=30, episodes=2, gamma=0.9, lam=0.8)
    source.begin(0)
    rollout, _ = source.collect(agent, agent.initial_state(2), 0)
    x = agent.policy.scaler.observation(rollout.query.obs)
    advantages = agent.advantages(rollout, x)
    np.testing.assert_allclose(advantages.mean(0), 0, atol=1e-6)
    np.testing.assert_allclose(advantages.std(0, unbiased=False), 1, atol=1e-4)
    scaled = dataclasses.replace(rollout, reward=rollout.reward * torch.tensor([1.0, 100.0]))
    np.testing.assert_allclose(agent.advantages(scaled, x), advantages, atol=1e-3)


def test_weights_stay_bit_for_bit_where_the_line_search_finds_nothing():
    agent, source = _reach(max_kl=1e-15)
    before = [p.clone() for p in agent.policy.parameters()]
    metrics = agent.iterate(source, 0)
    assert metrics["accepted"] == 0
    assert metrics["line_search"] == 15
    assert all(torch.equal(a, b) for a, b in zip(before, agent.policy.parameters()))
    agent.settings = dataclasses.replace(agent.settings, max_kl=0.01)
    assert agent.iterate(source, 1)["accepted"] == 1


def test_an_accepted_step_keeps_within_the_kl_limit_and_raises_the_surrogate():
    agent, source = _reach(num_envs=6)
    for iteration in range(4):
        batches = trial(agent, source, iteration)
        metrics = agent.update(batches, iteration)
        groups = agent._groups([agent.phase(batch) for batch in batches])
        measured = torch.stack([outer._measure(agent, flatten(agent.meta.values()).detach(), g) for g in groups]).mean(0)
        assert metrics["accepted"] == 1
        assert 0 < measured[1] <= 0.01 * (1 + 1e-4)
        assert measured[1] == pytest.approx(metrics["kl"], rel=1e-3)
        assert metrics["surrogate_gain"] > 0


def test_the_step_does_not_depend_on_how_many_tasks_are_computed_together():
    results = []
    for together in (False, True):
        agent, source = _reach(num_envs=4)
        if together:
            agent._groups = lambda phases: [tuple(phases)]
        agent.iterate(source, 0)
        results.append(flatten(agent.meta.values()).detach())
    torch.testing.assert_close(*results, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("options", [{}, {"outer": "ppo"}, {"outer": "reptile"}])
def test_tasks_whose_adapted_policy_is_not_finite_are_left_out_and_counted(options, monkeypatch):
    """The update equals that of the other tasks, whether tasks are computed one by one or together."""
    results, phase_of = [], MAML.phase
    for case in ("poisoned", "poisoned, together", "without"):
        agent, source = _reach(num_envs=5, **options)
        batches = trial(agent, source)
        if case == "poisoned, together":
            agent._groups = lambda phases: [tuple(phases)]

        def phase(self, rollout, batches=batches, case=case):
            poisoned = phase_of(self, rollout)
            if case == "without":
                return poisoned.map(lambda t: t[torch.tensor([0, 1, 3])])
            poisoned.advantage[torch.tensor([2, 4])] = float("nan" if rollout is batches[0] else 1)
            return poisoned

        monkeypatch.setattr(MAML, "phase", phase)
        if case == "without":
            monkeypatch.setattr(MAML, "_credited", lambda self, phases, last: phases)
        metrics = agent.update(batches, 0)
        monkeypatch.undo()
        assert metrics["failed_tasks"] == (0 if case == "without" else 2)
        results.append(flatten(agent.meta.values()).detach())
    torch.testing.assert_close(results[0], results[2], rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(results[1], results[2], rtol=1e-3, atol=1e-5)


def test_more_than_half_failing_tasks_stop_the_run():
    agent, source = _reach(num_envs=3, inner_lr=1e25)
    with pytest.raises(NonFiniteError, match="inner_lr may be too large"):
        agent.iterate(source, 0)


@pytest.mark.parametrize("inner_lr", [1e25, float("inf")])
def test_a_policy_with_non_finite_weights_keeps_the_old_ones(inner_lr, caplog):
    """The adapted weights, or only the policy's outputs, are not finite."""
    agent, source = _reach(num_envs=3)
    agent.rates = {name: torch.tensor(inner_lr) for name in agent.rates}
    source.begin(0)
    rollout, state = source.collect(agent, agent.initial_state(3), 0)
    adapted = agent.adapt(state, rollout)
    assert "3 of 3 tasks is not finite" in caplog.text
    assert all(torch.equal(adapted[name], value) for name, value in state.items())


def test_rewards_without_variance_change_no_weights():
    agent, source = _reach()
    batches = [dataclasses.replace(b, reward=torch.full_like(b.reward, 3.0)) for b in trial(agent, source)]
    parameters = flatten(agent.meta.values()).detach().clone()
    constant = [dataclasses.replace(b, reward=torch.zeros_like(b.reward)) for b in batches]
    adapted = agent.adapt(agent.initial_state(3), constant[0])
    assert all(torch.equal(adapted[name], value) for name, value in agent.initial_state(3).items())
    metrics = agent.update(constant, 0)
    assert metrics["accepted"] == 0
    assert torch.equal(flatten(agent.meta.values()).detach(), parameters)
    assert math.isfinite(agent.update(batches, 0)["kl"])


def test_a_support_without_steps_or_without_an_episode_end_is_accepted():
    agent, source = _reach(num_envs=3)
    batches = trial(agent, source)
    valid, done = batches[0].valid.clone(), batches[0].done.clone()
    valid[:, 1], done[:, 2] = False, False
    support = dataclasses.replace(batches[0], valid=valid, done=done)
    adapted, initial = agent.adapt(agent.initial_state(3), support), agent.initial_state(3)
    for name, value in adapted.items():
        assert torch.equal(value[1], initial[name][1])
        assert value.isfinite().all()
    assert not torch.equal(adapted["head.linear.weight"][2], initial["head.linear.weight"][2])
    assert agent.update([support, batches[1]], 0)["failed_tasks"] == 0


def test_the_fisher_product_is_computed_on_evenly_spaced_steps():
    agent, source = _reach(max_episode_steps=20, episodes=2, fvp_fraction=0.25)
    row_lists, rows = [], agent.phase(trial(agent, source)[0]).rows

    class Spy(type(rows.__self__)):
        def rows(self, chosen):
            row_lists.append(chosen.tolist())
            return super().rows(chosen)

    group = tuple(Spy(*rows.__self__) for _ in range(2))
    outer._fisher(agent, 0.6, group)
    assert row_lists[0] == [2, 6, 10, 14, 18, 22, 26, 30, 34, 38]
    chosen_rows = group[0].rows(torch.tensor(row_lists[0]))
    np.testing.assert_allclose(chosen_rows.weight.sum(1), 1, rtol=1e-6)


def test_reptile_moves_towards_the_mean_of_the_adapted_weights():
    agent, source = _reach(outer="reptile", learning_rate=0.5)
    batches = trial(agent, source)
    state = agent.initial_state(3)
    for batch in batches:  # reptile adapts to the query too
        state = agent.adapt(state, batch)
    initial = {name: value.detach().clone() for name, value in agent.meta.items()}
    agent.update(batches, 0)
    for name, value in agent.meta.items():
        expected = initial[name] + 0.5 * (state[name].mean(0) - initial[name])
        torch.testing.assert_close(value.detach(), expected, rtol=1e-4, atol=1e-6)


def test_the_penalty_of_promp_follows_its_target():
    """The penalty doubles if the support's KL exceeds 1.5 times its target, and halves if it is far below."""
    weights = []
    for target in (1e-9, 1e9):
        agent, source = _reach(outer="ppo", learning_rate=1e-2, inner_kl_target=target)
        agent.iterate(source, 0)
        weights.append(agent.inner_kl)
    assert weights == [1e-3, 2.5e-4]


def test_without_inner_steps_adapt_returns_the_state_unchanged():
    agent, source = _reach(inner_steps=0, outer="ppo")
    source.begin(0)
    rollout, state = source.collect(agent, agent.initial_state(3), 0)
    assert agent.phases == 1
    assert agent.adapt(state, rollout) is state


def _episodes(rollout, returns):
    """Give each episode the return `returns`, (episodes, tasks), by the reward of its last step."""
    reward = torch.zeros_like(rollout.reward)
    for e, row in enumerate(returns):
        for i, value in enumerate(row):
            reward[torch.nonzero(rollout.valid[:, i] & (rollout.episode[:, i] == e)).max(), i] = value
    return dataclasses.replace(rollout, reward=reward)


def test_credit_does_not_depend_on_the_difficulty_of_a_task():
    """Returns rise from 10 to 13 on the easy task and from 0 to 3 on the hard one: both get the same credit (E-MAML)."""
    agent, source = _reach(num_envs=2, sampling_credit=1.0)
    support, query = trial(agent, source)
    batches = [_episodes(support, [[10, 0], [10, 0]]), _episodes(query, [[14, 3], [12, 3]])]
    credit = agent._credited([agent.phase(b) for b in batches], batches)[0].credit
    np.testing.assert_allclose(credit, 0, atol=1e-5)
    # by hand: R = 13 and 3; the other episode's return is b: R - b = (13 - 8, 13 - 12), (3 - 0, 3 - 1); mean 2.75
    batches[0] = _episodes(support, [[12, 1], [8, 0]])
    credit = agent._credited([agent.phase(b) for b in batches], batches)[0].credit
    expected = np.array([[5, 1], [3, 2]]) - 2.75
    np.testing.assert_allclose(credit.view(2, 2, 20)[..., 0], expected / np.sqrt((expected**2).mean()), rtol=1e-5)
    assert (credit.view(2, 2, 20) == credit.view(2, 2, 20)[..., :1]).all()


def test_a_support_of_one_episode_is_credited_against_the_mean_of_the_tasks():
    agent, source = _reach(num_envs=2, episodes=1, sampling_credit=1.0)
    support, query = trial(agent, source)
    batches = [_episodes(support, [[5, 7]]), _episodes(query, [[13, 3]])]
    credit = agent._credited([agent.phase(b) for b in batches], batches)[0].credit
    np.testing.assert_allclose(credit, [[1.0] * 20, [-1.0] * 20], rtol=1e-5)


def test_advantages_do_not_depend_on_longer_trials_in_the_batch(monkeypatch):
    """The baseline is fixed: a hundredth of the observation."""
    monkeypatch.setattr(maml, "fit_linear", lambda features, *_: 0.01 * (torch.arange(features.shape[-1]) == 0).double())
    agent, source = toy(COUNTDOWNS, 4, 10, 2, MAMLSettings(**SMALL))
    source.begin(0)
    rollout, _ = source.collect(agent, agent.initial_state(4), 0)
    together = agent.advantages(rollout, rollout.query.obs)
    lengths = rollout.valid.sum(0).tolist()
    assert set(lengths) == {6, 10}
    fields = [f.name for f in dataclasses.fields(rollout) if isinstance(getattr(rollout, f.name), torch.Tensor)]
    for i, n in enumerate(lengths):
        alone = dataclasses.replace(rollout, **{name: getattr(rollout, name)[:n, i : i + 1] for name in fields})
        np.testing.assert_allclose(together[:n, i], agent.advantages(alone, rollout.query.obs[:n, i : i + 1])[:, 0], rtol=1e-5)
        assert not together[n:, i].any()


def test_discrete_actions_adapt_too():
    agent, source = toy(BITS, 8, 2, 2, MAMLSettings(layers=(8,), inner_lr=1.0))
    batches = trial(agent, source)
    metrics = agent.update(batches, 0)
    assert metrics["failed_tasks"] == 0
    assert "std" not in metrics
    product = outer._fisher(agent, 0.0, agent._groups([agent.phase(b) for b in batches])[0])
    v = torch.randn(sum(p.numel() for p in agent.meta.values()))
    assert float(v @ product(v)) >= 0


@pytest.mark.parametrize("options", [{"rates": "weight"}, {"outer": "ppo"}, {"outer": "reptile"}, {"inner_steps": 2}])
def test_resuming_an_agent_continues_it_bit_for_bit(options):
    agent, source = _reach(**options)
    agent.iterate(source, 0)
    resumed, source_2 = _reach(**options)
    resumed.load_state_dict(copied(agent.state_dict()))
    assert agent.iterate(source, 1) == resumed.iterate(source_2, 1)
    assert all(torch.equal(a, b) for a, b in zip(agent.meta.values(), resumed.meta.values()))


@pytest.mark.parametrize(
    "wrong",
    [
        {"outer": "sgd"},
        {"inner_loss": "mse"},
        {"outer": "reptile", "inner_steps": 0},
        {"fvp_fraction": 0.0},
        {"backtrack": 1.5},
        {"layers": ()},
        {"cg_iterations": 0},
        {"gamma": 1.0},
        {"max_kl": 0.0},
        {"outer": "reptile", "rates": "weight"},
    ],
)
def test_invalid_settings_are_refused(wrong):
    with pytest.raises(UserError):
        MAMLSettings(**wrong)
