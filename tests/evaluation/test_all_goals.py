"""Evaluation that cannot fool its reader."""

import json

import numpy as np
import pytest
import torch
from builders.tiny import digests, train

from metarl import cli
from metarl.agents.baselines import Hover, goal_blind
from metarl.envs import TaskDistribution, make_vec, suite
from metarl.envs.suites import balanced_subset
from metarl.evaluation.all_goals import evaluate, gain, summary
from metarl.nn.distributions import Gaussian
from metarl.rollouts.trials import play_trial

CPU = torch.device("cpu")


class KnowsOneGoal:
    """Goes to the first goal whatever the task: it solves one of ten."""

    def __init__(self, goal) -> None:
        self.goal = torch.tensor(goal, dtype=torch.float32)

    def initial_state(self, num_tasks):
        return {"k": torch.zeros(num_tasks)}

    def predict(self, state, query):
        hand = query.obs[:, :3] - torch.tensor([0.0, 0.0, 0.045])
        mean = torch.cat([((self.goal - hand) * 20).clamp(-1, 1), torch.zeros(len(hand), 1)], -1)
        return Gaussian(mean, torch.full_like(mean, -9.0)), state

    def adapt(self, state, support):
        return {"k": state["k"] + 1}


class CountsEpisodes(KnowsOneGoal):
    """Does nothing, and records what evaluation does with its state."""

    def __init__(self) -> None:
        self.seen: list[tuple[int, float]] = []

    def predict(self, state, query):
        self.seen.append((int(state["k"][0]), float(state.get("steps", torch.zeros(1))[0])))
        mean = torch.zeros(len(query.obs), 4)
        steps = state.get("steps", torch.zeros(len(query.obs))) + 1
        return Gaussian(mean, torch.zeros_like(mean)), {**state, "steps": steps}

    def adapt(self, state, support):
        return {**state, "k": state["k"] + 1}


def _far_goals():
    """Ten goals of reach of which nine lie out of reach of the first one's solution."""
    tasks = suite("ml1:reach-v3").test.tasks
    far = [t for t in tasks if np.linalg.norm(np.subtract(t.params[3:], tasks[0].params[3:])) > 0.1]
    return [tasks[0], *far[:9]]


@pytest.mark.parametrize("num_envs", [10, 3])
def test_an_agent_that_solves_one_goal_of_ten_scores_a_tenth(num_envs):
    tasks = _far_goals()
    env = make_vec(TaskDistribution(tuple(tasks)), num_envs, max_episode_steps=120)
    learner = KnowsOneGoal(tasks[0].params[3:])
    curves, _ = evaluate(learner, env, tasks, trials=1, episodes=2, seed=0, device=CPU)
    for mode in ("sampled", "deterministic"):
        assert summary(curves)[mode]["success"][0].mean == pytest.approx(0.1)
        assert curves[mode]["success"][0].all()


def test_branches_start_from_the_adapted_state_and_are_dropped():
    tasks = _far_goals()[:2]
    learner = CountsEpisodes()
    env = make_vec(TaskDistribution(tuple(tasks)), 2, max_episode_steps=5)
    evaluate(learner, env, tasks, trials=1, episodes=3, seed=0, device=CPU)
    # by k: a branch of five steps, then the trial's own five steps, both from 5 k steps of the trial itself
    expected = [(k, 5.0 * k + t) for k in range(3) for _ in ("branch", "trial") for t in range(5)]
    assert learner.seen == expected


def test_every_goal_gets_the_same_figures_wherever_it_stands():
    tasks = list(suite("ml1:reach-v3").test.tasks[:6])
    env = make_vec(TaskDistribution(tuple(tasks)), 6, max_episode_steps=40)
    hover = Hover((0.0, 0.85, 0.2), (0.5, 0.5, 0.5, 0.5), 39, CPU)
    forward, std = evaluate(hover, env, tasks, trials=2, episodes=1, seed=3, device=CPU)
    backward, _ = evaluate(hover, env, tasks[::-1], trials=2, episodes=1, seed=3, device=CPU)
    np.testing.assert_array_equal(forward["sampled"]["return"], backward["sampled"]["return"][::-1])
    assert not np.array_equal(forward["sampled"]["return"][:, 0], forward["sampled"]["return"][:, 1])
    np.testing.assert_allclose(std, 0.5, rtol=1e-6)


