"""The `VecEnv` for stable-baselines3, with its wrappers and algorithms."""

import subprocess
import sys
import types
import warnings

import gymnasium
import numpy as np
import pytest
import torch
from builders.tiny import COUNTDOWNS, HITS

from metarl.envs import make_vec, suite
from metarl.errors import UserError

pytest.importorskip("stable_baselines3")
from sb3_contrib import TRPO, RecurrentPPO
from stable_baselines3 import PPO, SAC
from stable_baselines3.common.env_checker import check_env
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.vec_env import VecMonitor, VecNormalize, VecVideoRecorder

from metarl.envs.sb3 import make_sb3

CPU = torch.device("cpu")
SMALL = ["--net-arch", "8"]


class One(gymnasium.Env):
    """A `VecEnv` of one environment as an environment, for SB3's `check_env`."""

    def __init__(self, venv) -> None:
        self.venv = venv
        self.observation_space, self.action_space, self.metadata = venv.observation_space, venv.action_space, venv.metadata

    def reset(self, *, seed=None, options=None):
        if seed is not None:
            self.venv.seed(seed)
        return self.venv.reset()[0], {}

    def step(self, action):
        obs, reward, done, infos = self.venv.step(action[None])
        time_limit = infos[0]["TimeLimit.truncated"]
        last_obs = infos[0].get("terminal_observation", obs[0])
        return last_obs, float(reward[0]), bool(done[0] and not time_limit), time_limit, infos[0]


def test_numbers_equal_those_of_the_vector_environment():
    tasks, actions = suite("ml1:reach-v3").train, np.random.default_rng(0).uniform(-1, 1, (20, 3, 4)).astype(np.float32)
    env = make_vec(tasks, 3, max_episode_steps=8, resample="episode", info="full")
    venv = make_sb3(tasks, 3, max_episode_steps=8, info="full")
    obs, _ = env.reset(seed=7)
    assert venv.seed(7)[0] == 7
    np.testing.assert_array_equal(venv.reset(), obs.astype(np.float32))
    assert venv.get_attr("task") == env.tasks
    tasks_seen = set()
    for t, action in enumerate(actions):
        obs, reward, terminated, truncated, info = env.step(action)
        sb3_obs, rewards, dones, infos = venv.step(action)
        assert sb3_obs.dtype == rewards.dtype == venv.observation_space.dtype == np.float32
        np.testing.assert_array_equal(sb3_obs, obs.astype(np.float32))
        np.testing.assert_array_equal(rewards, reward.astype(np.float32))
        np.testing.assert_array_equal(dones, terminated | truncated)
        assert dones.all() == ((t + 1) % 8 == 0)
        for env_id, env_info in enumerate(infos):
            assert venv.observation_space.contains(sb3_obs[env_id])
            assert env_info["TimeLimit.truncated"] == truncated[env_id]
            assert env_info["success"] == info["success"][env_id]
            assert env_info["obj_to_target"] == info["obj_to_target"][env_id]
            assert ("terminal_observation" in env_info) == ("is_success" in env_info) == dones[env_id]
            if dones[env_id]:
                np.testing.assert_array_equal(env_info["terminal_observation"], info["final_obs"][env_id].astype(np.float32))
                assert not np.array_equal(env_info["terminal_observation"], sb3_obs[env_id])
        tasks_seen |= set(venv.get_attr("task"))
    assert len(tasks_seen) > 3  # another task for every episode
    venv.close()
    env.close()


def test_termination_is_distinguished_from_truncation():
    """With a horizon of 4, a countdown from 3 terminates and one from 5 is truncated."""
    venv = make_sb3(COUNTDOWNS, 2, max_episode_steps=4, resample="never")
    venv.reset()
    lengths = [task.params for task in venv.get_attr("task")]
    for t in range(1, 5):
        _, _, dones, infos = venv.step(np.zeros((2, 2), np.float32))
        for env_id, length in enumerate(lengths):
            ends = t == length or t == 4 - (length == 3) * 4
            assert dones[env_id] == ends
            assert infos[env_id]["TimeLimit.truncated"] == (ends and length == 5)
            if ends:
                assert infos[env_id]["terminal_observation"] == [1000 + 100 * t]


def test_sb3_logs_success_at_any_step():
    venv = make_sb3(HITS, 2, max_episode_steps=3)
    venv.reset()
    for t in range(6):
        _, _, _, infos = venv.step(np.zeros((2, 1), np.float32))
        assert [bool(info["success"]) for info in infos] == [t % 3 == 0] * 2
        assert [info.get("is_success") for info in infos] == [True if t % 3 == 2 else None] * 2


