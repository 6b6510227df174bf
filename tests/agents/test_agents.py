"""Tiny runs of every agent with the user's commands: train, resume, evaluate two agents, render."""

import json

import gymnasium
import numpy as np
import pytest
import torch
from builders.oracle import ENGINES
from builders.tiny import STEPS, equal_runs, metrics, refused, train

from metarl import cli
from metarl.agents import AGENTS, CONTROL, find
from metarl.agents.baselines import Scripted, ScriptedSettings
from metarl.agents.fewshot.networks import Kind
from metarl.envs import make_vec, suite
from metarl.evaluation.all_goals import evaluate
from metarl.sharing.opening import open_run

SMALL = ["--layers", "8"]
NO_NETWORK = ("random", "scripted")
OPTIONS = {
    "maml-trpo": [
        "",
        "--inner-steps 3 --episodes-per-trial 4",
        "--rates weight",
        "--rates layer --adapt-part head",
        "--first-order",
        "--adapt-part body --inner-loss log_prob",
        "--sampling-credit 1.0",
        "--outer reptile --learning-rate 0.1",
        "--fvp-fraction 1.0 --state-std",
        "--preset metaworld-plus",
    ],
    "promp": ["", "--inner-kl-target None --entropy 0.01 --max-grad-norm 1.0"],
    "multitask-ppo": [""],
    "multitask-trpo": [""],
    "sb3-ppo": ["", "--n-steps 10 --no-normalize-reward --target-kl 0.1"],
    "random": [""],
    "scripted": ["", "--std 0.3"],
}
CASES = [(agent, options.split()) for agent, variants in OPTIONS.items() for options in variants]


def _small(agent: str) -> list[str]:
    return [] if agent in NO_NETWORK else ["--net-arch", "8"] if agent.startswith("sb3") else SMALL


def test_every_agent_has_a_case():
    robots = {name for name, entry in AGENTS.items() if entry.training == CONTROL}
    # rl2: test_train.py; sb3-sac: test_sb3.py; the others: test_fewshot_cli.py
    assert {"rl2", "sb3-sac", *OPTIONS} == robots


