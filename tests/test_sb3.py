"""stable-baselines3: its `VecEnv` over our slots, its wrappers and algorithms on top, and its PPO and SAC as agents."""

import json
import runpy
import subprocess
import sys
import types
import warnings
from dataclasses import replace
from pathlib import Path

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium.spaces import Box
from test_evaluate import _digests
from tiny import BITS, COUNTDOWNS, equal_runs, metrics, refused, toy, train

from metarl import cli
from metarl.agents.sb3.base import SB3PPO, Played, PPOSettings
from metarl.agents.sb3.sac import SB3SAC, SACSettings
from metarl.envs import Task, TaskDistribution, make_vec, suite
from metarl.errors import UserError
from metarl.learner import NonFiniteError, Step
from metarl.rollouts.rollout import joined
from metarl.rollouts.trials import play_trial
from metarl.sharing.opening import open_run

pytest.importorskip("stable_baselines3")
from sb3_contrib import TRPO, RecurrentPPO
from stable_baselines3 import PPO, SAC
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.env_checker import check_env
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.vec_env import VecMonitor, VecNormalize, VecVideoRecorder

from metarl.envs.sb3 import SB3VecEnv, make_sb3

CPU = torch.device("cpu")
SMALL = ["--net-arch", "8"]


class Hit(gymnasium.Env):
    """The reward is how near the action comes to the task's number; near it is a success, at the first step only."""

    observation_space = Box(-1, 1, (1,), np.float64)
    action_space = Box(-1, 1, (1,), np.float32)
    render_mode = "rgb_array"

    def set_task(self, goal: float) -> None:
        self.goal = goal

    def reset(self, *, seed=None, options=None):
        self.t = 0
        return np.zeros(1), {}

    def step(self, action):
        self.t += 1
        return np.zeros(1), 1 - abs(float(action[0]) - self.goal), False, False, {"success": self.t == 1}

    def render(self):
        return np.full((4, 6, 3), self.t, np.uint8)


HITS = TaskDistribution(tuple(Task("hit", g) for g in (-0.8, -0.4, 0.4, 0.8)), make=lambda name: Hit())


class One(gymnasium.Env):
    """A `VecEnv` of one slot as an environment, for SB3's `check_env`."""

    def __init__(self, venv) -> None:
        self.venv = venv
        self.observation_space, self.action_space, self.metadata = venv.observation_space, venv.action_space, venv.metadata

    def reset(self, *, seed=None, options=None):
        if seed is not None:
            self.venv.seed(seed)
        return self.venv.reset()[0], {}

    def step(self, action):
        obs, reward, done, infos = self.venv.step(action[None])
        cut = infos[0]["TimeLimit.truncated"]
        shown = infos[0].get("terminal_observation", obs[0])
        return shown, float(reward[0]), bool(done[0] and not cut), cut, infos[0]


# ---------------------------------------------------------------------------------------------------------- the VecEnv


def test_numbers_are_those_of_our_own_vector_environment():
    tasks, actions = suite("ml1:reach-v3").train, np.random.default_rng(0).uniform(-1, 1, (20, 3, 4)).astype(np.float32)
    ours = make_vec(tasks, 3, horizon=8, resample="episode", info="full")
    theirs = make_sb3(tasks, 3, horizon=8, info="full")
    obs, _ = ours.reset(seed=7)
    assert theirs.seed(7)[0] == 7
    np.testing.assert_array_equal(theirs.reset(), obs.astype(np.float32))
    assert theirs.get_attr("task") == ours.tasks
    seen = set()
    for t, action in enumerate(actions):
        obs, reward, terminated, truncated, info = ours.step(action)
        got, rewards, dones, infos = theirs.step(action)
        assert got.dtype == rewards.dtype == theirs.observation_space.dtype == np.float32
        np.testing.assert_array_equal(got, obs.astype(np.float32))
        np.testing.assert_array_equal(rewards, reward.astype(np.float32))
        np.testing.assert_array_equal(dones, terminated | truncated)
        assert dones.all() == ((t + 1) % 8 == 0)
        for slot, one in enumerate(infos):
            assert theirs.observation_space.contains(got[slot])
            assert one["TimeLimit.truncated"] == truncated[slot]
            assert one["success"] == info["success"][slot]
            assert one["obj_to_target"] == info["obj_to_target"][slot]
            assert ("terminal_observation" in one) == ("is_success" in one) == dones[slot]
            if dones[slot]:
                np.testing.assert_array_equal(one["terminal_observation"], info["final_obs"][slot].astype(np.float32))
                assert not np.array_equal(one["terminal_observation"], got[slot])
        seen |= set(theirs.get_attr("task"))
    assert len(seen) > 3  # another task for every episode
    theirs.close()
    ours.close()


