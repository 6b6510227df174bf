"""Evaluations of version 0.2 get the current names, and nothing else is touched."""

import copy
import json

import pytest
from builders.made_runs import evaluation

from metarl.envs import suite
from metarl.evaluation.schema import FAULTS, read
from metarl.evaluation.vocabulary import DETERMINISTIC


def _as_in_version_0_2(value):
    """The same JSON under the names of version 0.2."""
    if isinstance(value, dict):
        old = {DETERMINISTIC: "mean", "max_episode_steps": "horizon"}
        return {old.get(key, key): _as_in_version_0_2(inner) for key, inner in value.items()}
    return value


def test_kinds_of_actions_and_the_length_of_an_episode_are_renamed(tmp_path):
    tasks = suite("ml10").test.tasks[40:60]
    content = evaluation({"train": tasks, "test": tasks})
    content["sides"]["test"]["goal_blind"] = copy.deepcopy(content["sides"]["train"])
    by_task = content["sides"]["test"]["by_task"]
    by_task["mean"] = copy.deepcopy(by_task[tasks[0].name])
    content = json.loads(json.dumps(content))
    old = _as_in_version_0_2(content)
    assert old["sides"]["test"]["by_task"]["mean"]["gain"].keys() == {"sampled", "mean"}
    assert "horizon" in old
    for written in (old, content):
        (tmp_path / "evaluation.json").write_text(json.dumps(written))
        assert read(tmp_path / "evaluation.json") == content  # with the task that is called mean


def test_evaluations_by_other_protocols_stay_as_they_are(tmp_path):
    few_shot = {"protocol": "episodes", "measure": "accuracy", "sides": {"test": {"answers": {"gain": {"mean": 1}}}}}
    metaworld = {"protocol": "metaworld", "sides": {"test": {"success": 1.0, "by_task": {"mean": 1.0}}}}
    for content in (few_shot, metaworld):
        (tmp_path / "evaluation.json").write_text(json.dumps(content))
        assert read(tmp_path / "evaluation.json") == content


@pytest.mark.parametrize("content", [[], {"trials": 1}, {"trials": 1, "sides": {"test": {"gain": 7}}}])
def test_damaged_files_raise_the_faults_that_readers_expect(content, tmp_path):
    (tmp_path / "evaluation.json").write_text(json.dumps(content))
    with pytest.raises(FAULTS):
        read(tmp_path / "evaluation.json")
