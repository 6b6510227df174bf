"""stable-baselines3's PPO and SAC as agents."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from builders.tiny import BITS, COUNTDOWNS, HITS, toy

from metarl.agents.sb3.base import SB3PPO, PPOSettings, Transitions
from metarl.agents.sb3.sac import SB3SAC, SACSettings
from metarl.errors import UserError
from metarl.learner import NonFiniteError, PolicyInput
from metarl.rollouts.rollout import joined
from metarl.rollouts.trials import play_trial

pytest.importorskip("stable_baselines3")
from stable_baselines3.common.callbacks import BaseCallback

from metarl.envs.sb3 import SB3VecEnv

CPU = torch.device("cpu")
SMALL = ["--net-arch", "8"]


QUICK = PPOSettings(net_arch=(8,), learning_rate=3e-2, batch_size=40, fit_epochs=10, normalize_reward=False)
QUICK_SAC = SACSettings(
    net_arch=(16,), learning_rate=1e-2, learning_starts=40, batch_size=32, buffer_size=2000, fit_steps=60, ent_coef=0.02
)
# actions do not affect later steps
BANDIT = replace(QUICK, gamma=0.0, batch_size=25, log_std_init=-0.7)
BANDIT_SAC = replace(QUICK_SAC, gamma=0.0)


def _query(obs):
    n = len(obs)
    return PolicyInput(torch.from_numpy(obs), torch.zeros(n, 1), torch.zeros(n), torch.zeros(n))


@pytest.mark.parametrize(("settings", "kind"), [(QUICK, SB3PPO), (QUICK_SAC, SB3SAC)])
def test_actions_equal_those_of_sb3(settings, kind):
    agent, source = toy(COUNTDOWNS, 3, 4, 1, settings, kind)
    agent.iterate(source, 0)  # so that the input scaler is not the identity
    obs = np.array([[1000.0], [1200.0], [1400.0]], np.float32)
    prediction, _ = agent.predict(agent.initial_state(3), _query(obs))
    expected, _ = agent.model.predict(obs, deterministic=True)
    np.testing.assert_allclose(prediction.mode.clamp(-1, 1), expected, atol=1e-6)
    torch.manual_seed(0)
    action = prediction.sample(torch.randn(3, 2))
    if kind is SB3PPO:
        expected_log_prob = agent.model.policy.get_distribution(torch.from_numpy(obs)).log_prob(action)
    else:
        mean, log_std, _ = agent.model.actor.get_action_dist_params(torch.from_numpy(obs))
        expected_log_prob = agent.model.actor.action_dist.proba_distribution(mean, log_std).log_prob(action)
    np.testing.assert_allclose(prediction.log_prob(action).detach(), expected_log_prob.detach(), atol=2e-4)


@pytest.mark.parametrize(("settings", "kind"), [(QUICK, SB3PPO), (QUICK_SAC, SB3SAC)])
@pytest.mark.parametrize("num_envs", [1, 3])
def test_the_buffer_fits_the_number_of_environments(settings, kind, num_envs):
    agent, source = toy(HITS, num_envs, 20, 1, settings, kind)
    agent.iterate(source, 0)
    buffer = agent.model.rollout_buffer if kind is SB3PPO else agent.model.replay_buffer
    size = 20 if kind is SB3PPO else settings.buffer_size // num_envs
    assert (buffer.n_envs, buffer.buffer_size) == (num_envs, size)


def test_the_squashed_density_integrates_to_one():
    """The density integrates to 1 over the range of the actions, and samples lie in that range."""
    from metarl.nn.distributions import SquashedGaussian

    n = 20_001
    a = torch.linspace(-2, 4, n)[1:-1, None]
    ones = torch.ones_like(a)
    d = SquashedGaussian(0.3 * ones, -0.7 * ones, -2 * ones, 4 * ones)
    assert float(d.log_prob(a).exp().sum() * 6 / (n - 1)) == pytest.approx(1, abs=1e-3)
    samples = d.sample(torch.randn(len(a), 1, generator=torch.Generator().manual_seed(0)))
    assert -2 < float(samples.min()) < float(samples.max()) < 4
    assert float((samples < 1).float().mean()) == pytest.approx(
        float((d.log_prob(a).exp() * (a < 1)[:, 0]).sum() * 6 / n), abs=0.02
    )


class Recorder(BaseCallback):
    """Records the first rollout of SB3's own PPO, in the order of `Transitions`."""

    def __init__(self) -> None:
        super().__init__()
        self.rows = []

    def _on_step(self) -> bool:
        step = self.locals
        for env_id, info in enumerate(step["infos"]):
            done = bool(step["dones"][env_id])
            next_obs = info["terminal_observation"] if done else step["new_obs"][env_id]
            time_limit = info["TimeLimit.truncated"]
            row = (
                step["obs_tensor"][env_id].numpy(),
                step["actions"][env_id],
                step["rewards"][env_id],
                next_obs,
                done,
                done and not time_limit,
                True,
            )
            self.rows.append(tuple(map(np.copy, row)))
        return True


