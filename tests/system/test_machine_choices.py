"""What a machine decides of numbers: how many threads compute, and what `auto` stands for; recorded, and put back."""

import json
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
import torch
from builders.fewshot_runs import SMALL, evaluate
from builders.tiny import COUNTDOWNS, equal_runs, toy
from builders.user_files import POINT, forget_user_files, train_small  # noqa: F401

import metarl
from metarl import cli
from metarl.agents.fewshot.base import EncoderSettings
from metarl.agents.maml.agent import MAML, MAMLSettings
from metarl.agents.rl2 import RL2Settings
from metarl.sharing.onnx_export import Adaptation, _adapted
from metarl.sharing.opening import open_run
from metarl.system import machine
from metarl.system.devices import Workers, one_thread
from metarl.training.setup import trained_few_shot

THREADS = 3
BOX = gymnasium.spaces.Box(-1, 1, (2,), np.float32)


@pytest.fixture
def threads() -> Iterator[None]:
    """A process whose user has chosen a number of threads."""
    before = torch.get_num_threads()
    torch.set_num_threads(THREADS)
    yield
    torch.set_num_threads(before)


def in_a_new_thread() -> int:
    """With how many threads torch computes in a thread that begins now."""
    found: list[int] = []
    thread = threading.Thread(target=lambda: found.append(torch.get_num_threads()))
    thread.start()
    thread.join()
    return found[0]


def test_the_number_of_threads_is_put_back_whatever_happens(threads):
    with one_thread():
        assert torch.get_num_threads() == in_a_new_thread() == 1
        with one_thread():
            pass
        assert torch.get_num_threads() == 1
    with pytest.raises(KeyError), one_thread():
        raise KeyError
    assert torch.get_num_threads() == in_a_new_thread() == THREADS


def test_workers_compute_with_one_thread_each_and_in_order(threads):
    workers = Workers(2, "some")
    found = workers.map(lambda a, b: (a - b, torch.get_num_threads()), [5, 6, 7], [1, 1, 1])
    assert found == [(4, 1), (5, 1), (6, 1)]
    assert torch.get_num_threads() == in_a_new_thread() == THREADS


def unchanged(status: int = 0) -> bool:
    """Whether a command succeeded and left the user's number."""
    return status == 0 and torch.get_num_threads() == in_a_new_thread() == THREADS


def test_commands_leave_the_users_number_of_threads(threads, tmp_path):
    """Each of them in one process with the user's own code."""
    maml, sine, point = str(tmp_path / "maml"), tmp_path / "sine", ["--suite", POINT, "--quiet", "--device", "cpu"]
    assert unchanged(train_small(Path(maml), "maml-trpo", POINT, 1))
    assert unchanged(cli.run(["evaluate", maml, "--train-goals", "1", *point]))
    assert unchanged(cli.run(["render", maml, "--goals", "1", *point]))
    run, _ = open_run(Path(maml))
    _adapted(run, run.load()[0], Adaptation(episodes=1))
    assert unchanged()
    assert unchanged(cli.run(["train", "maml", "sinusoid", *SMALL, "--shots", "2", "--run-dir", str(sine)]))
    assert unchanged(evaluate(sine))


@pytest.mark.parametrize("settings", [RL2Settings(layers=(4,), hidden=4, chunk=5), MAMLSettings(layers=(4,))])
def test_agents_that_are_trained_by_hand_leave_it_too(threads, settings):
    episodes = 1 if isinstance(settings, MAMLSettings) else 2
    agent, source = toy(COUNTDOWNS, 2, 6, episodes, settings)
    agent.iterate(source, 0)
    assert unchanged()


def test_threads_and_cores_are_decided_in_one_place_each():
    places = {"set_num_threads": {"devices.py"}, "sched_getaffinity": {"machine.py"}, "cpu_count": {"doctor.py", "machine.py"}}
    root = Path(metarl.__file__).parent
    files = [file for folder in (root, root / "agents", root / "envs") for file in folder.rglob("*.py")]
    for what, allowed in places.items():
        assert {file.name for file in files if what in file.read_text()} == allowed