def test_ends_of_the_environment_are_told_from_ends_of_time():
    """Horizon 4: a countdown from 3 ends by itself, one from 5 is cut."""
    venv = make_sb3(COUNTDOWNS, 2, horizon=4, resample="never")
    venv.reset()
    lengths = [task.params for task in venv.get_attr("task")]
    for t in range(1, 5):
        _, _, dones, infos = venv.step(np.zeros((2, 2), np.float32))
        for slot, length in enumerate(lengths):
            ends = t == length or t == 4 - (length == 3) * 4
            assert dones[slot] == ends
            assert infos[slot]["TimeLimit.truncated"] == (ends and length == 5)
            if ends:
                assert infos[slot]["terminal_observation"] == [1000 + 100 * t]


def test_success_at_any_step_is_what_sb3_logs():
    venv = make_sb3(HITS, 2, horizon=3)
    venv.reset()
    for t in range(6):
        _, _, _, infos = venv.step(np.zeros((2, 1), np.float32))
        assert [bool(one["success"]) for one in infos] == [t % 3 == 0] * 2
        assert [one.get("is_success") for one in infos] == [True if t % 3 == 2 else None] * 2


def test_seeds_decide_everything_and_are_used_once():
    def played(venv, seed):
        venv.seed(seed)
        first = venv.reset()
        return np.array([first, *(venv.step(np.zeros((2, 4), np.float32))[0] for _ in range(7))])

    one, other = (make_sb3("ml1:reach-v3", 2, horizon=3) for _ in range(2))
    before = played(one, 3)
    played(other, 4)
    np.testing.assert_array_equal(played(other, 3), before)
    goals = one.get_attr("task")
    one.reset()
    assert one.get_attr("task") != goals
    assert one.seed() != one.seed()


def test_attributes_and_methods_of_slots():
    venv = make_sb3(HITS, 3, horizon=5)
    assert venv.get_attr("task") == [None] * 3
    assert venv.get_attr("horizon", 1) == [5]
    assert venv.get_attr("observation_space", [0]) == [venv.observation_space]
    assert not venv.has_attr("nothing")
    assert venv.env_is_wrapped(Monitor) == [False] * 3
    venv.set_attr("colour", "red", [0, 2])
    assert venv.get_attr("colour", [0, 2]) == ["red", "red"]
    assert not venv.has_attr("colour")  # slot 1 has none
    venv.set_attr("horizon", 2)
    assert venv.env.horizon == 2
    with pytest.raises(UserError, match="all slots share horizon"):
        venv.set_attr("horizon", 9, [0])
    venv.env_method("set_task", HITS.tasks[3], indices=1)
    venv.set_attr("task", HITS.tasks[0], [0, 2])
    venv.reset()
    assert venv.get_attr("task") == [HITS.tasks[i] for i in (0, 3, 0)]
    assert venv.env_method("render") == [None] * 3


def test_check_env_finds_nothing_on_one_slot():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check_env(One(make_sb3("ml1:reach-v3", 1, horizon=30)))
        check_env(One(make_sb3("mt1:reach-v3", 1, horizon=30)))


