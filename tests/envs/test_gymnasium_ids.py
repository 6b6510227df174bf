"""The gymnasium ids, with gymnasium's checks and wrappers."""

import subprocess
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env
from gymnasium.vector import AutoresetMode
from gymnasium.wrappers import NormalizeObservation, RecordEpisodeStatistics, RecordVideo
from gymnasium.wrappers import vector as wrap

from metarl.envs import TASKS, suite
from metarl.envs.rendering.opengl import find_backend
from metarl.errors import UserError
from metarl.gymnasium_ids import ids


def run_code(code: str) -> str:
    """Run the code in a new process and return its output."""
    process = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert process.returncode == 0, process.stderr
    return process.stdout.strip()


def test_ids_that_name_their_module_need_no_import_and_no_torch():
    """Torch takes a second to import, and 200 MB."""
    code = (
        "import gymnasium; env = gymnasium.make('metarl.envs:metarl/reach-v3'); print(env.reset(seed=0)[0].shape);"
        "env = gymnasium.make_vec('metarl.envs:metarl/ML1-reach-v3-test', num_envs=2); print(env.reset(seed=0)[0].shape);"
        "env.step(env.action_space.sample()); import sys; print('torch' in sys.modules)"
    )
    assert run_code(code).splitlines() == ["(39,)", "(2, 39)", "False"]


def test_importing_the_environments_registers_all_ids():
    code = "import gymnasium, metarl.envs; print(*(name for name in gymnasium.registry if name.startswith('metarl/')))"
    registered = set(run_code(code).split())
    assert registered == ids().keys()
    assert {f"metarl/{task}" for task in TASKS} < registered
    assert {"metarl/ML10-train", "metarl/ML45-test", "metarl/ML1-reach-v3-test", "metarl/MT50"} < registered


def test_importing_the_package_alone_imports_nothing():
    code = "import sys, metarl; print([m for m in sys.modules if m.startswith(('gymnasium', 'numpy', 'metarl.'))])"
    assert run_code(code) == "['metarl.moved']"  # which finds modules under their old names


