"""Whole trials in compiled code: the engine's steps number for number, the policy's actions, and any number of threads."""

import signal
from dataclasses import replace

import numpy as np
import pytest
import torch
from builders.oracle import VARIED_TASKS, native_tasks, random_actions
from builders.tiny import BITS, perturbed, toy
from hypothesis import given, settings
from hypothesis import strategies as st

from metarl.agents.baselines import Hover, goal_blind
from metarl.agents.maml.agent import MAMLSettings
from metarl.agents.rl2 import RL2Settings
from metarl.benchmark.profiling import Playback
from metarl.envs import TaskDistribution, make_vec, suite
from metarl.errors import UserError
from metarl.learner import Agent
from metarl.rollouts.playing import play
from metarl.rollouts.rollout import Rollout
from metarl.rollouts.storage import first_input

CPU = torch.device("cpu")
REACH = suite("ml1:reach-v3").train
RL2 = RL2Settings(layers=(16,), hidden=12, chunk=7)
MAML = MAMLSettings(layers=(16, 16))
SETTINGS = {
    "rl2": RL2,
    "rl2, std by state": replace(RL2, state_std=True, layers=(9, 16)),
    "maml": MAML,
    "maml, std by state": replace(MAML, state_std=True),
}


def played_back(env, actions: np.ndarray, episodes: int) -> Rollout:
    agent = Playback(env.single_observation_space.shape[0])
    obs, _ = env.reset(seed=3)
    rollout, _ = play(env, agent, {}, first_input(env, obs), episodes=episodes, noise=actions, device=CPU)
    return rollout


def stepped(env, actions: np.ndarray) -> tuple[np.ndarray, ...]:
    """Observations before each step and after the last, rewards, successes, ends of episodes and their observations."""
    obs, _ = env.reset(seed=3)
    rows, finals = [obs], {}
    rewards, successes, dones = [], [], []
    for t, action in enumerate(actions):
        obs, reward, terminated, truncated, info = env.step(action)
        done = terminated | truncated
        for i in np.flatnonzero(done):
            finals[t, int(i)] = info["final_obs"][i].astype(np.float32)
        rows.append(obs)
        rewards.append(reward)
        successes.append(info["success"])
        dones.append(done)
    return np.stack(rows).astype(np.float32), np.float32(rewards), np.array(successes), np.array(dones), finals


def assert_equal(rollout: Rollout, expected: tuple[np.ndarray, ...]) -> None:
    rows, rewards, successes, dones, finals = expected
    np.testing.assert_array_equal(torch.cat([rollout.query.obs, rollout.final.obs[None]]), rows)
    np.testing.assert_array_equal(rollout.reward, rewards)
    np.testing.assert_array_equal(rollout.success, successes)
    np.testing.assert_array_equal(rollout.done, dones)
    assert {tuple(index) for index in rollout.ends[0].tolist()} == finals.keys()
    for index, obs in zip(rollout.ends[0].tolist(), rollout.ends[1].numpy()):
        np.testing.assert_array_equal(obs, finals[tuple(index)])


@pytest.mark.parametrize("resample", ["never", "episode"])
def test_recorded_actions_give_the_engines_numbers(resample):
    """All of some classes of task, over two ends of episodes; `tests/envs` compares the engine's steps with stock."""
    tasks, actions = native_tasks(), random_actions(3 * 30, num_envs=len(VARIED_TASKS))
    envs = [make_vec(tasks, len(VARIED_TASKS), max_episode_steps=30, resample=resample, engine="native") for _ in range(2)]
    assert_equal(played_back(envs[0], actions, 3), stepped(envs[1], actions.clip(-1, 1)))
    assert [task.params for task in envs[0].tasks] == [task.params for task in envs[1].tasks]


def test_task_ids_and_visible_goals_are_observed():
    tasks, actions = suite("mt10").train, random_actions(2 * 12, num_envs=5)
    envs = [make_vec(tasks, 5, max_episode_steps=12, engine="native") for _ in range(2)]
    assert_equal(played_back(envs[0], actions, 2), stepped(envs[1], actions.clip(-1, 1)))