def test_hovering_blind_to_the_goal_scores_what_noise_earns():
    """Known for std 1: success about 0.5 at any step, about 0.1 at the last."""
    s = suite("ml1:reach-v3")
    hover = goal_blind(s.train, (1.0, 1.0, 1.0, 1.0), 39, CPU)
    assert hover is not None
    env = make_vec(s.test, 50)
    curves, _ = evaluate(hover, env, s.test.tasks, trials=1, episodes=1, seed=0, device=CPU, modes=("sampled",))
    assert 0.3 < curves["sampled"]["success"].mean() < 0.7
    assert curves["sampled"]["last_success"].mean() < 0.3
    assert goal_blind(suite("ml1:push-v3").train, (1.0,) * 4, 39, CPU) is None


def test_gain_is_paired_by_goal():
    values = np.zeros((4, 1, 3))
    values[:, 0, 0], values[:, 0, 2] = [0, 10, 20, 30], [1, 12, 21, 32]
    interval = gain("return", values)
    # differences 1, 2, 1, 2: mean 1.5, s = 0.577, t(0.975, 3) = 3.1824, half width 0.9187
    assert interval == pytest.approx((1.5, 0.5813, 2.4187), abs=1e-3)


def test_train_goals_are_spread_evenly_over_the_tasks():
    distribution = TaskDistribution((*suite("ml1:reach-v3").train.tasks, *suite("ml1:push-v3").train.tasks))
    taken = balanced_subset(distribution.tasks, 7)
    assert [sum(t.name == n for t in taken) for n in distribution.names] == [4, 3]
    assert len(balanced_subset(distribution.tasks, 1000)) == 100


def test_evaluating_changes_nothing_in_the_run_and_repeats_itself(tmp_path, capsys):
    path = tmp_path / "run"
    assert train(path, 2) == 0
    before = digests(path / "checkpoints")
    args = ["evaluate", str(path), "--train-goals", "4", "--device", "cpu"]
    assert cli.run(args) == 0
    first = (path / "evaluation.json").read_bytes()
    shown = capsys.readouterr().out
    assert cli.run([*args, "--quiet"]) == 0
    assert (path / "evaluation.json").read_bytes() == first
    assert digests(path / "checkpoints") == before

    content = json.loads(first)
    assert content["checkpoint"] in shown
    assert "held-out goals" in shown
    assert "after 1 episode of experience" in shown
    test = content["sides"]["test"]
    assert len(test["goals"]) == 50
    assert np.shape(test["figures"]["deterministic"]["success"]) == (50, 1, 2)
    assert len(test["by_episode"]["sampled"]["success"]) == 2
    assert test["goal_blind"]["by_episode"]["sampled"]["success"]
    train_goals = {tuple(goal[1]) for goal in content["sides"]["train"]["goals"]}
    assert not train_goals & {tuple(goal[1]) for goal in test["goals"]}
    assert next((path / "evaluations").glob("*.png")).stat().st_size > 10_000


def test_an_evaluation_in_training_is_repeated_by_the_command(tmp_path):
    path = tmp_path / "run"
    assert train(path, 2, "--evaluate-every", "1") == 0
    logged = json.loads((path / "metrics.jsonl").read_text().splitlines()[0])
    name = f"{logged['step']:012d}"
    again = ["evaluate", str(path / "checkpoints" / name), "--device", "cpu", "--quiet", "--validation-goals", "50"]
    assert cli.run([*again, "--train-goals", "5"]) == 0
    repeated = json.loads((path / "evaluations" / f"all-goals_{name}_tr5_v50.json").read_text())
    assert repeated["sides"]["validation"]["by_episode"]["sampled"]["return"][-1][0] == logged["validation_return"]
    s = suite("ml1:reach-v3")
    goals = {tuple(goal[1]) for goal in repeated["sides"]["validation"]["goals"]}
    assert not goals & {task.params for task in (*s.train.tasks, *s.test.tasks)}
    assert not (path / "evaluation.json").exists()  # the default evaluation is the last checkpoint's


def test_goals_that_the_run_trained_on_are_refused_as_held_out(tmp_path, capsys):
    """Meta-World draws ML1's held-out goals with the next seed: those of seed 1 are the train goals of seed 2."""
    path = tmp_path / "run"
    assert train(path, 1, "--suite-seed", "2") == 0
    assert cli.run(["evaluate", str(path), "--suite-seed", "1", "--quiet"]) == 2
    assert "trained on 50 of the 50 held-out goals (ml1:reach-v3, suite seed 2)" in capsys.readouterr().err
    assert not list((path / "evaluations").glob("*")) if (path / "evaluations").exists() else True