@pytest.mark.parametrize("task", [0, 1])
def test_fine_tuning_fills_the_buffer_as_sb3_does(task, monkeypatch):
    """Compares values, log-probabilities, advantages and returns of terminated (3 steps) and truncated (4 steps) episodes."""
    tasks = replace(COUNTDOWNS, tasks=COUNTDOWNS.tasks[task : task + 1])
    agent, source = toy(tasks, 1, 4, 3, QUICK, SB3PPO)
    agent.iterate(source, 0)
    venv, callback = SB3VecEnv(source.env), Recorder()
    model = agent.model
    model.n_steps, model.rollout_buffer = 12, agent._buffer(model, 12, 1)
    monkeypatch.setattr(type(model), "train", lambda self: None)
    model.set_env(venv)
    model.learn(12, callback=callback, reset_num_timesteps=False, log_interval=None)
    transitions = Transitions(*(torch.from_numpy(np.stack(field)) for field in zip(*callback.rows)))
    assert int(transitions.done.sum()) == 4 - task
    agent.sb3.load_tensors(agent.tuner, agent.sb3.tensors(model))
    agent._fit(agent.tuner, transitions)
    for name in ("observations", "actions", "rewards", "values", "log_probs", "advantages", "returns", "episode_starts"):
        a, b = (getattr(model.rollout_buffer, name) for model in (model, agent.tuner))
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5, err_msg=name)


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize(("settings", "kind", "episodes"), [(BANDIT, SB3PPO, 6), (BANDIT_SAC, SB3SAC, 4)])
def test_fine_tuning_improves_each_task_and_keeps_the_shared_weights(settings, kind, episodes, seed):
    """The goals are hidden, so one policy for all of them cannot reach the returns of a fine-tuned policy per goal."""
    agent, source = toy(HITS, 4, 20, 1, settings, kind, seed=seed)
    before = agent.sb3.tensors(agent.model)
    noise = [np.random.default_rng(10 * seed + i) for i in range(4)]
    options = {"episodes": episodes, "adapt_every": 1, "resets": lambda e: e, "device": CPU, "branch": lambda e: True}
    trial = list(play_trial(source.env, agent, HITS.tasks, noise, **options))
    assert [episode.adapted for episode in trial] == list(range(episodes))
    first, last = (episode.branch.by_episode(1)["return"][0] / 20 for episode in (trial[0], trial[-1]))
    assert first.min() < 0.5
    assert last.min() > 0.6
    assert last.mean() > first.mean() + 0.2
    for name, tensor in agent.sb3.tensors(agent.model).items():
        assert torch.equal(tensor, before[name]), name