def test_wrappers_of_sb3_work_on_top(tmp_path, monkeypatch):
    frames = []
    module = types.ModuleType("moviepy.video.io.ImageSequenceClip")
    module.ImageSequenceClip = lambda images, fps: (
        frames.extend(images)
        or types.SimpleNamespace(  # type: ignore[attr-defined]
            write_videofile=lambda path: open(path, "w").close()
        )
    )
    for name in ("moviepy", "moviepy.video", "moviepy.video.io"):  # an optional one of SB3's
        monkeypatch.setitem(sys.modules, name, types.ModuleType(name))
    monkeypatch.setitem(sys.modules, module.__name__, module)
    plain = make_sb3(HITS, 4, horizon=3, render_mode="rgb_array", resample="never")
    video = VecVideoRecorder(VecMonitor(plain), str(tmp_path), lambda step: step == 0, video_length=3)
    venv = VecNormalize(video)
    venv.reset()
    goals = np.array([task.params for task in plain.get_attr("task")])
    for _ in range(4):
        _, _, dones, infos = venv.step(np.zeros((4, 1), np.float32))
        for slot in np.flatnonzero(dones):
            assert infos[slot]["episode"]["l"] == 3
            assert infos[slot]["episode"]["r"] == pytest.approx(3 * (1 - abs(goals[slot])), abs=1e-5)
    assert venv.ret_rms.count > 4
    # two by two slots of 4 x 6; the third step's picture shows the next episode's start, as in SB3's own
    assert [frame.shape for frame in frames] == [(8, 12, 3)] * 4
    assert [int(frame.max()) for frame in frames] == [0, 1, 2, 0]
    assert next(tmp_path.glob("*.mp4"))
    mean, _ = evaluate_policy(PPO("MlpPolicy", plain, n_steps=3, batch_size=12), VecMonitor(plain), n_eval_episodes=4)
    assert 0 < mean < 3
    venv.close()


@pytest.mark.parametrize(
    ("algorithm", "policy", "settings"),
    [
        (PPO, "MlpPolicy", {"n_steps": 20, "batch_size": 20, "n_epochs": 1}),
        (SAC, "MlpPolicy", {"learning_starts": 20, "batch_size": 8, "buffer_size": 200, "policy_kwargs": {"net_arch": [8]}}),
        (TRPO, "MlpPolicy", {"n_steps": 20, "batch_size": 40}),
        (RecurrentPPO, "MlpLstmPolicy",
         {"n_steps": 20, "batch_size": 40, "n_epochs": 1, "policy_kwargs": {"lstm_hidden_size": 8}}),
    ],
)  # fmt: skip
def test_algorithms_of_sb3_train_on_it(algorithm, policy, settings):
    venv = make_sb3(suite("ml1:reach-v3"), 2, horizon=15)
    model = algorithm(policy, venv, seed=0, device="cpu", **settings)
    before = [p.detach().clone() for p in model.policy.parameters()]
    model.learn(80)
    assert model.num_timesteps == 80
    assert any(not torch.equal(a, b) for a, b in zip(before, model.policy.parameters()))
    assert len(model.ep_success_buffer) == 4
    venv.close()


WITHOUT = """
import sys
import metarl.envs
assert "stable_baselines3" not in sys.modules
sys.modules["stable_baselines3"] = None  # as if it were not installed
from metarl.errors import UserError
try:
    metarl.envs.make_sb3
except UserError as error:
    assert "pip install 'stable-baselines3" in str(error), error
else:
    raise AssertionError("no error")
assert not hasattr(metarl.envs, "make_sb4")
from metarl import cli
assert cli.run(["list"]) == 0
assert cli.run(["train", "sb3-ppo", "ml1:reach-v3", "--run-dir", sys.argv[1]]) == 2
"""