def test_a_seed_determines_the_episodes_and_is_used_once():
    def played(venv, seed):
        venv.seed(seed)
        first = venv.reset()
        return np.array([first, *(venv.step(np.zeros((2, 4), np.float32))[0] for _ in range(7))])

    venv, other_venv = (make_sb3("ml1:reach-v3", 2, max_episode_steps=3) for _ in range(2))
    expected = played(venv, 3)
    played(other_venv, 4)
    np.testing.assert_array_equal(played(other_venv, 3), expected)
    goals = venv.get_attr("task")
    venv.reset()
    assert venv.get_attr("task") != goals
    assert venv.seed() != venv.seed()


def test_attributes_and_methods_of_environments():
    venv = make_sb3(HITS, 3, max_episode_steps=5)
    assert venv.get_attr("task") == [None] * 3
    assert venv.get_attr("max_episode_steps", 1) == [5]
    assert venv.get_attr("observation_space", [0]) == [venv.observation_space]
    assert not venv.has_attr("nothing")
    assert venv.env_is_wrapped(Monitor) == [False] * 3
    venv.set_attr("colour", "red", [0, 2])
    assert venv.get_attr("colour", [0, 2]) == ["red", "red"]
    assert not venv.has_attr("colour")  # environment 1 has none
    venv.set_attr("max_episode_steps", 2)
    assert venv.env.max_episode_steps == 2
    with pytest.raises(UserError, match="all environments share max_episode_steps"):
        venv.set_attr("max_episode_steps", 9, [0])
    venv.env_method("set_task", HITS.tasks[3], indices=1)
    venv.set_attr("task", HITS.tasks[0], [0, 2])
    venv.reset()
    assert venv.get_attr("task") == [HITS.tasks[i] for i in (0, 3, 0)]
    assert venv.env_method("render") == [None] * 3


def test_check_env_passes_on_one_environment():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check_env(One(make_sb3("ml1:reach-v3", 1, max_episode_steps=30)))
        check_env(One(make_sb3("mt1:reach-v3", 1, max_episode_steps=30)))


def test_wrappers_of_sb3(tmp_path, monkeypatch):
    frames = []
    module = types.ModuleType("moviepy.video.io.ImageSequenceClip")
    module.ImageSequenceClip = lambda images, fps: (
        frames.extend(images)
        or types.SimpleNamespace(  # type: ignore[attr-defined]
            write_videofile=lambda path: open(path, "w").close()
        )
    )
    for name in ("moviepy", "moviepy.video", "moviepy.video.io"):  # optional dependencies of SB3
        monkeypatch.setitem(sys.modules, name, types.ModuleType(name))
    monkeypatch.setitem(sys.modules, module.__name__, module)
    plain = make_sb3(HITS, 4, max_episode_steps=3, render_mode="rgb_array", resample="never")
    video = VecVideoRecorder(VecMonitor(plain), str(tmp_path), lambda step: step == 0, video_length=3)
    venv = VecNormalize(video)
    venv.reset()
    goals = np.array([task.params for task in plain.get_attr("task")])
    for _ in range(4):
        _, _, dones, infos = venv.step(np.zeros((4, 1), np.float32))
        for env_id in np.flatnonzero(dones):
            assert infos[env_id]["episode"]["l"] == 3
            assert infos[env_id]["episode"]["r"] == pytest.approx(3 * (1 - abs(goals[env_id])), abs=1e-5)
    assert venv.ret_rms.count > 4
    # four environments of 4 x 6 pixels; the picture of the third step shows the next episode's start, as SB3 does
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
        (
            RecurrentPPO,
            "MlpLstmPolicy",
            {"n_steps": 20, "batch_size": 40, "n_epochs": 1, "policy_kwargs": {"lstm_hidden_size": 8}},
        ),
    ],
)
def test_algorithms_of_sb3(algorithm, policy, settings):
    venv = make_sb3(suite("ml1:reach-v3"), 2, max_episode_steps=15)
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


def test_a_missing_sb3_is_reported_only_when_it_is_needed(tmp_path):
    command = [sys.executable, "-c", WITHOUT, str(tmp_path / "run")]
    process = subprocess.run(command, capture_output=True, text=True, check=False)
    assert process.returncode == 0, process.stderr
    assert "pip install 'stable-baselines3" in process.stderr
    assert "sb3-sac" in process.stdout
    assert not (tmp_path / "run").exists()
