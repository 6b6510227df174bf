"""MAML's advantages, inner step and surrogates, calculated a second time, task by task."""

import dataclasses

import numpy as np
import pytest
import torch
from builders.tiny import COUNTDOWNS, perturbed, toy, trial

from metarl.agents.maml import outer_steps as outer
from metarl.agents.maml.agent import MAMLSettings
from metarl.envs import suite
from metarl.optim.inner_loop import flatten

SMALL = {"layers": (8,), "inner_lr": 0.3, "fvp_fraction": 1.0}


def _agent_and_source(uneven: bool, num_envs: int = 4, **settings):
    """An agent, and a source with episodes of one length, or of 3 and of 5 steps."""
    maml_settings = MAMLSettings(**{**SMALL, **settings})
    return (
        toy(COUNTDOWNS, num_envs, 10, 3, maml_settings)
        if uneven
        else toy(suite("ml1:reach-v3").train, num_envs, 20, 2, maml_settings)
    )


def _single_env(rollout, i: int):
    """The rollout of one environment."""
    fields = {f.name: getattr(rollout, f.name) for f in dataclasses.fields(rollout)}
    fields |= {name: value[:, i : i + 1] for name, value in fields.items() if isinstance(value, torch.Tensor)}
    fields["query"] = type(rollout.query)(*(value[:, i : i + 1] for value in rollout.query))
    return type(rollout)(**fields | {"prediction": rollout.prediction.map(lambda t: t[:, i : i + 1])})


@pytest.mark.parametrize("uneven", [False, True])
def test_the_inner_step_of_a_task_does_not_depend_on_other_tasks(uneven):
    """Covers the baseline, standardisation and the mean over a task's steps, with different episode lengths."""
    agent, source = _agent_and_source(uneven)
    source.begin(0)
    rollout, _ = source.collect(perturbed(agent), agent.initial_state(4), 0)
    scale = torch.tensor([1.0, 10.0, 100.0, 1000.0])  # the scale of rewards may differ between tasks
    rollout = dataclasses.replace(rollout, reward=rollout.reward * scale)
    together = agent.adapt(agent.initial_state(4), rollout)
    for i in range(4):
        alone = agent.adapt(agent.initial_state(1), _single_env(rollout, i))
        for name, value in alone.items():
            torch.testing.assert_close(together[name][i], value[0], rtol=1e-3, atol=1e-5)
            assert not torch.equal(value[0], agent.initial_state(1)[name][0])


@pytest.mark.parametrize("uneven", [False, True])
def test_advantages(uneven):
    """The ridge regression is solved by normal equations; returns and advantages follow from their recursions."""
    agent, source = _agent_and_source(uneven, gamma=0.9, lam=0.8)
    source.begin(0)
    rollout, _ = source.collect(agent, agent.initial_state(4), 0)
    x = agent.policy.scaler.observation(rollout.query.obs)
    advantages = agent.advantages(rollout, x).numpy()
    for i in range(4):
        valid = rollout.valid[:, i].numpy()
        reward, done = rollout.reward[valid, i].numpy().astype(float), rollout.done[valid, i].numpy()
        returns = np.append(reward, 0.0)
        for t in reversed(range(len(reward))):
            returns[t] += 0.9 * returns[t + 1] * (not done[t])
        time = rollout.step[valid, i].numpy() / (rollout.step[valid, i].max().item() + 1)
        inputs = x[valid, i].double().numpy()
        features = np.hstack([inputs, inputs**2, time[:, None] ** np.arange(4)])
        gram = features.T @ features + 1e-5 * len(reward) * np.eye(features.shape[1])
        value = np.append(features @ np.linalg.solve(gram, features.T @ returns[:-1]), 0.0)
        advantage = np.zeros(len(value))
        for t in reversed(range(len(reward))):
            goes_on = 0.9 * (not done[t])
            advantage[t] = reward[t] + goes_on * value[t + 1] - value[t] + goes_on * 0.8 * advantage[t + 1]
        advantage = advantage[:-1]
        np.testing.assert_allclose(advantages[valid, i], (advantage - advantage.mean()) / advantage.std(), rtol=1e-3, atol=1e-4)
        assert not advantages[~valid, i].any()


