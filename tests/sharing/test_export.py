"""`metarl export`: what onnxruntime answers is what the agent answers, and the file says how to use it."""

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from builders.tiny import BITS, COUNTDOWNS, refused, toy, train

from metarl import cli
from metarl.agents.fewshot.matching import Matching, MatchingSettings
from metarl.agents.fewshot.networks import Kind
from metarl.agents.fewshot.proto import Proto, ProtoSettings
from metarl.agents.maml.agent import MAMLSettings
from metarl.agents.rl2 import RL2Settings
from metarl.envs import make_vec, suite
from metarl.errors import UserError
from metarl.evaluation.all_goals import trial_generator
from metarl.nn.graphs import Graph, Input
from metarl.rollouts.playing import draw_noise, play
from metarl.rollouts.random_streams import RESETS, generator
from metarl.rollouts.storage import first_input, next_input
from metarl.sharing.loading import load
from metarl.sharing.onnx_export import TOLERANCE, _drawn, difference, session, to_onnx

ROOT = Path(__file__).parents[2]
CPU = torch.device("cpu")
KEYS = {"agent": "any", "suite": "any"}


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A run of each kind of agent."""
    folder = tmp_path_factory.mktemp("runs")
    for agent in ("rl2", "maml-trpo", "multitask-ppo", "random"):
        assert train(folder / agent, 2, agent=agent) == 0
    return {path.name: path for path in folder.iterdir()}


@pytest.fixture(scope="module")
def rl2_file(runs: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run of RL², exported."""
    path = tmp_path_factory.mktemp("exported") / "rl2.onnx"
    exported(runs["rl2"], path)
    return path


def exported(path: Path, out: Path, *more: str) -> bytes:
    assert cli.run(["export", str(path), "--out", str(out), "--quiet", *more]) == 0
    return out.read_bytes()


@pytest.mark.parametrize("num_envs", [1, 20])
def test_rl2_acts_alike_over_a_whole_trial(num_envs: int, runs: dict[str, Path], rl2_file: Path) -> None:
    run = session(rl2_file.read_bytes())
    agent, env = load(runs["rl2"], device="cpu"), make_vec(suite("ml1:reach-v3").test, num_envs, max_episode_steps=20)
    obs, _ = env.reset(seed=0)
    noise = draw_noise(env.single_action_space, [np.random.default_rng(env_id) for env_id in range(num_envs)], 40)
    first = first_input(env, obs)
    rollout, _ = play(env, agent, agent.initial_state(num_envs), first, episodes=2, noise=noise, device=CPU, keep_states=1)
    env.close()
    hidden = np.zeros((num_envs, 8), np.float32)
    for t in range(40):
        query = {name: part[t].numpy() for name, part in rollout.query._asdict().items()}
        found = run({**query, "hidden": hidden})
        np.testing.assert_allclose(found["mean"], rollout.prediction.mean[t], rtol=0, atol=1e-5)
        np.testing.assert_allclose(found["std"], rollout.prediction.std[t], rtol=0, atol=1e-5)
        hidden = found["next_hidden"]
    assert np.abs(hidden).max() > 1e-3
    assert rollout.done[19].all()  # the hidden state went across the border of an episode


