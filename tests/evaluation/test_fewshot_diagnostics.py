"""What evaluations of few-shot learners note beside their figures."""

from typing import Any

import numpy as np
import pytest
import torch
from builders.fewshot_runs import EPISODES, HOSTILE, content_of, evaluate

from metarl.datasets.episodes import Examples
from metarl.datasets.sinusoid import sine_curves
from metarl.evaluation import fewshot as evaluation
from metarl.evaluation import fewshot_diagnostics as diagnostics
from metarl.evaluation.fewshot_schema import tiles
from metarl.rollouts.random_streams import EVALUATION, generator
from metarl.sharing.opening import open_run
from metarl.training.setup import trained_few_shot


def test_answers_add_up(few_shot_runs):
    for name in ("images", "gradients", "texts"):
        content = content_of(few_shot_runs[name])
        found = content["sides"]["test"]["answers"]
        accuracy = content["sides"]["test"]["by_shots"][-1][0]
        assert found["asked"] == EPISODES * 3 * 3
        assert found["right"] == pytest.approx(accuracy * found["asked"])
        matrix = found["matrix"]
        assert found["classes"] == 4
        if not matrix["grouped"]:
            assert np.trace(matrix["counts"]) == found["right"]
            assert np.sum(matrix["counts"]) == found["asked"]
            assert np.trace(matrix["asked"]) == found["asked"]
        assert sum(times for _, _, times, _ in found["confusions"]) == found["asked"] - found["right"]
        assert "answers" not in content["sides"]["train"]


def test_confusions_by_hand():
    """Classes 4 and 7 of the part in one episode, 7 and 5 in another; three queries of each."""
    classes = np.array([[4, 7], [7, 5]])
    answers = np.array([[[1, 2], [0, 3]], [[2, 1], [3, 0]]])
    assert list(diagnostics._confusions(classes, answers)) == [(5, 7, 3, 3), (4, 7, 2, 3), (7, 5, 1, 3)]
    names = [f"{'ab'[c % 2]}/{c}" for c in range(8)]
    rates = np.array([[1 / 3, 1], [2 / 3, 0]])
    hardest = diagnostics._hardest(names, classes, rates)
    assert [row[0] for row in hardest] == ["b/5", "a/4", "b/7"]
    assert hardest[2][1] == pytest.approx(5 / 6)
    assert hardest[2][4] == 2
    plain = diagnostics._matrix(names, classes, answers, False)
    assert plain["names"] == ["a/4", "b/5", "b/7"]
    assert plain["counts"] == [[1, 0, 2], [0, 0, 3], [0, 1, 5]]
    assert plain["asked"] == [[3, 0, 3], [0, 3, 3], [3, 3, 6]]
    grouped = diagnostics._matrix([name[0] for name in names], classes, answers, True)
    assert grouped == {"grouped": True, "all": 2, "names": ["a", "b"], "counts": [[0, 2], [0, 4]], "asked": [[0, 3], [3, 6]]}


def test_the_largest_rows_of_a_matrix_are_kept(monkeypatch):
    monkeypatch.setattr(diagnostics, "MATRIX", 2)
    found = diagnostics._matrix(list("abc"), np.array([[0, 1], [2, 1]]), np.array([[[3, 0], [1, 2]], [[1, 2], [0, 3]]]), False)
    assert (found["names"], found["all"]) == (["b", "c"], 3)


def test_example_episodes_are_the_first_ones(few_shot_runs):
    """The pictures and answers are those of the episodes that the evaluation drew first."""
    run, _ = open_run(few_shot_runs["images"])
    setup = trained_few_shot(run, run.load()[0])
    rng = generator(0, EVALUATION, 2, 0)
    episode = setup.data.draw("test", rng, tasks=evaluation.TASKS, ways=3, shots=2, queries=3)
    with torch.no_grad():
        _, prediction = evaluation.curve(setup.agent, episode, 2)
    examples = content_of(few_shot_runs["images"])["sides"]["test"]["examples"]
    assert len(examples) == diagnostics.EPISODES
    for t, example in enumerate(examples):
        images = tiles(example["items"])
        assert example["classes"] == [setup.data.classes("test")[c] for c in episode.classes[t]]
        assert example["right"] == int((prediction[t].argmax(-1) == episode.query.y[t]).sum())
        for way in range(3):
            for half, items in (
                (episode.support, example["support"][way]),
                (episode.query, [q[0] for q in example["query"][way]]),
            ):
                pixels = (half.x[t][half.y[t] == way] * 255).round().numpy()
                assert len(items) == len(pixels)
                assert all((images[item][..., 0] == one[0]).all() for item, one in zip(items, pixels))
            mine = prediction[t][episode.query.y[t] == way].softmax(-1)
            assert [q[1] for q in example["query"][way]] == mine.argmax(-1).tolist()
            assert [q[2] for q in example["query"][way]] == pytest.approx(mine.amax(-1).tolist(), abs=1e-4)
            assert [q[3] for q in example["query"][way]] == pytest.approx(mine[:, way].tolist(), abs=1e-4)