def test_mamls_tasks_are_computed_by_as_many_threads_as_the_container_allows(monkeypatch):
    monkeypatch.setattr(machine, "usable_cores", lambda: 1.0)
    agent = MAML(
        MAMLSettings(layers=(4,)),
        BOX,
        BOX,
        None,
        seed=0,
        device=torch.device("cpu"),
        total_iterations=1,
    )

    def who(_: int) -> int:
        time.sleep(0.01)
        return threading.get_ident()

    assert len(set(agent.each(who, range(4)))) == 1


def config(path: Path) -> dict[str, Any]:
    return json.loads((path / "config.json").read_text())


@pytest.mark.parametrize("amx", [True, False])
def test_auto_is_recorded_as_what_it_stood_for_and_kept(amx, tmp_path, monkeypatch, few_shot_data, capsys):
    """A run that goes on where a processor would choose otherwise is the run that never moved."""

    def on_a_processor_with(units: bool) -> None:
        monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"amx_bf16": units}, raising=False)

    start = ["train", "proto", few_shot_data["image"], *SMALL, "--image-size", "16", "--ways", "3", "--no-anneal"]
    start[start.index("--device") + 1] = "auto"
    start.remove("--quiet")
    on_a_processor_with(amx)
    for name, steps in (("whole", "4"), ("moved", "2")):
        assert cli.run([*start, "--steps", steps, "--run-dir", str(tmp_path / name)]) == 0
    out = capsys.readouterr().out
    expected = "bfloat16" if amx else "float32"
    assert ("convolutions in bfloat16" in out) == amx
    for name in ("whole", "moved"):
        assert config(tmp_path / name)["settings"]["precision"] == expected
        assert config(tmp_path / name)["options"]["device"] == ("cuda" if torch.cuda.is_available() else "cpu")
    on_a_processor_with(not amx)
    resume = ["train", "--resume", str(tmp_path / "moved"), "--steps", "4"]
    other = "float32" if amx else "bfloat16"
    assert cli.run([*resume, "--precision", other]) == 2
    assert f"precision was {expected}, not {other}" in capsys.readouterr().err
    assert cli.run([*resume, "--precision", "auto", "--device", "auto"]) == 0
    assert config(tmp_path / "moved")["settings"]["precision"] == expected
    assert equal_runs(tmp_path / "whole", tmp_path / "moved")
    run, _ = open_run(tmp_path / "moved")
    narrow = trained_few_shot(run, run.load()[0]).agent.net.bfloat16_devices
    assert ("cpu" in narrow) == amx


def test_runs_that_say_auto_go_on_as_before(tmp_path, monkeypatch, few_shot_data):
    """As earlier versions wrote them."""
    monkeypatch.setattr("metarl.runs.experiment.Experiment.resolved", lambda experiment: experiment)
    start = [
        "train",
        "proto",
        few_shot_data["image"],
        *SMALL,
        "--image-size",
        "16",
        "--ways",
        "3",
        "--run-dir",
        str(tmp_path / "a"),
    ]
    assert cli.run(start) == 0
    assert config(tmp_path / "a")["settings"]["precision"] == "auto"
    monkeypatch.undo()
    assert cli.run(["train", "--resume", str(tmp_path / "a"), "--steps", "6", "--quiet"]) == 0
    assert config(tmp_path / "a")["settings"]["precision"] == "auto"


def test_auto_is_the_devices_own(monkeypatch):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"amx_bf16": True}, raising=False)
    found = {device: EncoderSettings().resolved(device).precision for device in ("cpu", "cuda")}
    assert found == {"cpu": "bfloat16", "cuda": "float32"}
    assert EncoderSettings(precision="float32").resolved("cpu").precision == "float32"
    monkeypatch.delattr(torch.cpu, "get_capabilities")  # an older torch
    assert EncoderSettings().resolved("cpu").precision == "float32"