@pytest.mark.parametrize(("settings", "kind"), [(QUICK, SB3PPO), (QUICK_SAC, SB3SAC)])
def test_tasks_never_mix_and_episodes_of_different_lengths_are_complete(settings, kind):
    agent, source = toy(COUNTDOWNS, 2, 4, 1, settings, kind)
    options = {"episodes": 3, "adapt_every": 9, "resets": lambda e: e, "device": CPU}
    generators = [np.random.default_rng(i) for i in range(2)]
    supports = [episode.support for episode in play_trial(source.env, agent, COUNTDOWNS.tasks, generators, **options)]
    rollout = joined(supports)
    assert rollout.valid.sum(0).tolist() == [9, 12]
    assert rollout.terminated.sum(0).tolist() == [3, 0]
    ends = rollout.done & rollout.valid
    assert rollout.next_obs[ends].flatten().unique().tolist() == [1300, 1400]
    adapted = agent.adapt(agent.initial_state(2), rollout)
    adapted_twice = agent.adapt(adapted, rollout)
    for i in range(2):
        transitions = Transitions.from_rollout(rollout).task(i)
        agent.sb3.load_tensors(agent.tuner, agent.sb3.tensors(agent.model))
        with agent.sb3.seeded(_stream(agent)):
            agent._fit(agent.tuner, transitions)
        for name, tensor in agent.sb3.tensors(agent.tuner).items():
            assert torch.equal(tensor, adapted[name][i]), name
    moved = [name for name in adapted if name.endswith("weight") and not torch.equal(adapted[name], adapted_twice[name])]
    assert moved
    if kind is SB3SAC:
        assert adapted_twice["replay.valid"].sum(1).tolist() == [18, 24]


def _stream(agent):
    from metarl.rollouts.random_streams import SHUFFLE, generator

    return generator(agent.seed, SHUFFLE, 0)


def test_a_task_whose_fine_tuning_fails_keeps_its_weights(caplog):
    agent, source = toy(HITS, 4, 20, 1, QUICK, SB3PPO)
    options = {"episodes": 1, "adapt_every": 9, "resets": lambda e: e, "device": CPU}
    generators = [np.random.default_rng(i) for i in range(4)]
    (episode,) = play_trial(source.env, agent, HITS.tasks, generators, **options)
    episode.support.reward[:, 2] = torch.nan
    adapted = agent.adapt(agent.initial_state(4), episode.support)
    assert "of a task are not finite" in caplog.text
    name = "policy.action_net.bias"
    assert [torch.equal(adapted[name][i], agent.initial_state(1)[name][0]) for i in range(4)] == [False, False, True, False]


def test_discrete_actions_and_running_statistics():
    agent, source = toy(BITS, 2, 5, 2, replace(QUICK, batch_size=10), SB3PPO)
    metrics = agent.iterate(source, 0)
    assert np.isfinite(list(metrics.values())).all()
    assert source.report()["steps"] == 20
    scaler = agent.sb3.scalers(agent.model)[0]
    assert int(scaler.count) == 20
    options = {"episodes": 2, "adapt_every": 1, "resets": lambda e: e, "device": CPU}
    trial = list(play_trial(source.env, agent, BITS.tasks, [np.random.default_rng(i) for i in range(2)], **options))
    assert trial[1].adapted == 1
    assert int(scaler.count) == 20  # evaluation does not change the statistics
    with pytest.raises(UserError, match="SAC needs Box actions"):
        toy(BITS, 2, 5, 2, QUICK_SAC, SB3SAC)


def test_sac_without_fine_tuning_does_not_adapt():
    agent, source = toy(HITS, 4, 5, 1, replace(QUICK_SAC, fit_steps=0), SB3SAC)
    assert agent.adapt_every is None
    options = {"episodes": 3, "adapt_every": 1, "resets": lambda e: e, "device": CPU}
    trial = list(play_trial(source.env, agent, HITS.tasks, [np.random.default_rng(i) for i in range(4)], **options))
    assert [episode.adapted for episode in trial] == [0, 0, 0]


def test_non_finite_weights_stop_training():
    agent, source = toy(HITS, 4, 20, 1, QUICK, SB3PPO)
    with torch.no_grad():
        agent.model.policy.action_net.bias.fill_(torch.nan)
    with pytest.raises(NonFiniteError, match="weights of PPO"):
        agent.iterate(source, 0)


def test_global_random_generators_are_restored():
    agent, source = toy(HITS, 4, 20, 1, QUICK, SB3PPO)
    np.random.seed(3)  # noqa: NPY002
    torch.manual_seed(3)
    before = np.random.get_state()[1].copy(), torch.get_rng_state()  # noqa: NPY002
    agent.iterate(source, 0)
    assert np.array_equal(before[0], np.random.get_state()[1])  # noqa: NPY002
    assert torch.equal(before[1], torch.get_rng_state())
