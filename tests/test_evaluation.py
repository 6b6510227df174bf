"""What an evaluation may be asked for, and how far it says it is."""

import pytest
from tiny import train

from metarl import cli
from metarl.errors import UserError
from metarl.evaluation import Evaluate, Plan


@pytest.mark.parametrize("name", ["trials", "episodes", "train_goals", "validation_goals", "seed"])
def test_the_smallest_number_of_each_kind_is_a_plan_and_one_less_is_none(name):
    least = 1 if name in ("trials", "episodes") else 0
    assert getattr(Plan(**{name: least}), name) == least
    with pytest.raises(UserError, match=f"{name}.* at least {least}"):
        Plan(**{name: least - 1})


@pytest.mark.parametrize("options", [{}, {"plan": Plan(trials=2)}, {"plan": Plan(train_goals=9)}, {"seeds": 0}])
def test_options_of_one_protocol_are_refused_with_the_other(options, tmp_path):
    Evaluate((tmp_path,), protocol="metaworld", seeds=2)
    with pytest.raises(UserError, match="protocol"):
        Evaluate((tmp_path,), protocol="metaworld" if options.get("plan") else "all-goals", **{"seeds": 2, **options})


def test_progress_ends_at_the_number_of_steps_that_it_was_to_count(tmp_path, monkeypatch):
    """Sampled and mean actions, two sides, several trials, batches that are not full."""
    from metarl import evaluation

    bars = []

    class Noted(evaluation.Progress):
        def __init__(self, total, **more):
            super().__init__(total, **more)
            self.at = []
            bars.append(self)

        def within(self, done):
            self.at.append(done)

    monkeypatch.setattr(evaluation, "Progress", Noted)
    assert train(tmp_path / "run", 1) == 0
    assert (
        cli.run(["evaluate", str(tmp_path / "run"), "--train-goals", "3", "--trials", "2", "--device", "cpu", "--quiet"]) == 0
    )
    (bar,) = bars
    assert bar.total == (3 + 50) * 2 * 2 * 20 * 2  # goals, trials, episodes, steps, modes
    assert bar.at[-1] == bar.total
    assert bar.at == sorted(bar.at)