def test_maml_is_exported_as_it_is_after_it_adapted(runs: dict[str, Path], tmp_path: Path) -> None:
    shared = session(exported(runs["maml-trpo"], tmp_path / "shared.onnx"))
    content = exported(runs["maml-trpo"], tmp_path / "own.onnx", "--episodes", "2", "--goal", "3", "--side", "train")
    own, task = session(content), suite("ml1:reach-v3").train.tasks[3]
    agent, env = (
        load(runs["maml-trpo"], device="cpu"),
        make_vec(replace(suite("ml1:reach-v3").train, tasks=(task,)), 1, max_episode_steps=20),
    )
    state, rng, rollout = agent.initial_state(1), [trial_generator(0, task, 0)], None
    for e in range(2):
        obs, _ = env.reset(seed=int(generator(0, RESETS, 0, e).integers(2**31)))
        noise = draw_noise(env.single_action_space, rng, 20)
        first = next_input(rollout, obs) if rollout else first_input(env, obs)
        rollout, _ = play(env, agent, state, first, episodes=1, noise=noise, device=CPU)
        with torch.no_grad():
            state = agent.adapt(state, rollout)
    env.close()
    obs = rollout.query.obs[:, 0]
    with torch.no_grad():
        expected = agent.policy(agent.policy.scaler.observation(obs)[None], state)  # type: ignore[attr-defined]
    found, before = own({"obs": obs.numpy()}), shared({"obs": obs.numpy()})
    np.testing.assert_allclose(found["mean"], expected.mean[0], rtol=0, atol=1e-5)
    assert np.abs(found["mean"] - before["mean"]).max() > 1e-3
    properties = {entry.key: entry.value for entry in onnx.load_from_string(content).metadata_props}
    adapted = {"task": "reach-v3", "params": list(task.params), "side": "train", "goal": 3, "episodes": 2}  # type: ignore[call-overload]
    assert json.loads(properties["adapted_to"]) == adapted


def test_the_file_says_what_it_is_and_nothing_of_this_machine(runs: dict[str, Path], rl2_file: Path, tmp_path: Path) -> None:
    content = rl2_file.read_bytes()
    model = onnx.load_from_string(content)
    onnx.checker.check_model(model, full_check=True)
    said = {entry.key: entry.value for entry in model.metadata_props}
    assert said["agent"] == "rl2"
    assert said["suite"] == "ml1:reach-v3"
    assert said["step"] == "160"
    assert list(json.loads(said["inputs"])) == ["obs", "previous_action", "previous_reward", "previous_done", "hidden"]
    assert list(json.loads(said["outputs"])) == ["mean", "std", "next_hidden"]
    assert json.loads(said["carried"]) == {"next_hidden": "hidden"}
    assert json.loads(said["actions"]) == {"low": [-1.0] * 4, "high": [1.0] * 4}
    assert "clip" in said["use"]
    for place in (ROOT, Path(torch.__file__).parent, rl2_file.parent, Path.home()):
        assert str(place).encode() not in content
    assert exported(runs["rl2"], tmp_path / "b.onnx") == content


@pytest.mark.parametrize("agent", ["rl2", "multitask-ppo"])
def test_it_is_kept_in_the_run_directory_and_what_it_means_is_told(agent: str, runs: dict[str, Path], capsys: Any) -> None:
    assert cli.run(["export", str(runs[agent])]) == 0
    told = capsys.readouterr().out
    assert "obs: observations as the environment gives them" in told
    assert "largest difference" in told
    assert (runs[agent] / "exports" / "000000000160.onnx").exists()


def test_running_statistics_are_inside() -> None:
    agent, _ = toy(COUNTDOWNS, 2, 5, 2, RL2Settings(layers=(8,), hidden=8, state_std=True))
    agent.policy.scaler.observe(1000 + 100 * torch.randn(50, 1, generator=torch.manual_seed(0)), torch.arange(50.0))
    agent.policy.head.linear.weight.data.mul_(100)  # actions of size 1
    graph = agent.graph(agent.initial_state(1))
    content = to_onnx(graph, KEYS)
    assert difference(content, graph) < 1e-5
    inputs = {name: np.zeros((1, *one.example.shape[1:]), np.float32) for name, one in graph.inputs.items()}
    found = [session(content)({**inputs, "obs": np.float32([[x]])})["mean"] for x in (1000, 1100)]
    assert np.abs(found[0] - found[1]).max() > 0.1  # without scaling both would be clamped to the same


def test_discrete_actions_come_as_logits() -> None:
    agent, _ = toy(BITS, 2, 5, 2, MAMLSettings(layers=(8,)))
    graph = agent.graph(agent.initial_state(1))
    assert list(graph.outputs) == ["logits"]
    assert difference(to_onnx(graph, KEYS), graph) < 1e-5