def test_an_episode_goes_on_from_the_step_after_compiled_ones():
    actions = random_actions(20, num_envs=3)
    envs = [make_vec(REACH, 3, max_episode_steps=10, engine="native") for _ in range(2)]
    played_back(envs[0], actions, 2)
    stepped(envs[1], actions.clip(-1, 1))
    for _ in range(11):
        results = [env.step(actions[0].clip(-1, 1)) for env in envs]
        np.testing.assert_array_equal(results[0][0].astype(np.float32), results[1][0].astype(np.float32))
        np.testing.assert_array_equal(results[0][3], results[1][3])


def collected(acting: str, name: str, *, tasks=REACH, num_envs=3, steps=15, episodes=2, seed=0, **options):
    agent, source = toy(tasks, num_envs, steps, episodes, SETTINGS[name], seed=seed, engine="native", **options)
    source.acting = acting
    source.begin(0)
    return source.collect(perturbed(agent), agent.initial_state(num_envs), 0)


@pytest.mark.parametrize("name", SETTINGS)
def test_a_compiled_policy_acts_as_in_torch(name):
    """From the same noise; the simulator magnifies rounding, so only the first steps are compared closely."""
    (python, state), (compiled, after) = (collected(acting, name) for acting in ("python", "compiled"))
    for a, b in ((python.prediction.mean, compiled.prediction.mean), (python.action, compiled.action)):
        np.testing.assert_allclose(a[0], b[0], atol=2e-6)
        np.testing.assert_allclose(a, b, atol=1e-3)
    np.testing.assert_allclose(python.prediction.log_std, compiled.prediction.log_std, atol=1e-3)
    np.testing.assert_allclose(python.log_prob, compiled.log_prob, atol=1e-3)
    np.testing.assert_allclose(python.query.previous_action, compiled.query.previous_action, atol=1e-3)
    assert torch.equal(python.query.previous_done, compiled.query.previous_done)
    assert torch.equal(python.ends[0], compiled.ends[0])
    assert torch.equal(python.step, compiled.step)
    assert torch.equal(python.episode, compiled.episode)
    if name.startswith("rl2"):
        assert len(python.states) == len(compiled.states) == 5
        for a, b in zip([*python.states, state], [*compiled.states, after]):
            np.testing.assert_allclose(a["hidden"], b["hidden"], atol=1e-3)
    else:
        assert after is state or all(torch.equal(after[key], state[key]) for key in state)


@pytest.mark.parametrize("name", ["rl2", "maml"])
def test_the_number_of_threads_changes_no_bit(name):
    runs = [
        collected("compiled", name, tasks=suite("ml10").train, num_envs=7, steps=60, num_threads=threads)[0]
        for threads in (1, 2, 7)
    ]
    for other in runs[1:]:
        for field in ("action", "log_prob", "reward", "done", "success", "valid", "episode"):
            assert torch.equal(getattr(runs[0], field), getattr(other, field))
        assert torch.equal(runs[0].query.obs, other.query.obs)


class Steady(Agent):
    """Moves the hand to one place and stays there."""

    def __init__(self, env, place):
        self.hover = Hover(place, (0.01,) * 4, env.single_observation_space.shape[0], CPU)

    def initial_state(self, num_tasks):
        return {}

    def program(self, state):
        return self.hover.program(state)

    def predict(self, state, query):
        return self.hover.predict(state, query)


def test_success_ends_an_episode_and_the_environment_goes_on_to_the_next():
    """Those that succeed early end early; the rows that they leave are invalid, and do not count."""
    by_acting = []
    for acting in ("python", "compiled"):
        env = make_vec(REACH, 4, max_episode_steps=80, terminate_on_success=True, engine="native")
        obs, _ = env.reset(seed=2)
        x, y, z = env.engine.scene(0).goal
        agent = Steady(env, (x, y, z + 0.045))
        noise = np.random.default_rng(0).standard_normal((160, 4, 4)).astype(np.float32)
        rollout, _ = play(env, agent, {}, first_input(env, obs), episodes=2, noise=noise, device=CPU, acting=acting)
        by_acting.append(rollout)
    python, compiled = by_acting
    lengths = compiled.valid.sum(0)
    assert lengths.min() < 100
    assert lengths.max() == 160
    assert torch.equal(python.valid, compiled.valid)
    for field in ("done", "terminated", "success", "episode", "step"):
        a, b = (getattr(rollout, field)[compiled.valid] for rollout in by_acting)
        assert torch.equal(a, b), field
    ends = {tuple(index) for index in python.ends[0].tolist() if python.valid[tuple(index)]}
    assert {tuple(index) for index in compiled.ends[0].tolist()} == ends
    assert not compiled.reward[~compiled.valid].any()