@pytest.mark.parametrize(("agent", "options"), CASES)
def test_a_resumed_training_equals_an_uninterrupted_one(tmp_path, agent, options):
    arguments = [*_small(agent), *options]
    size = (int(options[-1]) // 2 if "--episodes-per-trial" in options else 1) * STEPS
    if agent.startswith(("multitask", "sb3")) or agent in NO_NETWORK:
        arguments += ["--episodes-per-trial", "2"]
    assert train(tmp_path / "whole", 0, *arguments, "--steps", str(3 * size), agent=agent) == 0
    assert train(tmp_path / "cut", 0, *arguments, "--steps", str(size), agent=agent) == 0
    assert cli.run(["train", "--resume", str(tmp_path / "cut"), "--steps", str(3 * size), "--quiet"]) == 0
    assert equal_runs(tmp_path / "whole", tmp_path / "cut")
    lines = metrics(tmp_path / "whole")
    assert [line["step"] for line in lines] == [size, 2 * size, 3 * size]
    assert all(np.isfinite(list(line.values())).all() for line in lines)


@pytest.mark.parametrize("agent", ["rl2", "maml-trpo", "proto", "maml"])
def test_initial_weights_follow_from_the_seed(agent, monkeypatch):
    seeds, seed_torch = [], torch.manual_seed
    monkeypatch.setattr(torch, "manual_seed", lambda seed: seeds.append(seed) or seed_torch(seed))
    agent_class, presets = find(agent)
    options = {"seed": 5, "device": torch.device("cpu")}
    if AGENTS[agent].training == CONTROL:
        box = gymnasium.spaces.Box(-1, 1, (3,), np.float32)
        agent_class(presets["default"].settings, box, box, None, total_iterations=1, **options)
    else:
        agent_class(presets["default"].settings, Kind("image", (1, 28, 28), 5), classes=9, total_updates=1, **options)
    # the first number below 2^31 of the stream (5, 4): `metarl.rollouts.random_streams`
    assert seeds == [int(np.random.default_rng(np.random.SeedSequence((5, 4))).integers(2**31))]


def test_gradient_steps_at_test_time_may_be_more_than_in_training(tmp_path, capsys):
    assert train(tmp_path / "maml", 1, *SMALL, agent="maml-trpo") == 0
    assert train(tmp_path / "rl2", 1) == 0
    runs = [str(tmp_path / "maml"), str(tmp_path / "rl2")]
    assert cli.run(["evaluate", *runs, "--train-goals", "0", "--episodes", "4", "--device", "cpu"]) == 0
    output = capsys.readouterr().out
    assert "took a gradient step" in output
    assert (tmp_path / "maml" / "evaluations" / "beside_rl2.png").stat().st_size > 10_000
    maml, rl2 = (json.loads((tmp_path / name / "evaluation.json").read_text()) for name in ("maml", "rl2"))
    assert (maml["adapt_every"], rl2["adapt_every"]) == (1, None)
    returns = np.array(maml["sides"]["test"]["figures"]["deterministic"]["return"])[:, 0]
    assert returns.shape == (50, 4)
    assert (np.diff(returns, axis=1) != 0).any(0).all()  # each step moves the policy
    assert cli.run(["evaluate", runs[0], "--train-goals", "0", "--episodes", "4", "--device", "cpu", "--quiet"]) == 0
    assert json.loads((tmp_path / "maml" / "evaluation.json").read_text()) == maml


def test_adaptation_happens_only_after_whole_phases(tmp_path):
    assert train(tmp_path / "run", 1, *SMALL, "--episodes-per-trial", "4", agent="maml-trpo") == 0
    assert cli.run(["evaluate", str(tmp_path / "run"), "--train-goals", "0", "--device", "cpu", "--quiet"]) == 0
    content = json.loads((tmp_path / "run" / "evaluation.json").read_text())
    first, second, third, fourth = np.array(content["sides"]["test"]["figures"]["deterministic"]["return"])[:, 0].T
    assert content["adapt_every"] == 2
    assert np.array_equal(first, second)
    assert np.array_equal(third, fourth)
    assert not np.array_equal(second, third)


def test_a_video_of_an_agent_that_takes_gradient_steps(tmp_path):
    from metarl.envs.rendering.opengl import find_backend
    from metarl.errors import UserError

    try:
        find_backend()
    except UserError as error:
        pytest.skip(str(error))
    assert train(tmp_path / "run", 1, *SMALL, agent="maml-trpo") == 0
    args = ["render", str(tmp_path / "run"), "--goals", "1", "--size", "160x120", "--episodes-per-trial", "3"]
    assert cli.run([*args, "--actions", "deterministic"]) == 0
    assert next((tmp_path / "run" / "videos").glob("*.mp4")).stat().st_size > 3000


@pytest.mark.parametrize("engine", ENGINES)
def test_the_scripted_expert_solves_its_tasks(engine):
    """The expert is shown the hidden goals, on tasks of several classes."""
    tasks = [suite(f"ml1:{name}").test.tasks[0] for name in ("reach-v3", "push-v3", "drawer-open-v3", "button-press-v3")]
    env = make_vec(suite("ml10", goals=1).train, len(tasks), engine=engine)
    device = torch.device("cpu")
    agent = Scripted(
        ScriptedSettings(),
        env.single_observation_space,
        env.single_action_space,
        None,
        seed=0,
        device=device,
        total_iterations=1,
    )
    curves, _ = evaluate(agent, env, tasks, trials=1, episodes=1, seed=0, device=device, modes=("sampled",))
    assert curves["sampled"]["success"].mean() == 1
    env.close()


def test_random_actions_are_uniform(tmp_path):
    from metarl.nn.distributions import Uniform

    noise = torch.randn(100_000, 2, generator=torch.Generator().manual_seed(0))
    actions = Uniform(torch.tensor([-1.0, 0.0]), torch.tensor([1.0, 10.0])).sample(noise)
    np.testing.assert_allclose(actions.mean(0), [0, 5], atol=0.05)
    np.testing.assert_allclose(actions.std(0), [2 / 12**0.5, 10 / 12**0.5], rtol=0.01)
    assert actions.min() >= -1


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["maml-trpo", "ml1:reach-v3", "--adapt-part", "neck"], "There are: encoder.0.weight"),
        (["maml-trpo", "ml1:reach-v3", "--outer", "adam"], "outer must be trpo, ppo, reptile"),
        (["maml-trpo", "ml1:reach-v3", "--episodes-per-trial", "3"], "must be a multiple of 2"),
        (["maml-trpo", "ml1:reach-v3", "--inner-lr", "-1"], "inner_lr"),
        (["promp", "ml1:reach-v3", "--preset", "metaworld-plus"], "unknown preset"),
        (["scripted", "ml1:reach-v3", "--std", "-1"], "std must be at least 0"),
    ],
)
def test_wrong_input_is_answered_with_status_2(args, message, tmp_path, monkeypatch, capsys):
    refused(["train", *args], message, tmp_path, monkeypatch, capsys)


def test_diverging_inner_steps_stop_the_run_with_a_reason(tmp_path, capsys):
    assert train(tmp_path / "run", 2, *SMALL, "--inner-lr", "1e25", agent="maml-trpo") == 2
    assert "inner_lr may be too large" in capsys.readouterr().err
    assert open_run(tmp_path / "run")[0].load()[0].iteration == 0


def test_every_agent_has_a_default_preset():
    for name in AGENTS:
        agent, presets = find(name)
        assert isinstance(agent, type)
        assert "default" in presets
    plus = vars(find("maml-trpo")[1]["metaworld-plus"].settings)
    published = {"layers": (512, 512), "inner_lr": 0.1, "inner_steps": 1, "gamma": 0.99, "lam": 1.0, "max_kl": 0.01}
    published |= {"min_std": 1e-6, "fvp_fraction": 1.0}
    assert {key: plus[key] for key in published} == published
    plus = vars(find("rl2")[1]["metaworld-plus"].settings)
    published = {"layers": (256, 256), "hidden": 256, "state_std": True, "epochs": 10, "gamma": 0.99, "lam": 0.95}
    published |= {"min_std": 1e-6, "bootstrap": False, "advantage_scale": "none", "learning_rate_final": None}
    assert {key: plus[key] for key in published} == published
