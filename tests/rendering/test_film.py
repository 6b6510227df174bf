"""`metarl render`: which goals and episodes are shown, that they are those that were measured, and what is refused."""

import shutil
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from builders.scenes import need_backend
from builders.tiny import refused, train
from PIL import Image

from metarl import cli
from metarl.envs import make_vec, suite
from metarl.errors import UserError
from metarl.evaluation.all_goals import evaluate
from metarl.learner import distance
from metarl.rendering.film import Film, FilmOptions, _Camera, _changes, choose
from metarl.rendering.overlay import Goal, Layout
from metarl.sharing.opening import open_run

MAML = "--layers 8 --episodes-per-trial 2".split()


@pytest.fixture(scope="module")
def recurrent(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("render") / "recurrent"
    assert train(path, 1) == 0
    return path


@pytest.fixture(scope="module")
def gradient(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("render") / "gradient"
    assert train(path, 1, *MAML, agent="maml-trpo") == 0
    return path


def film(path: Path, **options) -> Film:
    run, _ = open_run(path)
    checkpoint, _ = run.load()
    return Film(FilmOptions(device="cpu", **options), run, checkpoint, quiet=True)


def played(path: Path, **options) -> list[Goal]:
    return film(path, **options).play()


def test_unknown_actions_are_refused():
    with pytest.raises(UserError, match=r"unknown kind of actions 'mean'\. There are: sampled, deterministic"):
        FilmOptions(actions="mean")


@pytest.mark.parametrize("which", ["recurrent", "gradient"])
def test_what_is_shown_is_what_was_measured(which, request):
    """The first trial on each goal, in both modes; to rounding, for evaluation plays in batches of another size."""
    of = film(request.getfixturevalue(which), goals=3)
    env = make_vec(replace(of.setup.suite.train, tasks=tuple(of.tasks)), 5, max_episode_steps=20)
    figures, _ = evaluate(
        of.setup.agent,
        env,
        of.tasks,
        trials=2,
        episodes=2,
        seed=0,
        device=torch.device("cpu"),
        adapt_every=of.setup.source.episodes,
    )
    env.close()
    for mode, measures in figures.items():
        for i, goal in enumerate(played(request.getfixturevalue(which), goals=3, actions=mode)):
            for e, clip in enumerate(goal.clips):
                assert clip.rewards.sum() == pytest.approx(measures["return"][i, 0, e], rel=1e-4), (mode, i, e)
                assert clip.successes.any() == measures["success"][i, 0, e]
                assert len(clip.rewards) == clip.steps[-1] == 20
    assert not np.allclose(figures["sampled"]["return"][:, 0], figures["sampled"]["return"][:, 1], rtol=1e-4)


def test_the_words_over_the_pictures(recurrent, gradient):
    (goal, other) = played(recurrent, goals=2, episodes_per_trial=3, side="train")
    assert (goal.title, goal.note, other.note) == ("reach-v3, train goal 1", "1 of 2", "2 of 2")
    assert [(c.title, c.note) for c in goal.clips] == [("episode 1", "no experience yet"), ("episode 3", "after 2 episodes")]
    for clip in goal.clips:  # a recurrent agent's memory moves with every step
        assert np.isnan(clip.changes[0])
        assert (clip.changes[1:] > 0).all()
    (goal,) = played(gradient, goals=1, episodes_per_trial=3, episodes=(1, 2, 3))
    assert goal.title == "reach-v3, held-out goal 1"
    notes = [clip.note for clip in goal.clips]
    assert notes == ["0 gradient steps", "1 gradient step", "2 gradient steps"]
    assert all(clip.changes is None for clip in goal.clips)


def test_changes_are_distances_between_hidden_states():
    first, second, third = torch.zeros(2, 2), torch.tensor([[3.0, 4.0], [0.0, 0.0]]), torch.tensor([[3.0, 4.0], [0.0, 2.0]])
    state = [{"hidden": (h, torch.zeros(2, 1, 3))} for h in (first, second, third)]
    changes = _changes(SimpleNamespace(states=state))
    assert changes[1:].tolist() == [[5.0, 0.0], [0.0, 2.0]]
    assert np.isnan(changes[0]).all()
    assert _changes(SimpleNamespace(states=[state[0]] * 3)) is None
    assert distance(state[0], state[0]) == 0.0


def test_pictures_keep_real_time_and_an_ended_episode_keeps_its_own():
    """At 20 a second every 4th of 80 control steps; of an environment that ends with its 6th step, none after it."""
    camera = _Camera(SimpleNamespace(max_episode_steps=20, metadata={"render_fps": 80}), fps=20, speed=1.0)
    assert sorted(camera.times) == [0, 4, 8, 12, 16]
    for now in sorted(camera.times):
        camera.take(now, [(0, now), (1, now)])
    valid = torch.ones(20, 2, dtype=torch.bool)
    valid[6:, 1] = False
    same = torch.zeros(2, 1)
    rollout = SimpleNamespace(reward=torch.ones(20, 2), success=~valid, valid=valid, states=[same] * 20)
    whole, ended = camera.clips(rollout, "", "")
    assert whole.scenes == [(0, t) for t in (0, 4, 8, 12, 16)]
    assert whole.steps == [1, 5, 9, 13, 20]
    assert ended.scenes == [(1, 0), (1, 4)]
    assert ended.steps == [1, 6]
    assert len(ended.rewards) == 6
    assert sorted(_Camera(SimpleNamespace(max_episode_steps=20, metadata={"render_fps": 80}), fps=10, speed=2.0).times) == [
        0,
        16,
    ]
    assert sorted(_Camera(SimpleNamespace(max_episode_steps=10, metadata={"render_fps": 80}), fps=30, speed=1.0).times) == [
        0,
        2,
        5,
        8,
    ]


def test_a_grid_as_a_gif(recurrent, tmp_path, capsys):
    need_backend()
    path = tmp_path / "new" / "film.gif"
    args = ["render", str(recurrent), "--goals", "4", "--episodes", "1", "2", "--size", "131x97", "--speed", "2", "--fps", "10"]
    assert cli.run([*args, "--out", str(path), "--device", "cpu"]) == 0
    with Image.open(path) as gif:
        assert gif.size == Layout(131, 97, 4, 2).size
        assert gif.n_frames == 2 + 7  # steps 1 and 17 of 20, held for 0.7 s
    assert list(path.parent.iterdir()) == [path]
    assert str(path) in capsys.readouterr().out.replace("\n", "")


def test_how_goals_are_laid_out(recurrent):
    assert film(recurrent).size == (320, 240)
    assert not film(recurrent, goals=3).grid
    assert film(recurrent, goals=4).grid
    assert not film(recurrent, goals=9, grid=False).grid
    assert film(recurrent, goals=9).size == (208, 156)  # six pictures beside each other
    assert film(recurrent, goals=9, size="500x100").size == (500, 100)


def test_goals_are_chosen_evenly_over_the_tasks_that_are_named():
    ml10 = suite("ml10")
    names = [task.name for task in choose(ml10, "test", (), 7)]
    assert sorted(names.count(name) for name in ml10.test.names) == [1, 1, 1, 2, 2]
    assert len(choose(ml10, "train", ("reach-v3", "push-v3", "sweep-v3", "basketball-v3"), None)) == 4
    assert {task.name for task in choose(ml10, "train", ("reach-v3", "push-v3"), None)} == {"reach-v3", "push-v3"}
    with pytest.raises(UserError, match=r"no held-out task 'reach-v3'. There are: .*door-close-v3"):
        choose(ml10, "test", ("reach-v3",), None)
    with pytest.raises(UserError, match="holds nothing out"):
        choose(suite("mt10"), "test", (), None)
    with pytest.raises(UserError, match="there are 50 such goals, not 51"):
        choose(ml10, "test", ("door-close-v3",), 51)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--tasks", "drawer-open-v3"], "no held-out task 'drawer-open-v3'. There are: reach-v3"),
        (["--tasks", "a", "b", "--goals", "1"], "2 tasks are named"),
        (["--side", "left"], "left"),
        (["--goals", "51"], "there are 50 such goals"),
        (["--goals", "0"], "must be at least 1"),
        (["--episodes-per-trial", "0"], "must be at least 1"),
        (["--goals", "50", "--size", "640x480"], "too large for a video"),
        (["--episodes", "3"], "there is no episode 3 in a trial of 2 (--episodes-per-trial"),
        (["--episodes", "4", "--episodes-per-trial", "3"], "there is no episode 4 in a trial of 3"),
        (["--episodes", "2", "1"], "episodes must be in increasing order: 1 2"),
        (["--camera", "corner9"], "There are: side, topview, corner"),
        (["--size", "320"], "WIDTHxHEIGHT"),
        (["--size", "5000x100"], "pixels"),
        (["--size", "64x48"], "too small for the overlay"),
        (["--fps", "81"], "fps must be at"),
        (["--speed", "nan"], "speed must be positive"),
        (["--fps", "60", "--format", "gif"], "at most 50 frames"),
        (["--out", "film.avi"], "mp4 or gif"),
        (["--out", "film.mp4", "--format", "gif"], "film.mp4"),
        (["--out", "/tmp.mp4/../"], "mp4 or gif"),
    ],
)
def test_wrong_input(options, says, recurrent, tmp_path, monkeypatch, capsys):
    refused(["render", str(recurrent), "--device", "cpu", *options], says, tmp_path, monkeypatch, capsys)


def test_a_run_without_a_checkpoint_and_a_folder_in_the_way(recurrent, tmp_path, capsys):
    run = tmp_path / "run"
    run.mkdir()
    shutil.copy(recurrent / "config.json", run)
    assert cli.run(["render", str(run)]) == 2
    assert "has no checkpoint" in capsys.readouterr().err
    (tmp_path / "film.mp4").mkdir()
    assert cli.run(["render", str(recurrent), "--out", str(tmp_path / "film.mp4")]) == 2
    assert "is a directory" in capsys.readouterr().err