def test_without_it_all_else_works_and_it_is_said_what_to_install(tmp_path):
    command = [sys.executable, "-c", WITHOUT, str(tmp_path / "run")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "pip install 'stable-baselines3" in done.stderr
    assert "sb3-sac" in done.stdout
    assert not (tmp_path / "run").exists()


# ----------------------------------------------------------------------------------------------------------- the agents

QUICK = PPOSettings(net_arch=(8,), learning_rate=3e-2, batch_size=40, fit_epochs=10, normalize_reward=False)
QUICK_SAC = SACSettings(
    net_arch=(16,), learning_rate=1e-2, learning_starts=40, batch_size=32, buffer_size=2000, fit_steps=60, ent_coef=0.02
)
# nothing that is done changes what comes next
BANDIT = replace(QUICK, gamma=0.0, batch_size=25, log_std_init=-0.7)
BANDIT_SAC = replace(QUICK_SAC, gamma=0.0)


def _query(obs):
    n = len(obs)
    return Step(torch.from_numpy(obs), torch.zeros(n, 1), torch.zeros(n), torch.zeros(n))


@pytest.mark.parametrize(("settings", "kind"), [(QUICK, SB3PPO), (QUICK_SAC, SB3SAC)])
def test_actions_are_those_of_sb3(settings, kind):
    agent, source = toy(COUNTDOWNS, 3, 4, 1, settings, kind)
    agent.iterate(source, 0)  # so that the input scaler is not the identity
    obs = np.array([[1000.0], [1200.0], [1400.0]], np.float32)
    prediction, _ = agent.predict(agent.begin(3), _query(obs))
    expected, _ = agent.model.predict(obs, deterministic=True)
    np.testing.assert_allclose(prediction.mode.clamp(-1, 1), expected, atol=1e-6)
    torch.manual_seed(0)
    action = prediction.sample(torch.randn(3, 2))
    if kind is SB3PPO:
        theirs = agent.model.policy.get_distribution(torch.from_numpy(obs)).log_prob(action)
    else:
        mean, log_std, _ = agent.model.actor.get_action_dist_params(torch.from_numpy(obs))
        theirs = agent.model.actor.action_dist.proba_distribution(mean, log_std).log_prob(action)
    np.testing.assert_allclose(prediction.log_prob(action).detach(), theirs.detach(), atol=2e-4)


def test_the_squashed_distribution_is_one():
    """Its density integrates to 1 over the range of the actions, and its samples lie in it."""
    from metarl.nn.distributions import SquashedGaussian

    n = 20_001
    a = torch.linspace(-2, 4, n)[1:-1, None]
    ones = torch.ones_like(a)
    d = SquashedGaussian(0.3 * ones, -0.7 * ones, -2 * ones, 4 * ones)
    assert float(d.log_prob(a).exp().sum() * 6 / (n - 1)) == pytest.approx(1, abs=1e-3)
    drawn = d.sample(torch.randn(len(a), 1, generator=torch.Generator().manual_seed(0)))
    assert -2 < float(drawn.min()) < float(drawn.max()) < 4
    assert float((drawn < 1).float().mean()) == pytest.approx(
        float((d.log_prob(a).exp() * (a < 1)[:, 0]).sum() * 6 / n), abs=0.02
    )


class Recorded(BaseCallback):
    """The first rollout of SB3's own PPO, as `Played`; its training is not wanted."""

    def __init__(self) -> None:
        super().__init__()
        self.rows = []

    def _on_step(self) -> bool:
        got = self.locals
        for slot, info in enumerate(got["infos"]):
            done = bool(got["dones"][slot])
            following = info["terminal_observation"] if done else got["new_obs"][slot]
            cut = info["TimeLimit.truncated"]
            row = (got["obs_tensor"][slot].numpy(), got["actions"][slot], got["rewards"][slot], following, done,
                   done and not cut, True)  # fmt: skip
            self.rows.append(tuple(map(np.copy, row)))
        return True


@pytest.mark.parametrize("task", [0, 1])
def test_fine_tuning_sees_what_sb3_would_have_made_of_the_same_steps(task, monkeypatch):
    """Values, log-probabilities, advantages and returns, for episodes that end by themselves (3 steps) and that are cut (4)."""
    tasks = replace(COUNTDOWNS, tasks=COUNTDOWNS.tasks[task : task + 1])
    agent, source = toy(tasks, 1, 4, 3, QUICK, SB3PPO)
    agent.iterate(source, 0)
    venv, callback = SB3VecEnv(source.env), Recorded()
    model = agent.model
    model.n_steps, model.rollout_buffer = 12, agent._buffer(model, 12, 1)
    monkeypatch.setattr(type(model), "train", lambda self: None)
    model.set_env(venv)
    model.learn(12, callback=callback, reset_num_timesteps=False, log_interval=None)
    played = Played(*(torch.from_numpy(np.stack(field)) for field in zip(*callback.rows)))
    assert int(played.done.sum()) == 4 - task
    agent.sb3.put(agent.tuner, agent.sb3.tensors(model))
    agent._fit(agent.tuner, played)
    for name in ("observations", "actions", "rewards", "values", "log_probs", "advantages", "returns", "episode_starts"):
        a, b = (getattr(one.rollout_buffer, name) for one in (model, agent.tuner))
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5, err_msg=name)


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize(("settings", "kind", "episodes"), [(BANDIT, SB3PPO, 6), (BANDIT_SAC, SB3SAC, 4)])
def test_fine_tuning_serves_each_task_and_leaves_the_shared_weights_alone(settings, kind, episodes, seed):
    """The goals differ and are hidden: one policy for all of them cannot do what a fine-tuned one of each can."""
    agent, source = toy(HITS, 4, 20, 1, settings, kind, seed=seed)
    before = agent.sb3.tensors(agent.model)
    noise = [np.random.default_rng(10 * seed + i) for i in range(4)]
    how = {"episodes": episodes, "adapt_every": 1, "resets": lambda e: e, "device": CPU, "branch": lambda e: True}
    played = list(play_trial(source.env, agent, HITS.tasks, noise, **how))
    assert [one.adapted for one in played] == list(range(episodes))
    first, last = (one.branch.by_episode(1)["return"][0] / 20 for one in (played[0], played[-1]))
    assert first.min() < 0.5
    assert last.min() > 0.6
    assert last.mean() > first.mean() + 0.2
    for name, tensor in agent.sb3.tensors(agent.model).items():
        assert torch.equal(tensor, before[name]), name


