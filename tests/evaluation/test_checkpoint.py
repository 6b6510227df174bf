"""What an evaluation may be asked for, and how far it says it is."""

from pathlib import Path

import pytest
from builders.tiny import train

from metarl import cli
from metarl.commands.evaluate import Evaluate
from metarl.errors import UserError
from metarl.evaluation.plan import Plan
from metarl.system.console import Progress


@pytest.mark.parametrize("name", ["trials", "episodes", "train_goals", "validation_goals", "seed"])
def test_the_smallest_number_of_each_kind_is_a_plan_and_one_less_is_none(name):
    least = 1 if name in ("trials", "episodes") else 0
    assert getattr(Plan(**{name: least}), name) == least
    with pytest.raises(UserError, match=f"{name}.* at least {least}"):
        Plan(**{name: least - 1})


@pytest.mark.parametrize("options", [{}, {"plan": Plan(trials=2)}, {"plan": Plan(train_goals=9)}])
def test_options_of_one_protocol_are_refused_with_the_other(options, tmp_path):
    Evaluate((tmp_path,), protocol="metaworld", seeds=2)
    with pytest.raises(UserError, match="protocol"):
        Evaluate((tmp_path,), protocol="metaworld" if options.get("plan") else "all-goals", **{"seeds": 2, **options})


def test_progress_ends_at_the_number_of_steps_that_it_was_to_count(tmp_path, monkeypatch):
    """Sampled and deterministic actions, two sides, several trials, batches that are not full."""
    from metarl.evaluation import session

    bars = []

    class Noted(session.Progress):
        def __init__(self, total, **more):
            super().__init__(total, **more)
            self.at = []
            bars.append(self)

        def within(self, done):
            self.at.append(done)

    monkeypatch.setattr(session, "Progress", Noted)
    assert train(tmp_path / "run", 1, "--goals", "4") == 0
    args = ["evaluate", str(tmp_path / "run"), "--train-goals", "3", "--trials", "2", "--device", "cpu", "--quiet"]
    assert cli.run(args) == 0
    (bar,) = bars
    assert bar.total == (3 + 4) * 2 * 2 * 20 * 2  # goals, trials, episodes, steps, modes
    assert bar.at[-1] == bar.total
    assert bar.at == sorted(bar.at)


def test_the_parts_of_a_work_follow_each_other_on_its_bar(monkeypatch):
    places = []
    bar = Progress(10, quiet=True)
    monkeypatch.setattr(bar, "within", places.append)
    first, second = bar.part(4), bar.part(6)
    for move in (first, second):
        move(0)
        move(3)
    assert places == [0, 3, 4, 7]


def test_what_several_runs_say_and_where_their_common_plot_lies(tmp_path, capsys):
    runs = [str(tmp_path / name) for name in ("a", "b")]
    for run in runs:
        assert train(Path(run), 1, "--goals", "2") == 0
    capsys.readouterr()
    args = ["evaluate", *runs, "--train-goals", "0", "--device", "cpu"]
    assert cli.run(args) == 0
    (picture,) = (tmp_path / "a" / "evaluations").glob("beside_*.png")
    said = capsys.readouterr().out
    for text in ("Evaluating a,", "Evaluating b,", f"all in one plot: {picture}"):
        assert text in said
    assert cli.run([*args, "--quiet"]) == 0
    assert not capsys.readouterr().out