@pytest.mark.parametrize("inner_steps", [0, 1, 2])
@pytest.mark.parametrize("together", [False, True])
def test_surrogates(inner_steps, together):
    """Both surrogates are means over a task's steps, with entropy, credit for the support and the penalty."""
    options = {"inner_steps": inner_steps, "sampling_credit": 2.0, "entropy": 0.1, "clip": 0.1, "inner_kl": 0.7}
    agent, source = _agent_and_source(True, **options)
    batches = trial(perturbed(agent), source)
    phases = agent._credited([agent.phase(batch) for batch in batches], batches)
    with torch.no_grad():  # so that ratios are not 1
        for parameter in agent.policy.parameters():
            parameter.add_(0.05)
        groups = [tuple(phases)] if together else agent._groups(phases)
        chains = [agent.chain(agent.meta, group) for group in groups]
        trpo, ppo = (
            torch.cat([torch.stack(surrogate(agent, group, chain)) for group, chain in zip(groups, chains)], 1)
            for surrogate in (outer.trpo_surrogate, outer.ppo_surrogate)
        )
        joined = [{name: torch.cat([part[name] for part in parts]) for name in parts[0]} for parts in zip(*chains)]
        for i, task in enumerate(source.env.tasks):
            terms, credits = [], []
            for batch, phase, params in zip(batches, phases, joined):
                n = 3 * task.params
                now = agent.policy(phase.x[i : i + 1, :n], {name: value[i : i + 1] for name, value in params.items()})
                old = batch.prediction.map(lambda t, n=n, i=i: t[None, :n, i])
                ratio = (now.log_prob(batch.action[None, :n, i]) - batch.log_prob[None, :n, i]).exp()
                terms.append((ratio, phase.advantage[i : i + 1, :n], old.kl(now).mean(), now.entropy()))
                credits.append(2.0 * (ratio * phase.credit[i : i + 1, :n]).mean())
            credit = sum(credits[:-1]) if inner_steps else 0.0
            assert inner_steps == 0 or credit != 0
            ratio, advantage, kl, entropy = terms[-1]
            torch.testing.assert_close(trpo[0, i], (ratio * advantage).mean() + credit, rtol=1e-4, atol=1e-5)
            torch.testing.assert_close(trpo[1, i], kl, rtol=1e-4, atol=1e-6)
            clipped = torch.minimum(ratio * advantage, ratio.clamp(0.9, 1.1) * advantage)
            assert not torch.equal(clipped, ratio * advantage)
            penalty = sum(kl for _, _, kl, _ in terms[:-1]) / inner_steps if inner_steps else torch.tensor(0.0)
            torch.testing.assert_close(ppo[1, i], penalty, rtol=1e-4, atol=1e-6)
            expected = (clipped + 0.1 * entropy).mean() + credit - 0.7 * penalty
            torch.testing.assert_close(ppo[0, i], expected, rtol=1e-4, atol=1e-5)


def test_the_line_search_starts_at_the_kl_limit_and_requires_more_than_rounding(monkeypatch):
    agent, source = _agent_and_source(False, max_kl=0.02)
    batches, arguments, search = trial(perturbed(agent), source), {}, outer.line_search

    def recorded(start, step, measure, **keywords):
        arguments.update(keywords, start=start, step=step)
        return search(start, step, measure, **keywords)

    monkeypatch.setattr(outer, "line_search", recorded)
    agent.update(batches, 0)
    groups = agent._groups([agent.phase(batch) for batch in batches])
    outer._set(agent, arguments["start"])
    _, _, (surrogate, _), _ = outer._mean_gradient(agent, outer.trpo_surrogate, groups)
    assert arguments["surrogate"] - float(surrogate) == pytest.approx(outer.ROUNDING, abs=outer.ROUNDING / 2)
    products = [outer._fisher(agent, 0.0, group) for group in groups]
    length = arguments["step"] @ torch.stack([product(arguments["step"]) for product in products]).mean(0)
    assert float(length) / 2 == pytest.approx(0.02, rel=1e-2)
    assert (arguments["max_kl"], arguments["backtrack"], arguments["tries"]) == (0.02, 0.8, 15)
    assert not torch.equal(arguments["start"], flatten(agent.meta.values()).detach() + arguments["step"])


def test_zero_is_accepted_where_it_is_valid():
    settings = MAMLSettings(inner_lr=0.0, learning_rate=0.0, inner_kl=0.0, clip=0.0, gamma=0.0, lam=0.0, entropy=0.0)
    assert settings.learning_rate == 0