@pytest.mark.parametrize(("settings", "kind"), [(QUICK, SB3PPO), (QUICK_SAC, SB3SAC)])
def test_rows_never_mix_and_episodes_of_other_lengths_are_whole(settings, kind):
    agent, source = toy(COUNTDOWNS, 2, 4, 1, settings, kind)
    how = {"episodes": 3, "adapt_every": 9, "resets": lambda e: e, "device": CPU}
    generators = [np.random.default_rng(i) for i in range(2)]
    supports = [one.support for one in play_trial(source.env, agent, COUNTDOWNS.tasks, generators, **how)]
    rollout = joined(supports)
    assert rollout.valid.sum(0).tolist() == [9, 12]
    assert rollout.terminated.sum(0).tolist() == [3, 0]
    ends = rollout.done & rollout.valid
    assert rollout.next_obs[ends].flatten().unique().tolist() == [1300, 1400]
    both = agent.adapt(agent.begin(2), rollout)
    again = agent.adapt(both, rollout)
    for i in range(2):
        alone = Played.of(rollout).task(i)
        agent.sb3.put(agent.tuner, agent.sb3.tensors(agent.model))
        with agent.sb3.seeded(_stream(agent)):
            agent._fit(agent.tuner, alone)
        for name, tensor in agent.sb3.tensors(agent.tuner).items():
            assert torch.equal(tensor, both[name][i]), name
    moved = [name for name in both if name.endswith("weight") and not torch.equal(both[name], again[name])]
    assert moved
    if kind is SB3SAC:
        assert again["replay.valid"].sum(1).tolist() == [18, 24]


def _stream(agent):
    from metarl.rollouts.random_streams import SHUFFLE, generator

    return generator(agent.seed, SHUFFLE, 0)


def test_a_task_whose_fine_tuning_fails_acts_as_before(caplog):
    agent, source = toy(HITS, 4, 20, 1, QUICK, SB3PPO)
    how = {"episodes": 1, "adapt_every": 9, "resets": lambda e: e, "device": CPU}
    generators = [np.random.default_rng(i) for i in range(4)]
    (one,) = play_trial(source.env, agent, HITS.tasks, generators, **how)
    one.support.reward[:, 2] = torch.nan
    after = agent.adapt(agent.begin(4), one.support)
    assert "of a task are not finite" in caplog.text
    name = "policy.action_net.bias"
    assert [torch.equal(after[name][i], agent.begin(1)[name][0]) for i in range(4)] == [False, False, True, False]


def test_discrete_actions_and_running_statistics():
    agent, source = toy(BITS, 2, 5, 2, replace(QUICK, batch_size=10), SB3PPO)
    found = agent.iterate(source, 0)
    assert np.isfinite(list(found.values())).all()
    assert source.report()["steps"] == 20
    scaler = agent.sb3.scalers(agent.model)[0]
    assert int(scaler.count) == 20
    how = {"episodes": 2, "adapt_every": 1, "resets": lambda e: e, "device": CPU}
    played = list(play_trial(source.env, agent, BITS.tasks, [np.random.default_rng(i) for i in range(2)], **how))
    assert played[1].adapted == 1
    assert int(scaler.count) == 20  # evaluation does not move them
    with pytest.raises(UserError, match="SAC needs Box actions"):
        toy(BITS, 2, 5, 2, QUICK_SAC, SB3SAC)


def test_sac_without_fine_tuning_does_not_adapt():
    agent, source = toy(HITS, 4, 5, 1, replace(QUICK_SAC, fit_steps=0), SB3SAC)
    assert agent.adapt_every is None
    how = {"episodes": 3, "adapt_every": 1, "resets": lambda e: e, "device": CPU}
    played = list(play_trial(source.env, agent, HITS.tasks, [np.random.default_rng(i) for i in range(4)], **how))
    assert [one.adapted for one in played] == [0, 0, 0]


