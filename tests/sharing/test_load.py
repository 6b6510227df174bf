"""`metarl.load`: a trained agent in three lines, without environments, data or a simulator."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from builders.fewshot_runs import make_pictures
from builders.tiny import train

import metarl
from metarl import cli
from metarl.datasets.episodes import Examples
from metarl.errors import UserError
from metarl.learner import PolicyInput
from metarl.sharing.opening import open_run
from metarl.training.setup import trained_control

ROOT = Path(__file__).parents[2]
STEP = PolicyInput(torch.randn(3, 39, generator=torch.manual_seed(0)), torch.ones(3, 4) / 2, torch.ones(3), torch.zeros(3))


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A run of each kind of agent."""
    folder = tmp_path_factory.mktemp("runs")
    for agent in ("rl2", "maml-trpo", "multitask-ppo"):
        assert train(folder / agent, 2, agent=agent) == 0
    return {path.name: path for path in folder.iterdir()}


@pytest.mark.parametrize("agent", ["rl2", "maml-trpo", "multitask-ppo"])
@pytest.mark.parametrize("old", [False, True])
def test_it_answers_as_the_agent_that_was_trained(agent: str, old: bool, runs: dict[str, Path], tmp_path: Path) -> None:
    path = shutil.copytree(runs[agent], tmp_path / "run", symlinks=True)
    if old:  # runs made before config.json held the inputs and outputs
        config = json.loads((path / "config.json").read_text())
        del config["io_spec"]
        (path / "config.json").write_text(json.dumps(config))
    loaded = metarl.load(path, device="cpu")
    run, _ = open_run(path)
    known = trained_control(run, run.load()[0], device="cpu").agent
    answers = [one.predict(one.initial_state(3), STEP)[0] for one in (loaded, known)]
    assert torch.equal(answers[0].mean, answers[1].mean)
    assert torch.equal(answers[0].std, answers[1].std)
    assert not answers[0].mean.requires_grad
    assert answers[0].mean.abs().max() > 0


def test_a_checkpoint_can_be_named(runs: dict[str, Path]) -> None:
    first, last = metarl.load(runs["rl2"] / "checkpoints" / "000000000000"), metarl.load(runs["rl2"])
    assert not torch.equal(
        first.predict(first.initial_state(3), STEP)[0].mean, last.predict(last.initial_state(3), STEP)[0].mean
    )


def test_it_needs_no_simulator(runs: dict[str, Path]) -> None:
    code = "\n".join(
        (
            "import sys",
            "for name in ('mujoco', 'metaworld', 'numba'): sys.modules[name] = None",
            "import metarl",
            f"for path in {[str(path) for path in runs.values()]}: metarl.load(path).initial_state(1)",
            "print('ready')",
        )
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert found.stdout == "ready\n", found.stderr


def test_a_few_shot_learner_needs_no_data_set(tmp_path: Path) -> None:
    make_pictures(tmp_path / "images", (f"class{c}" for c in range(20)), 4)
    options = "--ways 3 --queries 2 --meta-batch 2 --updates 2 --steps 2 --channels 4 --image-size 16 --device cpu --quiet"
    for agent in ("maml", "proto", "transfer"):
        path = tmp_path / agent
        assert cli.run(["train", agent, f"folder:{tmp_path / 'images'}", *options.split(), "--run-dir", str(path)]) == 0
    shutil.rmtree(tmp_path / "images")
    for agent in ("maml", "proto", "transfer"):
        learner = metarl.load(str(tmp_path / agent), device="cpu")
        support = Examples(torch.rand(2, 3, *learner.kind.shape), torch.arange(3).expand(2, 3))
        logits, _ = learner.predict(learner.adapt(learner.initial_state(2), support), support.x)
        assert logits.shape == (2, 3, 3)
        assert logits.isfinite().all()


def test_what_is_no_run_is_refused(runs: dict[str, Path], tmp_path: Path) -> None:
    with pytest.raises(UserError, match="there is no run"):
        metarl.load(tmp_path / "nowhere")
    path = shutil.copytree(runs["rl2"], tmp_path / "run", symlinks=True)
    config = json.loads((path / "config.json").read_text())
    for wrong in (
        {},
        {"observations": -1, "actions": {"choices": 2}},
        {"observations": 39, "actions": {"low": [0], "high": []}},
    ):
        (path / "config.json").write_text(json.dumps({**config, "io_spec": wrong}))
        with pytest.raises(UserError, match="io_spec is damaged"):
            metarl.load(path)


def test_the_example_plays_a_stock_environment(runs: dict[str, Path]) -> None:
    example = [sys.executable, str(ROOT / "examples" / "load_robot.py"), str(runs["rl2"]), "2", "15"]
    found = subprocess.run(example, capture_output=True, text=True, env={**os.environ, "PYTHONPATH": str(ROOT)})
    assert found.stdout == "episode 1: no success\nepisode 2: no success\n", found.stderr