def test_example_texts_are_kept_as_written(few_shot_runs):
    found = content_of(few_shot_runs["texts"])["sides"]["test"]["examples"][0]
    assert all(HOSTILE in item for item in found["items"])
    words = {name: {found["items"][i].split()[0] for i in items} for name, items in zip(found["classes"], found["support"])}
    assert words == {name: {f"word{name.rsplit(chr(39))[-1]}"} for name in found["classes"]}


def test_large_images_are_made_small():
    x = torch.rand(3, 3, 80, 80)
    shown = diagnostics._displayed(diagnostics.Resident("colours", "image", "", {}), x)
    images = tiles(shown)
    assert [image.shape for image in images] == [(diagnostics.TILE, diagnostics.TILE, 3)] * 3
    assert np.mean([image.mean() for image in images]) == pytest.approx(float(x.mean()) * 255, abs=3)


def test_gradient_steps_fit_the_curve_over_shots(few_shot_runs):
    for name, taken in (("gradients", 2), ("curves", 1)):
        side = content_of(few_shot_runs[name])["sides"]["test"]
        steps = side["by_steps"]
        assert steps["taken"] == taken
        level = dict(zip(steps["steps"], steps["measured"]))
        assert level[0] == pytest.approx(side["by_shots"][0], abs=1e-5)
        assert level[taken] == pytest.approx(side["by_shots"][-1], abs=1e-5)
        assert steps["difference"][steps["steps"].index(taken)] == [0, 0, 0]
        first = steps["difference"][0][0]
        assert first == pytest.approx(level[0][0] - level[taken][0], abs=1e-5)
    assert "by_steps" not in content_of(few_shot_runs["fitted"])["sides"]["test"]


def test_states_after_steps_are_those_of_adapting(few_shot_runs):
    run, _ = open_run(few_shot_runs["gradients"])
    agent = trained_few_shot(run, run.load()[0]).agent
    rng = np.random.default_rng(0)
    x = torch.from_numpy(rng.random((2, 6, *agent.kind.shape), np.float32))
    support = Examples(x, torch.arange(6).remainder(3).expand(2, 6))
    with torch.no_grad():
        begun = agent.initial_state(2)
        none, two, three = agent.after(begun, support, [0, 2, 3])
        assert none is begun
        once_more = agent.after(two, support, [1])[0]
        adapted = agent.adapt(begun, support)
    for name, value in adapted["params"].items():
        assert torch.equal(value, two["params"][name])
        assert torch.equal(once_more["params"][name], three["params"][name])


def test_curves_are_the_answers_of_the_learner(few_shot_runs):
    run, _ = open_run(few_shot_runs["curves"])
    setup = trained_few_shot(run, run.load()[0])
    episode = setup.data.draw("test", generator(0, EVALUATION, 2, 0), tasks=evaluation.TASKS, shots=4, queries=3)
    example = content_of(few_shot_runs["curves"])["sides"]["test"]["examples"][1]
    assert example["steps"] == list(range(11))
    np.testing.assert_allclose(example["support"], torch.cat(episode.support, -1)[1], atol=1e-4)
    grid = torch.tensor(example["x"], dtype=torch.float32)[:, None].expand(evaluation.TASKS, -1, 1)
    with torch.no_grad():
        adapted = setup.agent.adapt(setup.agent.initial_state(evaluation.TASKS), episode.support)
        answer = setup.agent.predict(adapted, grid)[0][1, :, 0]
    np.testing.assert_allclose(example["curves"][1], answer, atol=1e-3)
    near = [int(np.abs(np.array(example["x"]) - x).argmin()) for x, _ in example["support"]]
    assert [example["true"][i] for i in near] == pytest.approx([y for _, y in example["support"]], abs=0.3)
    assert len(content_of(few_shot_runs["fitted"])["sides"]["test"]["examples"][0]["curves"]) == 2


def test_the_true_curve_is_found():
    """A sin(x - phase) through three points of it, at other places."""
    x = torch.tensor([[[-1.0], [0.5], [3.0]]])
    grid = np.linspace(-5, 5, 7)
    curve = sine_curves(Examples(x, 2.5 * torch.sin(x - 0.7)), grid)
    np.testing.assert_allclose(curve, [2.5 * np.sin(grid - 0.7)], atol=1e-5)


@pytest.mark.parametrize("name", ["gradients", "texts", "curves"])
def test_an_interrupted_evaluation_notes_the_same(name, few_shot_runs, monkeypatch):
    path, whole, played = few_shot_runs[name], evaluation.curve, []
    before = content_of(path)

    def interrupted(*given: Any) -> Any:
        played.append(1)
        if len(played) == 4:  # the second batch of the test part
            raise KeyboardInterrupt
        return whole(*given)

    monkeypatch.setattr(evaluation, "curve", interrupted)
    assert evaluate(path) == 130
    assert evaluate(path) == 0
    assert len(played) == 5
    drop = {"git_commit": None}  # somebody may commit while tests run
    assert content_of(path) | drop == before | drop
