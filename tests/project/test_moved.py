"""Names that the docs of version 0.2 taught can still be imported, with a warning that names the new place."""

import importlib
import subprocess
import sys
from pathlib import Path

import pytest

from metarl.agents.user_defined import user_agent
from metarl.envs import make_vec, suite
from metarl.moved import MOVED
from metarl.system.user_code import run_file

TAUGHT = {
    "metarl.adapt": "adapt",
    "metarl.advantages": "discounted_returns gae fit_linear standardise",
    "metarl.fewshot.episodes": "Examples",
    "metarl.fewshot.own": "predict",
    "metarl.graphs": "Graph",
    "metarl.networks": "RecurrentPolicy FeedForwardPolicy Gaussian Categorical InputScaler",
    "metarl.rollout": "Rollout Trials generator play_trial",
    "metarl.trpo": "conjugate_gradient line_search",
}


@pytest.mark.parametrize("module", TAUGHT)
def test_a_name_of_before_is_the_one_of_today(module):
    sys.modules.pop(module, None)
    with pytest.warns(FutureWarning, match=rf"{module} is now metarl\.\w+.*: import from there"):
        old = importlib.import_module(module)
    for name in TAUGHT[module].split():
        value = getattr(old, name)
        assert value is getattr(importlib.import_module(value.__module__), name)


def test_it_works_first_thing_in_a_process():
    code = (
        "from metarl.networks import RecurrentPolicy\nfrom metarl.fewshot.own import predict\nprint(RecurrentPolicy.__module__)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "metarl.nn.policies\n"
    assert "<string>:1: FutureWarning: metarl.networks is now" in done.stderr


def test_what_never_was_is_not_found():
    with pytest.raises(ModuleNotFoundError):
        importlib.import_module("metarl.nothing")
    with pytest.raises(ImportError):
        exec("from metarl.networks import nothing")


def test_every_new_place_exists():
    for places in MOVED.values():
        for place in places:
            importlib.import_module(f"metarl.{place}")


def test_the_changelog_names_old_places_and_new():
    text = (Path(__file__).parents[2] / "CHANGELOG.md").read_text()
    for old, places in MOVED.items():
        row = next(line for line in text.splitlines() if line.startswith(f"| `metarl.{old}` |"))
        assert all(f"`metarl.{place}`" in row for place in places)


def test_what_an_agent_is_asked_has_another_name():
    with pytest.warns(FutureWarning, match=r"metarl\.learner\.Step is now metarl\.learner\.PolicyInput"):
        from metarl.learner import Step
    from metarl.learner import PolicyInput

    assert Step is PolicyInput


def test_an_argument_of_before_is_accepted_with_a_warning():
    env = make_vec(suite("ml1:reach-v3").train, 2)
    with pytest.warns(FutureWarning, match="set_tasks: the argument slots is now env_ids"):
        env.set_tasks([suite("ml1:reach-v3").train.tasks[7]], slots=[1])  # type: ignore[call-arg]
    env.reset()
    assert env.tasks[1] == suite("ml1:reach-v3").train.tasks[7]
    env.close()


def test_a_users_agent_of_before_defines_begin(tmp_path, caplog):
    text = (Path(__file__).parents[2] / "examples/my_agent.py").read_text()
    (tmp_path / "old.py").write_text(text.replace("def initial_state(", "def begin("))
    with caplog.at_level("INFO", "metarl"):
        agent_class, _ = user_agent(run_file(f"{tmp_path}/old.py:MyAgent"))
    assert "begin is now called initial_state" in caplog.text
    assert agent_class.initial_state is agent_class.begin