@pytest.mark.parametrize("of", ["image", "text"])
def test_few_shot_learners_take_support_and_query(of: str) -> None:
    kind = Kind("image", (1, 16, 16), 3) if of == "image" else Kind("text", (7,), 3)
    learner_class, settings = (Proto, ProtoSettings(channels=4)) if of == "image" else (Matching, MatchingSettings(channels=4))
    graph = learner_class(settings, kind, seed=0, device=CPU, classes=9, total_updates=1).graph(None)  # type: ignore[arg-type]
    assert difference(to_onnx(graph, KEYS), graph) < 1e-5
    with pytest.raises(UserError, match="context cannot be exported"):
        Matching(MatchingSettings(context=True), kind, seed=0, device=CPU, classes=9, total_updates=1).graph(None)


def test_large_outputs_differ_by_more_and_are_as_right() -> None:
    """Squared distances of some hundreds, as prototypical networks give them."""
    kind, settings = Kind("image", (1, 16, 16), 3), ProtoSettings(channels=4)
    learner = Proto(settings, kind, seed=0, device=CPU, classes=9, total_updates=1)
    for parameter in learner.net.parameters():
        parameter.data.mul_(2)
    graph = learner.graph(None)
    content = to_onnx(graph, KEYS)
    support = {
        name: torch.from_numpy(_drawn(one, dict.fromkeys(one.axes, 5), np.random.default_rng(0)))
        for name, one in graph.inputs.items()
    }
    assert max(out.abs().max() for out in graph.module(*support.values())) > 200
    assert difference(content, graph) < TOLERANCE


def test_a_wrong_answer_is_found_whatever_its_size() -> None:
    one = {"x": Input(torch.zeros(3, 2), ("batch",), "any")}
    for scale in (1.0, 1e6):
        right, wrong = (Graph(_Times(scale * by), one, {"y": "any"}, "any") for by in (1.0, 1.001))
        content = to_onnx(right, KEYS)
        assert difference(content, right) < TOLERANCE < difference(content, wrong)
        nothing = Graph(_Times(float("nan")), one, {"y": "any"}, "any")
        assert not difference(content, nothing) <= TOLERANCE


class _Times(torch.nn.Module):
    def __init__(self, by: float) -> None:
        super().__init__()
        self.by = by

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor]:
        return (x * self.by,)


@pytest.mark.parametrize(
    ("agent", "args", "says"),
    [
        ("rl2/checkpoints/000000000000", [], "never trained"),
        ("rl2", ["--episodes", "2"], "rl2 adapts no weights"),
        ("random", [], "random cannot be exported: it has no policy"),
        ("maml-trpo", ["--goal", "1"], "add --episodes"),
        ("maml-trpo", ["--episodes", "1", "--goal", "50"], "goals 0 to 49, not 50"),
        ("maml-trpo", ["--episodes", "1", "--task", "push-v3"], "has no task 'push-v3'"),
        ("maml-trpo", ["--episodes", "-1"], "must be at least 0"),
    ],
)
def test_what_cannot_be_exported_is_refused(
    agent: str, args: list[str], says: str, runs: dict[str, Path], tmp_path: Path, monkeypatch: Any, capsys: Any
) -> None:
    path = runs["rl2"].parent / agent
    refused(["export", str(path), "--out", "never.onnx", *args], says, tmp_path, monkeypatch, capsys)


def test_the_example_plays_with_nothing_but_onnxruntime(rl2_file: Path, tmp_path: Path) -> None:
    code = (
        "import sys, runpy\n"
        "class Ban:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if name.partition('.')[0] in ('torch', 'metarl'): raise ImportError(name)\n"
        "sys.meta_path.insert(0, Ban())\n"
        f"sys.argv = ['', {str(rl2_file)!r}, '2', '15']\n"
        f"runpy.run_path({str(ROOT / 'examples' / 'onnx_robot.py')!r}, run_name='__main__')"
    )
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path, env=environment)
    assert found.stdout == "episode 1: no success\nepisode 2: no success\n", found.stderr
