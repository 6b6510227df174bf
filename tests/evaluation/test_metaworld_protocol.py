"""Meta-World's own evaluation: through its code and environments, and on the native engine, number for number."""

import json
from dataclasses import replace
from importlib.metadata import version
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from builders.tiny import BITS, refused, train
from hypothesis import given, settings
from hypothesis import strategies as st
from metaworld.env_dict import ALL_V3_ENVIRONMENTS
from metaworld.evaluation import evaluation as upstream_evaluation

from metarl import cli
from metarl.agents import find
from metarl.agents.baselines import Scripted, ScriptedSettings
from metarl.agents.maml.agent import MAML
from metarl.envs import TaskDistribution, make_vec, suite
from metarl.errors import UserError
from metarl.evaluation import metaworld as metaworld_protocol
from metarl.evaluation import upstream_envs as environments
from metarl.evaluation.all_goals import evaluate, summary
from metarl.evaluation.control_schema import whole_upstream
from metarl.evaluation.metaworld import measure
from metarl.evaluation.schema import FAULTS
from metarl.evaluation.upstream_compiled import QUOTA, counted
from metarl.evaluation.upstream_envs import native_envs, shares, upstream_envs
from metarl.evaluation.wording import rules_of, upstream_sentence
from metarl.nn.distributions import Gaussian
from metarl.sharing.opening import open_run
from metarl.training.setup import trained_control as trained_setup

CPU = torch.device("cpu")
REACH = suite("ml1:reach-v3", 1, 4)


def _agent(name: str):
    agent_class, presets = find(name)
    env = make_vec(REACH.train, 1, engine="native")
    made = agent_class(
        presets["default"].settings,
        env.single_observation_space,
        env.single_action_space,
        env.input_scale,
        seed=3,
        device=CPU,
        total_iterations=1,
    )
    env.close()
    return made


@pytest.fixture
def one_env(monkeypatch):
    """One environment, which goes through all goals."""
    monkeypatch.setattr(environments, "NUM_ENVS", 1)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """RL² and MAML-TRPO after a little training."""
    agents = []
    for name in ("rl2", "maml-trpo"):
        path = tmp_path_factory.mktemp("runs") / name
        assert train(path, 2, agent=name) == 0
        run, _ = open_run(path)
        agents.append(trained_setup(run, run.load()[0], device="cpu").agent)
    return agents


def test_native_equals_upstream_number_for_number(one_env, trained):
    agents = [_agent("random"), _agent("scripted"), *trained]
    for agent in agents:
        seeds = range(2) if isinstance(agent, MAML) else range(5)
        found = {}
        for seed in seeds:
            upstream, stepped, compiled = (
                measure(
                    agent,
                    REACH.test,
                    engine=engine,
                    seed=seed,
                    max_episode_steps=60 if agent is agents[1] else 12,
                    episodes=1,
                    device=CPU,
                    evaluations=2 if agent is agents[2] else 1,
                    acting=acting,
                )
                for engine, acting in (("python", "auto"), ("native", "python"), ("native", "auto"))
            )
            assert upstream == stepped
            assert compiled["by_task"] == upstream["by_task"]
            assert compiled["return"] == pytest.approx(upstream["return"], rel=1e-5)
            found[seed] = upstream
        if isinstance(agent, MAML):
            assert found[0]["return"] != found[1]["return"]  # the sampled support, and so what was learned, differs
        if agent is agents[1]:
            assert any(one["success"] > 0 for one in found.values())


@settings(max_examples=60, deadline=None)
@given(st.data(), st.lists(st.integers(1, 3), min_size=1, max_size=3), st.integers(1, 6))
def test_repeated_episodes_are_counted_as_upstream_counts_them(data, shared, longest):
    """Environments that repeat one episode each, of any length: Meta-World's own loop over them, and ours on paper."""
    tasks = ["reach-v3", "push-v3", "door-close-v3"]
    names = [name for name, count in zip(tasks, shared) for _ in range(count)]
    lengths = data.draw(st.lists(st.integers(1, longest), min_size=len(names), max_size=len(names)))
    success = np.array(data.draw(st.lists(st.booleans(), min_size=len(names), max_size=len(names))))
    returns = np.arange(1.0, len(names) + 1)

    class Repeats:
        """Environments whose episodes end after their lengths, again and again."""

        num_envs, time = len(names), 0

        def get_attr(self, name):
            return [ALL_V3_ENVIRONMENTS[task].__name__ for task in names] if name == "task_name" else [True]

        def call(self, *ignored):
            pass

        def reset(self):
            return np.zeros((len(names), 1)), {}

        def step(self, actions):
            self.time += 1
            done = self.time % np.array(lengths) == 0
            ended = {"episode": {"r": returns}, "success": success}
            return np.zeros((len(names), 1)), None, done, np.zeros_like(done), {"final_info": ended}

    agent = SimpleNamespace(reset=lambda mask: None, eval_action=lambda obs: obs)
    _, returned, by_task, _ = upstream_evaluation(agent, Repeats(), QUOTA)
    valid = torch.arange(longest)[:, None] < torch.tensor(lengths)
    measured = SimpleNamespace(valid=valid, by_episode=lambda episodes: {"success": success[None], "return": returns[None]})
    ours, our_returns = counted(names, measured)
    assert ours == pytest.approx(by_task)
    assert np.mean([*our_returns.values()]) == pytest.approx(returned)