def test_an_unstable_simulation_ends_the_episode_alone(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)  # MuJoCo writes a log file into the working directory
    actions = random_actions(60, num_envs=2)
    calm = played_back(make_vec(REACH, 2, max_episode_steps=30, engine="native"), actions, 2)
    env = make_vec(REACH, 2, max_episode_steps=30, engine="native")
    env.reset(seed=3)
    env.engine.held[1].qpos[:] = 1e12
    monkeypatch.setattr(env, "reset", lambda seed: (env._obs, {}))
    rollout = played_back(env, actions, 2)
    assert rollout.done[0, 1]
    assert not rollout.terminated[0, 1]
    assert rollout.valid[:, 1].sum() == 31
    assert torch.equal(rollout.query.obs[:, 0], calm.query.obs[:, 0])


@settings(max_examples=10, deadline=None)
@given(st.integers(1, 4), st.integers(1, 4), st.integers(1, 3), st.integers(1, 9))
def test_every_length_and_number_is_recorded_once(num_envs, steps, episodes, every):
    agent, source = toy(REACH, num_envs, steps, episodes, replace(RL2, chunk=every), engine="native")
    source.begin(0)
    rollout, state = source.collect(agent, agent.initial_state(num_envs), 0)
    total = steps * episodes
    assert rollout.valid.all()
    assert rollout.reward.shape == (total, num_envs)
    assert rollout.done.sum() == episodes * num_envs == len(rollout.ends[0])
    assert rollout.step.tolist() == [[t % steps] * num_envs for t in range(total)]
    assert rollout.episode.tolist() == [[t // steps] * num_envs for t in range(total)]
    assert len(rollout.states) == -(-total // every)
    hidden, x = agent.initial_state(num_envs)["hidden"], agent.policy.scaler(rollout.query)
    for t in range(total):  # the recorded states are those of the policy
        if t % every == 0:
            np.testing.assert_allclose(rollout.states[t // every]["hidden"], hidden.detach(), atol=2e-6)
        _, hidden = agent.policy.step(x[t], hidden)
    np.testing.assert_allclose(state["hidden"], hidden.detach(), atol=2e-6)


def test_without_noise_the_mean_is_played():
    env = make_vec(REACH, 2, max_episode_steps=10, engine="native")
    agent, _ = toy(REACH, 2, 10, 1, RL2, engine="native")
    obs, _ = env.reset(seed=0)
    rollout, _ = play(env, perturbed(agent), agent.initial_state(2), first_input(env, obs), episodes=1, noise=None, device=CPU)
    assert torch.equal(rollout.action, rollout.prediction.mean)


def test_the_goal_blind_agent_is_compiled_alike():
    env = make_vec(REACH, 2, max_episode_steps=40, engine="native")
    hover = goal_blind(REACH, (0.2,) * 4, 39, CPU)
    noise = np.random.default_rng(0).standard_normal((40, 2, 4)).astype(np.float32)
    python, compiled = (
        play(env, hover, {}, first_input(env, env.reset(seed=0)[0]), episodes=1, noise=noise, device=CPU, acting=acting)[0]
        for acting in ("python", "compiled")
    )
    np.testing.assert_allclose(python.prediction.mean, compiled.prediction.mean, atol=1e-3)
    assert float(python.prediction.mean.abs().max()) == 1.0


def test_an_interrupt_stops_a_long_play_and_leaves_nothing_to_step():
    env = make_vec(REACH, 2, max_episode_steps=500, engine="native")
    played = []

    def interrupt(share):
        played.append(share)
        signal.raise_signal(signal.SIGINT)

    agent, _ = toy(REACH, 2, 500, 1, RL2, engine="native")
    obs, _ = env.reset(seed=0)
    noise = np.zeros((500 * 400, 2, 4), np.float32)
    with pytest.raises(KeyboardInterrupt):
        play(
            env,
            agent,
            agent.initial_state(2),
            first_input(env, obs),
            episodes=400,
            noise=noise,
            device=CPU,
            progress=interrupt,
        )
    assert played[-1] < 0.5
    with pytest.raises(Exception, match="reset before stepping"):
        env.step(np.zeros((2, 4), np.float32))
    env.reset()
    env.step(np.zeros((2, 4), np.float32))


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"engine": "python"}, "acting cannot be compiled: the engine is python, not native"),
        ({"engine": "native", "info": "full"}, "acting cannot be compiled: the environment was made with"),
        ({"engine": "native", "autoreset": "next_step"}, "acting cannot be compiled: the environment was made with"),
    ],
)
def test_environments_without_compiled_acting_are_refused_if_it_is_asked_for(options, says):
    agent, source = toy(REACH, 1, 5, 1, RL2, **options)
    source.acting = "compiled"
    source.begin(0)
    with pytest.raises(UserError, match=says):
        source.collect(agent, agent.initial_state(1), 0)


def test_policies_without_a_program_are_refused_if_it_is_asked_for():
    agent, source = toy(BITS, 2, 3, 2, RL2)
    source.begin(0)
    source.collect(agent, agent.initial_state(2), 0)  # auto plays in Python
    source.acting = "compiled"
    with pytest.raises(UserError, match="acting cannot be compiled: the engine is python"):
        source.collect(agent, agent.initial_state(2), 0)
    env = make_vec(REACH, 1, max_episode_steps=5, engine="native")
    obs, _ = env.reset()
    with pytest.raises(UserError, match="acting cannot be compiled: Agent has no compiled form; --acting auto or python can"):
        play(env, Agent(), {}, first_input(env, obs), episodes=1, noise=None, device=CPU, acting="compiled")
    with pytest.raises(UserError, match="acting 'compield'"):
        play(env, Agent(), {}, first_input(env, obs), episodes=1, noise=None, device=CPU, acting="compield")


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_weights_that_are_not_finite_are_refused(value):
    agent, source = toy(REACH, 1, 5, 1, RL2, engine="native")
    source.begin(0)
    with torch.no_grad():
        agent.policy.gru.weight_hh_l0[0, 0] = value
    with pytest.raises(UserError, match="weights are not finite"):
        source.collect(agent, agent.initial_state(1), 0)


def test_an_action_that_overflows_names_its_environment():
    agent, source = toy(REACH, 2, 5, 1, RL2, engine="native")
    source.begin(0)
    with torch.no_grad():
        agent.policy.head.linear.weight.fill_(3e38)
        agent.policy.gru.bias_ih_l0.fill_(1.0)
    with pytest.raises(UserError, match=r"actions of environments \[[01]\] are not finite"):
        source.collect(agent, agent.initial_state(2), 0)


def test_tasks_may_change_between_plays():
    tasks = suite("ml10").train
    env = make_vec(TaskDistribution(tasks.tasks), 2, max_episode_steps=10, engine="native")
    for first in (0, 50, 100):
        env.set_tasks(tasks.tasks[first : first + 2])
        actions = random_actions(10)
        other = make_vec(TaskDistribution(tasks.tasks), 2, max_episode_steps=10, engine="native")
        other.set_tasks(tasks.tasks[first : first + 2])
        assert_equal(played_back(env, actions, 1), stepped(other, actions.clip(-1, 1)))


@pytest.mark.parametrize("settings", [RL2Settings(chunk=1), MAMLSettings()])
@torch.no_grad()
def test_single_steps_from_recorded_inputs_are_torchs(settings):
    """With the default sizes, and a head that moves: means from the inputs and states that the compiled trial recorded."""
    agent, source = toy(REACH, 3, 40, 1, settings, engine="native")
    agent.policy.head.linear.weight.mul_(100)
    source.begin(0)
    rollout, _ = source.collect(agent, agent.initial_state(3), 0)
    assert rollout.prediction.mean.abs().max() > 0.5
    for t in range(40):
        query = type(rollout.query)(*(rows[t] for rows in rollout.query))
        prediction, _ = agent.predict(rollout.states[t] if rollout.states else agent.initial_state(3), query)
        np.testing.assert_allclose(rollout.prediction.mean[t], prediction.mean, rtol=0, atol=1e-6)