def test_the_held_out_goals_of_another_suite_are_played_and_said(tmp_path, capsys):
    path = tmp_path / "run"
    assert train(path, 1) == 0
    args = ["evaluate", str(path), "--suite", "custom:train=reach-v3;test=push-v3,drawer-open-v3", "--train-goals", "2"]
    assert cli.run(args) == 0
    shown = capsys.readouterr().out
    assert "trained on ml1:reach-v3" in shown
    assert "Generalisation gap" in shown
    (file,) = (path / "evaluations").glob("*.json")
    content = json.loads(file.read_text())
    assert content["trained_on"] == {"suite": "ml1:reach-v3", "suite_seed": 1}
    by_task = content["sides"]["test"]["by_task"]
    assert {name: figures["goals"] for name, figures in by_task.items()} == {"push-v3": 50, "drawer-open-v3": 50}
    mean = np.mean([figures["by_episode"]["sampled"]["return"][0][0] for figures in by_task.values()])
    assert content["sides"]["test"]["by_episode"]["sampled"]["return"][0][0] == pytest.approx(mean)
    assert not (path / "evaluation.json").exists()
    assert cli.run(["evaluate", str(path), "--suite", "mt10", "--quiet"]) == 2
    assert "mt10 holds nothing out" in capsys.readouterr().err


def test_an_interrupted_evaluation_goes_on_where_it_stopped(tmp_path, monkeypatch, capsys):
    path = tmp_path / "run"
    assert train(path, 1) == 0
    args = ["evaluate", str(path), "--train-goals", "3", "--device", "cpu"]
    assert cli.run([*args, "--quiet"]) == 0
    whole = (path / "evaluation.json").read_bytes()
    (path / "evaluation.json").unlink()
    calls = []

    def cut(*given, **named):
        calls.append(named["tasks"] if "tasks" in named else given[2])
        if len(calls) == cut.after:
            raise KeyboardInterrupt
        return play_trial(*given, **named)

    monkeypatch.setattr("metarl.evaluation.all_goals.play_trial", cut)
    cut.after = 4  # train goals, their goal-blind agent, 25 held-out goals, then
    assert cli.run(args) == 130
    assert "repeat the command to resume" in capsys.readouterr().out
    (partial,) = (path / "evaluations").glob(".*.partial")
    with partial.open("a") as file:
        file.write('["test/25", {"fig')  # as a crash leaves it
    calls.clear()
    cut.after = 0
    assert cli.run([*args, "--quiet"]) == 0
    assert len(calls) == 3  # the other 25 goals and two batches of the goal-blind agent
    assert (path / "evaluation.json").read_bytes() == whole
    assert not list((path / "evaluations").glob(".*"))

    cut.after = 2
    calls.clear()
    assert cli.run([*args, "--seed", "1"]) == 130  # other work has a file of its own
    cut.after = 0
    assert cli.run([*args, "--quiet"]) == 0
    assert (path / "evaluation.json").read_bytes() == whole


def test_a_video_of_a_run(tmp_path, capsys):
    from metarl.envs.rendering.opengl import find_backend
    from metarl.errors import UserError

    try:
        find_backend()
    except UserError as error:
        pytest.skip(str(error))
    assert train(tmp_path / "run", 1) == 0
    args = ["render", str(tmp_path / "run"), "--goals", "2", "--size", "160x120"]
    assert cli.run(args) == 0
    video = next((tmp_path / "run" / "videos").glob("*.mp4"))
    assert video.stat().st_size > 3000
    assert str(video) in capsys.readouterr().out.replace("\n", "")


def test_a_video_without_any_backend_is_refused_before_the_work(tmp_path, monkeypatch, capsys):
    from metarl.errors import UserError

    def none() -> str:
        raise UserError("no OpenGL backend works here: apt-get install -y libosmesa6")

    assert train(tmp_path / "run", 1) == 0
    monkeypatch.setattr("metarl.commands.render.find_backend", none)
    assert cli.run(["render", str(tmp_path / "run")]) == 2
    assert "libosmesa6" in capsys.readouterr().err
    assert not (tmp_path / "run" / "videos").exists()