def test_weights_that_are_not_finite_end_the_training():
    agent, source = toy(HITS, 4, 20, 1, QUICK, SB3PPO)
    with torch.no_grad():
        agent.model.policy.action_net.bias.fill_(torch.nan)
    with pytest.raises(NonFiniteError, match="weights of PPO"):
        agent.iterate(source, 0)


def test_random_numbers_of_others_are_left_alone():
    agent, source = toy(HITS, 4, 20, 1, QUICK, SB3PPO)
    np.random.seed(3)  # noqa: NPY002
    torch.manual_seed(3)
    before = np.random.get_state()[1].copy(), torch.get_rng_state()  # noqa: NPY002
    agent.iterate(source, 0)
    assert np.array_equal(before[0], np.random.get_state()[1])  # noqa: NPY002
    assert torch.equal(before[1], torch.get_rng_state())


# ----------------------------------------------------------------------------------------------------------- the commands


@pytest.fixture(scope="module")
def ppo(tmp_path_factory):
    """A run of sb3-ppo: two iterations, all checkpoints kept."""
    path = tmp_path_factory.mktemp("sb3") / "run"
    assert train(path, 2, *SMALL, "--keep-checkpoints", "0", "--goals", "6", agent="sb3-ppo") == 0
    return path


def test_it_is_fine_tuned_after_every_episode_and_from_scratch_is_checkpoint_0(ppo, capsys):
    before = _digests(ppo / "checkpoints")
    args = ["--train-goals", "0", "--episodes", "3", "--device", "cpu"]
    assert cli.run(["evaluate", str(ppo), str(ppo / "checkpoints" / f"{0:012d}"), *args]) == 0
    assert "took a fine-tuning step" in capsys.readouterr().out
    assert _digests(ppo / "checkpoints") == before
    contents = [json.loads(file.read_text()) for file in sorted((ppo / "evaluations").glob("*.json"))]
    assert [content["step"] for content in contents] == [0, 160]
    for content in contents:
        assert content["adapt_every"] == 1
        returns = np.array(content["sides"]["test"]["figures"]["mean"]["return"])[:, 0]
        assert returns.shape == (6, 3)
        assert (np.diff(returns, axis=1) != 0).all()  # each step moves each goal's policy
    assert contents[0]["sides"] != contents[1]["sides"]
    first = (ppo / "evaluation.json").read_bytes()
    assert cli.run(["evaluate", str(ppo), *args, "--quiet"]) == 0
    assert (ppo / "evaluation.json").read_bytes() == first


def test_checkpoints_hold_tensors_and_json_alone(ppo):
    from safetensors.torch import load_file

    for folder in open_run(ppo)[0].checkpoints():
        assert {file.name for file in folder.iterdir()} == {"agent.safetensors", "checkpoint.json"}
        assert json.loads((folder / "checkpoint.json").read_text())["rest"]["steps"] == int(folder.name)
        found = load_file(folder / "agent.safetensors")
        assert {"rewards/var", "model/policy.log_std", "model/adam.policy.0.exp_avg"} <= found.keys()


def test_by_stocks_protocol_it_is_fine_tuned_after_every_episode_too(ppo, monkeypatch):
    fitted, original = [], SB3PPO._fit

    def counted(self, model, played):
        fitted.append(len(played.reward))
        original(self, model, played)

    monkeypatch.setattr(SB3PPO, "_fit", counted)
    monkeypatch.setattr("metarl.evaluation.metaworld.EVALUATIONS", 1)
    assert cli.run(["evaluate", str(ppo), "--protocol", "metaworld", "--engine", "native", "--quiet"]) == 0
    (file,) = (ppo / "evaluations").glob("metaworld_*.json")
    assert json.loads(file.read_text())["episodes"] == 2  # as many as a trial has, one at a time
    assert len(fitted) >= 2 * 6
    assert set(fitted) == {20}


def test_report_of_a_fine_tuned_agent(ppo):
    assert cli.run(["evaluate", str(ppo), "--train-goals", "0", "--device", "cpu", "--quiet"]) == 0
    assert cli.run(["report", str(ppo)]) == 0
    assert "fine-tuning step" in (ppo / "report.html").read_text()