def test_both_go_through_the_goals_in_the_same_order_and_tell_agents_the_same(monkeypatch):
    monkeypatch.setattr(environments, "NUM_ENVS", 4)
    s = suite("custom:train=push-v3;test=reach-v3,door-close-v3", 2, 6)
    (upstream, view), (native, env) = upstream_envs(s.test, 5, 4, "v2"), native_envs(s.test, 5, 4, "v2")
    assert list(upstream.get_attr("task_name")) == native.get_attr("task_name")
    orders = []
    for _ in range(4):  # three goals an environment: the fourth draw shuffles again
        upstream.call("sample_tasks")
        native.call("sample_tasks")
        vectors = [tuple(inner.unwrapped._last_rand_vec) for inner in upstream.envs]
        assert vectors == [task.params for task in env.tasks]
        orders.append(vectors)
        for env_id in range(4):
            np.testing.assert_array_equal(view.scene(env_id).goal, env.engine.scene(env_id).goal)
    assert len({tuple(o) for o in orders[:3]}) == 3
    assert [task.name for task in view.tasks] == [task.name for task in env.tasks]
    one, other = upstream.reset()[0], native.reset()[0]
    for _ in range(5):  # past the end of an episode
        np.testing.assert_array_equal(one, np.float32(other))
        actions = np.float32([[0.3, -0.2, 1.0, 0.5]] * 4)
        one, other = upstream.step(actions)[0], native.step(actions)[0]
    upstream.close()
    env.close()


class KnowsOneGoal(Scripted):
    """The expert on one goal; elsewhere it does nothing."""

    def bind_env(self, env) -> None:
        super().bind_env(env)
        self.mine = torch.tensor([np.allclose(goal, self.goal) for goal in self.goals])

    def predict(self, state, query):
        prediction, state = super().predict(state, query)
        return Gaussian(torch.where(self.mine[:, None], prediction.mean, 0.0), prediction.log_std), state


def test_one_goal_of_ten_solved_is_all_to_metaworld_and_a_tenth_to_us():
    test = suite("ml1:reach-v3", 1, 10).test
    env = make_vec(test, 10, engine="native", max_episode_steps=150)
    agent = KnowsOneGoal(
        ScriptedSettings(), env.single_observation_space, env.single_action_space, None, seed=0, device=CPU, total_iterations=1
    )
    hand = (0.0, 0.6, 0.2)  # no goal is solved by a hand that stays here
    near = min(test.tasks, key=lambda task: np.linalg.norm(np.subtract(task.params[3:], hand)))
    agent.goal = np.array(near.params[3:])
    curves, _ = evaluate(agent, env, test.tasks, trials=1, episodes=1, seed=0, device=CPU)
    env.close()
    by_episode = summary(curves)
    assert by_episode["deterministic"]["success"][0].mean == pytest.approx(0.1)

    for engine in ("native", "python"):
        upstream = measure(agent, test, engine=engine, seed=0, max_episode_steps=150, episodes=1, device=CPU, evaluations=1)
        assert upstream["success"] == 1.0, 'Meta-World changed: correct "The quota" in docs/meta-world.md'
        ours = {"episodes": 2, "sides": {"test": {"by_episode": by_episode}}}
        said = upstream_sentence({"episodes": 1, "evaluations": 1, "episodes_counted": 3, "sides": {"test": upstream}}, ours)
        assert "reports 100 % for this checkpoint; with every goal weighted equally it is 10 %" in said.replace(
            "\N{NO-BREAK SPACE}", " "
        )
        assert "fill that quota" in said


def test_environments_share_goals_as_metaworld_deals_them():
    ten = suite("ml10").test
    dealt = shares(ten)
    assert [some[0].name for some in dealt[::4]] == list(ten.names)
    assert [len(some) for some in dealt] == [10] * 20  # 40 of the 50 goals
    assert dealt[1][:2] == [ten.tasks[1], ten.tasks[5]]
    assert [len(some) for some in shares(suite("ml1:reach-v3").test)] == [2] * 20
    with pytest.raises(UserError, match="--protocol all-goals"):
        shares(BITS)
    assert shares(replace(REACH.test, tasks=REACH.test.tasks[:1])) == [[REACH.test.tasks[0]]]


def test_episodes_longer_than_metaworlds_are_refused():
    with pytest.raises(UserError, match="500 steps"):
        measure(_agent("random"), REACH.test, engine="native", seed=0, max_episode_steps=501, episodes=1, device=CPU)