@contextmanager
def _no_warnings() -> Iterator[None]:
    """Allow only the warnings about stock's space: entries without bounds, and the hidden goal's, which are always 0."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.filterwarnings("ignore", r".*Box observation space m\w+ value is -?infinity")
        warnings.filterwarnings("ignore", ".*Box observation space maximum and minimum values are equal")
        yield


@pytest.mark.parametrize(("name", "options"), [("metarl/reach-v3", {}), ("metarl/ML1-reach-v3-train", {"engine": "python"})])
def test_check_env_of_gymnasium_passes_without_a_warning(name, options):
    env = gymnasium.make(name, **options)
    with _no_warnings():
        check_env(env.unwrapped, skip_render_check=True)
    env.close()


def test_check_env_of_gymnasium_passes_with_rendering():
    _needs_opengl()
    env = gymnasium.make("metarl/reach-v3", render_mode="rgb_array", width=64, height=48)
    with _no_warnings():
        check_env(env.unwrapped)
    env.close()


def test_every_reset_draws_a_goal_of_the_suite_and_a_seed_repeats_them():
    env = gymnasium.make("metarl/ML1-reach-v3-train")
    draws = []
    for _ in range(2):
        env.reset(seed=3)
        tasks = []
        for _ in range(4):
            tasks += env.unwrapped.vector.tasks
            obs, _ = env.reset()
            assert (obs[36:39] == 0).all()
        draws.append(tasks)
    assert draws[0] == draws[1]
    assert len(set(draws[0])) > 1
    assert set(draws[0]) <= set(suite("ml1:reach-v3").train.tasks)
    test = gymnasium.make("metarl/ML1-reach-v3-test", suite_seed=5)
    test.reset(seed=0)
    assert test.unwrapped.vector.tasks[0] in suite("ml1:reach-v3", 5).test.tasks


def test_the_single_environment_equals_the_vector_environment():
    """The last observation of an episode is its end, not the start of the next episode."""
    single = gymnasium.make("metarl/reach-v3", max_episode_steps=5)
    first, _ = single.reset(seed=1)
    env = gymnasium.make_vec("metarl/reach-v3", num_envs=1, max_episode_steps=5, autoreset="same_step")
    env.set_tasks(single.unwrapped.vector.tasks)
    obs, _ = env.reset(seed=0)
    assert np.array_equal(obs[0], first)
    for t in range(5):
        action = np.full(4, 0.1 * t, np.float32)
        step, vector_step = single.step(action), env.step(action[None])
        last = t == 4
        assert np.array_equal(step[0], vector_step[4]["final_obs"][0] if last else vector_step[0][0])
        assert step[1:4] == (vector_step[1][0], False, last)
        assert step[4]["success"] is False
    assert (first[36:39] != 0).all()  # a single task's goal is visible


def test_a_success_may_end_the_episode(monkeypatch):
    env = gymnasium.make("metarl/reach-v3", terminate_on_success=True)
    env.reset(seed=0)
    vector = env.unwrapped.vector
    step = vector.step

    def successful_step(action):
        out = step(action)
        out[4]["success"][:] = True
        return out

    monkeypatch.setattr(vector, "step", successful_step)
    assert env.step(np.zeros(4, np.float32))[2:4] == (True, False)


def test_vector_ids_serve_their_suite():
    env = gymnasium.make_vec("metarl/ML10-train", num_envs=10, engine="python")
    env.reset(seed=0)
    assert {task.name for task in env.tasks} == set(suite("ml10").train.names)
    env.close()


def test_next_step_autoreset_draws_another_task():
    env = gymnasium.make_vec("metarl/ML1-reach-v3-train", num_envs=3, max_episode_steps=2)
    assert env.metadata["autoreset_mode"] is AutoresetMode.NEXT_STEP
    first, _ = env.reset(seed=0)
    before, actions = list(env.tasks), np.ones((3, 4), np.float32)
    env.step(actions)
    end, _, terminated, truncated, _ = env.step(actions)
    assert truncated.all()
    assert not terminated.any()
    assert env.tasks == before
    assert not (end == first).all(1).any()
    _, reward, _, truncated, info = env.step(actions)
    assert (reward == 0).all()
    assert not truncated.any()
    assert not info["success"].any()
    assert not info["_success"].any()
    assert env.tasks != before
    assert set(env.tasks) <= set(suite("ml1:reach-v3").train.tasks)
    env.close()


def test_wrappers_of_single_environments():
    env = RecordEpisodeStatistics(NormalizeObservation(gymnasium.make("metarl/reach-v3", max_episode_steps=4)))
    obs, _ = env.reset(seed=0)
    total = 0.0
    for _ in range(4):
        obs, reward, _, truncated, info = env.step(env.action_space.sample())
        total += reward
    assert truncated
    assert (info["episode"]["l"], info["episode"]["r"]) == (4, pytest.approx(total))
    assert abs(obs).max() < 20
    env.close()


def test_wrappers_of_vector_environments():
    env = gymnasium.make_vec("metarl/ML1-reach-v3-train", num_envs=3, max_episode_steps=4)
    env = wrap.RecordEpisodeStatistics(wrap.NormalizeObservation(env))
    env.reset(seed=0)
    for t in range(1, 15):  # four steps and a reset, three times
        obs, _, _, truncated, info = env.step(np.zeros((3, 4), np.float32))
        assert obs.shape == (3, 39)
        assert truncated.all() == truncated.any() == (t % 5 == 4)
        if truncated.any():
            assert info["episode"]["l"].tolist() == [4, 4, 4]
            assert (info["episode"]["r"] > 0).all()
    assert list(env.length_queue) == [4] * 9
    env.close()


def _needs_opengl() -> None:
    try:
        find_backend()
    except UserError as error:
        pytest.skip(str(error))


def test_record_video_sees_every_frame(monkeypatch, tmp_path):
    """The last frame is the end of the episode. A stub replaces moviepy, which only this wrapper needs."""
    _needs_opengl()
    written: list[Any] = []

    class Clip:
        def __init__(self, frames: list[np.ndarray], fps: int) -> None:
            written.append((frames, fps))

        def write_videofile(self, path: str, **options: Any) -> None:
            assert path.endswith(".mp4")

    stub = ModuleType("moviepy.video.io.ImageSequenceClip")
    stub.ImageSequenceClip = Clip  # type: ignore[attr-defined]
    names = [stub.__name__.rsplit(".", i)[0] for i in range(1, 4)]
    for name in names:
        monkeypatch.setitem(sys.modules, name, ModuleType(name))
    monkeypatch.setitem(sys.modules, stub.__name__, stub)
    view: dict[str, Any] = {"render_mode": "rgb_array", "width": 64, "height": 48, "max_episode_steps": 3}
    env = RecordVideo(gymnasium.make("metarl/reach-v3", **view), str(tmp_path), episode_trigger=lambda e: True)
    for _ in range(2):
        env.reset(seed=0)
        for _ in range(3):
            env.step(np.array([1, 1, 1, 0], np.float32))
    last = env.render()
    env.close()
    assert [len(frames) for frames, _ in written] == [4, 4]
    assert {(frame.shape, frame.dtype) for frames, _ in written for frame in frames} == {((48, 64, 3), np.dtype(np.uint8))}
    assert written[0][1] == 80
    assert np.array_equal(written[1][0][-1], last)
    assert not np.array_equal(written[1][0][0], last)


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("metarl/MT10", {"side": "test"}, "mt10 has no side 'test': train"),
        ("metarl/reach-v3", {"engine": "fast"}, "unknown engine 'fast'"),
        ("metarl/reach-v3", {"suite_seed": -1}, "the suite's seed must lie between"),
    ],
)
def test_wrong_options_are_refused(name, options, message):
    with pytest.raises(UserError, match=message):
        gymnasium.make(name, **options)
    with pytest.raises(UserError, match=message):
        gymnasium.make_vec(name, num_envs=2, **options)