def test_a_video_of_a_fine_tuned_agent(ppo):
    from metarl.envs.rendering.opengl import find_backend

    try:
        find_backend()
    except UserError as error:
        pytest.skip(str(error))
    args = ["render", str(ppo), "--goals", "1", "--size", "160x120", "--quiet"]
    assert cli.run(args) == 0
    assert next((ppo / "videos").glob("*.mp4")).stat().st_size > 3000


def test_sac_resumes_with_an_empty_replay_buffer_and_says_so(tmp_path, caplog):
    options = [*SMALL, "--learning-starts", "30", "--batch-size", "16", "--buffer-size", "500", "--fit-steps", "2",
               "--goals", "4"]  # fmt: skip
    for name in ("whole", "again"):
        assert train(tmp_path / name, 3, *options, agent="sb3-sac") == 0
    assert equal_runs(tmp_path / "whole", tmp_path / "again")
    assert train(tmp_path / "cut", 1, *options, agent="sb3-sac") == 0
    assert "empty replay buffer" not in caplog.text
    assert cli.run(["train", "--resume", str(tmp_path / "cut"), "--steps", "240", "--quiet"]) == 0
    assert "empty replay buffer" in caplog.text
    whole, cut = (metrics(tmp_path / name) for name in ("whole", "cut"))
    assert [line["replay"] for line in whole] == [80, 160, 240]
    assert [line["replay"] for line in cut] == [80, 80, 160]
    assert whole[0] == cut[0]
    assert "actor_loss" in whole[2]
    args = ["evaluate", str(tmp_path / "whole"), "--train-goals", "0", "--device", "cpu", "--quiet"]
    assert cli.run(args) == 0
    side = json.loads((tmp_path / "whole" / "evaluation.json").read_text())["sides"]["test"]
    assert (np.diff(np.array(side["figures"]["mean"]["return"])[:, 0], axis=1) != 0).any(0).all()
    assert "goal_blind" not in side  # its noise is no number of an action's own


@pytest.mark.parametrize(
    ("args", "says"),
    [
        (["sb3-ppo", "ml1:reach-v3", "--n-steps", "7"], "7 steps between updates do not divide them"),
        (["sb3-sac", "ml1:reach-v3", "--train-freq", "7"], "7 steps between updates do not divide them"),
        (["sb3-ppo", "ml1:reach-v3", "--batch-size", "1"], "batch_size must be at least 2"),
        (["sb3-ppo", "ml1:reach-v3", "--gamma", "1"], "gamma must lie in [0, 1), not 1.0"),
        (["sb3-sac", "ml1:reach-v3", "--net-arch", "0"], "net_arch must be"),
    ],
)
def test_wrong_input_is_answered_with_status_2(args, says, tmp_path, monkeypatch, capsys):
    refused(["train", *args], says, tmp_path, monkeypatch, capsys)


def test_the_table_of_transfer(ppo, tmp_path, capsys):
    """Meta-learners, fine-tuning and fine-tuning from scratch, on the same goals and in one plot."""
    assert train(tmp_path / "rl2", 1, "--goals", "6") == 0
    script = Path(__file__).parents[1] / "scripts" / "transfer_table"
    main = runpy.run_path(str(script))["main"]
    main(["--take", str(tmp_path / "rl2"), str(ppo), "--episodes", "3"])
    lines = [line.split(" | ") for line in capsys.readouterr().out.splitlines() if " | sampled | " in line]
    assert [line[0] for line in lines] == ["rl2, 80 steps", "sb3-ppo, 160 steps", "sb3-ppo, from scratch"]
    assert [len(line) for line in lines] == [2 + 3 + 2] * 3  # k = 0, 1, 2, then the last step's success, and the return
    assert (tmp_path / "rl2" / "evaluations" / "transfer.png").stat().st_size > 10_000
    files = [path / "evaluations" / f"all-goals_{step:012d}_e3_tr0.json" for path, step in
             ((tmp_path / "rl2", 80), (ppo, 160), (ppo.with_name("run_scratch"), 0))]  # fmt: skip
    contents = [json.loads(file.read_text()) for file in files]
    assert contents[0]["sides"]["test"]["goals"] == contents[1]["sides"]["test"]["goals"]
    # the same as the run's own checkpoint 0
    both = (ppo, ppo.with_name("run_scratch"))
    digests = {open_run(path)[0].load(path / "checkpoints" / f"{0:012d}")[0].digest for path in both}
    assert len(digests) == 1
    assert contents[2]["adapt_every"] == 1