@pytest.mark.parametrize("agent", ["rl2", "maml-trpo"])
def test_the_command(agent, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(metaworld_protocol, "EVALUATIONS", 3)
    path = tmp_path / "run"
    assert train(path, 1, "--goals", "2", agent=agent) == 0
    args = ["evaluate", str(path), "--protocol", "metaworld", "--device", "cpu"]
    assert cli.run(["evaluate", str(path), "--device", "cpu", "--quiet", "--train-goals", "0"]) == 0
    assert cli.run([*args, "--engine", "native", "--seeds", "2"]) == 0
    shown = capsys.readouterr().out
    file = next((path / "evaluations").glob("metaworld_native_*.json"))
    first = file.read_bytes()
    content = json.loads(first)
    assert list(content["sides"]["test"]["seeds"]) == ["0", "1"]
    assert content["sides"]["test"]["by_task"].keys() == {"reach-v3"}
    assert content["rules"] == version("metaworld")
    assert f"own evaluation (native, rules of Meta-World {version('metaworld')}), 2 seeds" in " ".join(shown.split())
    assert "with every goal weighted equally" in shown
    assert file.name in shown.replace("\n", "")
    assert cli.run([*args, "--engine", "native", "--seeds", "2", "--quiet"]) == 0
    assert file.read_bytes() == first
    if agent == "rl2":
        assert cli.run([*args, "--quiet"]) == 0
        upstream = json.loads(next((path / "evaluations").glob("metaworld_python_*.json")).read_text())
        assert upstream["sides"]["test"]["seeds"]["0"] == content["sides"]["test"]["seeds"]["0"]


def test_files_without_the_version_of_the_rules_are_read():
    """Their header names the version of Meta-World, or nothing does."""
    content = {
        **dict.fromkeys(("engine", "checkpoint"), "x"),
        **dict.fromkeys(("step", "episodes", "episodes_counted", "evaluations"), 1),
        "sides": {"test": {"success": 1.0}},
    }
    for entries, found, said in (
        ({"packages": {"metaworld": "3.0.0"}}, "3.0.0", "rules of Meta-World 3.0.0"),
        ({"packages": None}, None, "rules of an unknown version of Meta-World"),
        ({"packages": {"metaworld": "3.1.1"}, "rules": "3.0.0"}, "3.0.0", "rules of Meta-World 3.0.0"),
    ):
        read = whole_upstream({**content, **entries})
        assert read["rules"] == found
        assert rules_of(read) == said
    with pytest.raises(FAULTS):
        whole_upstream({**content, "rules": 3})


def test_an_interrupted_evaluation_goes_on_with_the_seed_at_which_it_stopped(tmp_path, monkeypatch):
    monkeypatch.setattr(metaworld_protocol, "EVALUATIONS", 1)
    path = tmp_path / "run"
    assert train(path, 1, "--goals", "2") == 0
    args = [
        "evaluate",
        str(path),
        "--protocol",
        "metaworld",
        "--engine",
        "native",
        "--seeds",
        "3",
        "--device",
        "cpu",
        "--quiet",
    ]
    assert cli.run(args) == 0
    (file,) = (path / "evaluations").glob("metaworld_*.json")
    whole, seeds = file.read_bytes(), []

    def interrupted(*args, seed, **options):
        seeds.append(seed)
        if len(seeds) == 2:
            raise KeyboardInterrupt
        return measure(*args, seed=seed, **options)

    monkeypatch.setattr(metaworld_protocol, "measure", interrupted)
    file.unlink()
    assert cli.run(args) == 130
    assert not file.exists()
    assert cli.run(args) == 0
    assert seeds == [0, 1, 1, 2]
    assert file.read_bytes() == whole
    assert not list((path / "evaluations").glob(".*"))


def test_suites_that_hold_nothing_out_and_seeds_of_another_protocol_are_refused(tmp_path, monkeypatch, capsys):
    path = tmp_path / "run"
    options = "--num-envs 1 --steps 10 --max-episode-steps 5 --device cpu --quiet".split()
    assert cli.run(["train", "random", "mt1:reach-v3", "--run-dir", str(path), *options]) == 0
    (tmp_path / "empty").mkdir()
    args = ["evaluate", str(path)]
    refused([*args, "--protocol", "metaworld"], "holds nothing out", tmp_path / "empty", monkeypatch, capsys)
    refused([*args, "--seeds", "2"], "--protocol metaworld", tmp_path / "empty", monkeypatch, capsys)
    refused(
        [*args, "--protocol", "metaworld", "--trials", "2"], "--protocol all-goals", tmp_path / "empty", monkeypatch, capsys
    )
    with pytest.raises(UserError, match="Meta-World's tasks"):
        shares(TaskDistribution(BITS.tasks, make=BITS.make))


@pytest.mark.parametrize(
    ("made", "asked", "says"),
    [
        (["--suite-seed", "2"], ["--suite-seed", "1"], "trained on 50 of the 50 held-out goals"),
        (["--task-id"], [], "shows no task ids"),
    ],
)
def test_goals_that_were_trained_on_and_shown_task_ids_are_refused(made, asked, says, tmp_path, capsys):
    path = tmp_path / "run"
    options = "--num-envs 1 --steps 10 --max-episode-steps 5 --device cpu --quiet".split()
    assert cli.run(["train", "random", "ml1:reach-v3", "--run-dir", str(path), *options, *made]) == 0
    assert cli.run(["evaluate", str(path), "--protocol", "metaworld", *asked]) == 2
    assert says in capsys.readouterr().err
