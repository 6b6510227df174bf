"""`metarl bench`: contenders step the same tasks; arithmetic and options. No test depends on times."""

import json
import os
import re
import signal
import statistics
import subprocess
import sys
import types

import numpy as np
import pytest
from builders.tiny import refused

from metarl import cli
from metarl.benchmark import measure as bench
from metarl.benchmark.contenders import CONTENDERS, HORIZON, MAX_UPSTREAM_ENVS, Contender, envpool_name
from metarl.benchmark.measure import Comparison, Growth, combine, draw, numbers, random_actions, times_as_fast
from metarl.envs import TASKS, Task, TaskDistribution, make_vec, suite
from metarl.envs.rendering.scene import get_state
from metarl.envs.tasks import NATIVE
from metarl.errors import UserError

REACH = "ml1:reach-v3"
QUICK = ["--seconds", "0.01", "--num-envs", "2"]


def mixed_tasks(num_envs: int) -> list[Task]:
    """Native tasks of three classes, one per environment."""
    names = list(NATIVE)[:3]
    return draw(TaskDistribution(tuple(task for name in names for task in suite(f"ml1:{name}").train.tasks[:4])), num_envs)


def final_observations(contender: Contender, steps: int, chunk: int | None = None) -> np.ndarray:
    """The contender's last observations after random steps in slices of `chunk`."""
    actions = random_actions(0, steps, contender.num_envs)
    try:
        for first in range(0, steps, chunk or steps):
            obs = contender.run(contender.prepare(actions[first : first + (chunk or steps)]))
    finally:
        contender.close()
    return obs


def test_engines_and_processes_step_the_same_tasks():
    tasks = mixed_tasks(3)
    native, python, processes = (final_observations(CONTENDERS[name](tasks, 2), 6) for name in ("native", "python", "async"))
    np.testing.assert_array_equal(native, python)
    np.testing.assert_array_equal(native, processes)
    assert len({obs.tobytes() for obs in native}) == 3


@pytest.mark.parametrize(("threads", "steps", "chunk"), [(1, 40, None), (3, 40, 7), (2, HORIZON + 3, 90)])
def test_mujoco_alone_does_the_same_work_as_the_engines(threads, steps, chunk):
    tasks = mixed_tasks(5)
    engine = make_vec(TaskDistribution(tuple(dict.fromkeys(tasks))), 5, engine="native")
    engine.set_tasks(tasks)
    engine.reset()
    initial_states = [engine.engine.scene(env_id).state for env_id in range(5)]
    for actions in random_actions(0, steps, 5):
        engine.step(actions)
    bare = CONTENDERS["bare"](tasks, threads)
    env_states = bare.env_states
    final_observations(bare, steps, chunk)
    for env_id, (model, data, start) in enumerate(env_states):
        np.testing.assert_array_equal(start, initial_states[env_id])
        np.testing.assert_array_equal(get_state(model, data), engine.engine.scene(env_id).state)
        assert not np.array_equal(get_state(model, data), start)
    engine.close()


def test_tasks_and_actions_are_deterministic_and_balanced():
    tasks = mixed_tasks(6)
    assert tasks == mixed_tasks(6)
    assert sorted(statistics.multimode(task.name for task in tasks)) == sorted(list(NATIVE)[:3])
    actions = random_actions(3, 4, 6)
    assert actions.dtype == np.float32
    assert actions.shape == (4, 6, 4)
    np.testing.assert_array_equal(actions, random_actions(3, 4, 6))
    assert not np.array_equal(actions, random_actions(4, 4, 6))


def test_ratios_are_taken_within_a_round():
    rounds = [[10.0, 2.0], [30.0, 10.0], [40.0, 5.0]]
    assert times_as_fast(rounds, 0, 1) == {"median": 5.0, "low": 3.0, "high": 8.0}
    native, python = (Contender(name, 2, 1) for name in ("native", "python"))
    first, second = Comparison([native, python], rounds).figures()
    assert (first["steps_per_second"], second["steps_per_second"]) == (30.0, 5.0)
    assert second["native_is_times_as_fast"] == {"median": 5.0, "low": 3.0, "high": 8.0}
    assert second["rounds"] == [2.0, 10.0, 5.0]
    assert Comparison([python], [[2.0]]).figures()[0]["native_is_times_as_fast"] is None
    assert Comparison([python]).figures() == []
    row = Growth(10, 1, [[100.0, 400.0], [100.0, 500.0], [200.0, 500.0]], 3_000_000).figures()
    assert (row["steps_per_second"], row["microseconds_per_step"], row["memory_mb"]) == (500.0, 2000.0, 3.0)
    assert row["times_as_fast_as_first"] == {"median": 4.0, "low": 2.5, "high": 5.0}


def test_contenders_of_a_round_take_the_same_steps_in_rotating_order():
    class Counting(Contender):
        def run(self, prepared):
            slices.append((self.name, len(prepared), prepared[0].tobytes()))

    slices: list[tuple[str, int, bytes]] = []
    rounds: list[list[float]] = []
    bench.measure([Counting(name, 3, 1) for name in "abc"], rounds, 0.001, same_steps=True)
    assert len(rounds) >= bench.MIN_ROUNDS
    assert all(len(rates) == 3 for rates in rounds)
    assert "".join(name for name, *_ in slices[:15]) == "abcabc" + "abcbcacab"
    for i in range(0, len(slices), 3):
        assert len({(steps, actions) for _, steps, actions in slices[i : i + 3]}) == 1


def test_the_command_and_its_json(tmp_path, capsys):
    path = tmp_path / "figures" / "bench.json"
    args = ["bench", REACH, *QUICK, "--threads", "2", "--contenders", "native,python,bare,envpool", "--json", str(path)]
    assert cli.run(args) == 0
    printed = capsys.readouterr().out
    report = json.loads(path.read_text())
    assert {"cpu", "usable_cores", "load", "versions"} <= report["machine"].keys()
    assert report["machine"]["versions"]["mujoco"] in printed
    assert report["machine"]["cpu"] in printed
    assert (report["suite"], report["interrupted"]) == (REACH, False)
    rows = {row["contender"]: row for row in report["contenders"]}
    assert {*rows, *report["skipped"]} == {"native", "python", "bare", "envpool"}
    assert (rows["native"]["threads"], rows["python"]["threads"], rows["bare"]["num_envs"]) == (2, 1, 2)
    for row in rows.values():
        assert row["steps_per_second"] == statistics.median(row["rounds"]) > 0
        assert row["native_is_times_as_fast"]["low"] <= row["native_is_times_as_fast"]["high"]
        assert f"{row['steps_per_second']:,.0f}" in printed
    assert os.listdir(path.parent) == ["bench.json"]


def test_several_sizes_show_how_the_cost_grows(tmp_path, capsys):
    path = tmp_path / "bench.json"
    args = ["bench", REACH, "--seconds", "0.01", "--num-envs", "1,3", "--threads", "1,2", "--json", str(path)]
    assert cli.run(args) == 0
    rows = json.loads(path.read_text())["growth"]
    assert [(row["num_envs"], row["threads"]) for row in rows] == [(1, 1), (3, 1), (3, 2)]
    assert rows[0]["times_as_fast_as_first"] == {"median": 1.0, "low": 1.0, "high": 1.0}
    printed = capsys.readouterr().out
    assert "threads are capped at 1 for 1 environment" in printed
    assert "µs a step" in printed


def test_contenders_that_cannot_be_measured_are_reported_and_skipped(monkeypatch, capsys):
    monkeypatch.setattr("metarl.benchmark.contenders.find_spec", lambda name: None)

    def refuse(tasks, threads):
        raise UserError("it has no such task")

    monkeypatch.setitem(CONTENDERS, "native", refuse)
    assert cli.run(["bench", REACH, *QUICK, "--contenders", "native,bare,envpool"]) == 0
    printed = capsys.readouterr().out
    assert "native is left out: it has no such task" in printed
    assert "envpool is left out: it is not installed" in printed
    assert re.search(r"bare +│ +2 │", printed)
    tasks = [Task("reach-v3", ())] * (MAX_UPSTREAM_ENVS + 1)
    for name in ("python", "async"):
        with pytest.raises(UserError, match=f"more than {MAX_UPSTREAM_ENVS} environments"):
            CONTENDERS[name](tasks, 1)


def test_envpool_gets_its_own_task_name(monkeypatch):
    arguments = {}

    class Pool:
        def reset(self):
            arguments["reset"] = True

    def make(name, **options):
        arguments.update(options, name=name)
        return Pool()

    env_names = ["MetaWorld/PickPlaceWall-v3"]
    module = types.SimpleNamespace(__version__="1", list_all_envs=lambda: env_names, make_gymnasium=make)
    monkeypatch.setitem(sys.modules, "envpool", module)
    monkeypatch.setattr("metarl.benchmark.contenders.find_spec", lambda name: object())
    contender = CONTENDERS["envpool"]([Task("pick-place-wall-v3", ())] * 4, 2)
    assert (arguments["name"], arguments["num_envs"], arguments["num_threads"]) == (env_names[0], 4, 2)
    assert arguments["reset"]
    assert (contender.num_envs, contender.threads) == (4, 2)
    with pytest.raises(UserError, match="one task at a time"):
        CONTENDERS["envpool"]([Task("reach-v3", ()), Task("push-v3", ())], 1)
    with pytest.raises(UserError, match="has no MetaWorld/Reach-v3"):
        CONTENDERS["envpool"]([Task("reach-v3", ())], 1)
    assert len({envpool_name(name) for name in TASKS}) == len(TASKS)


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["ml11"], "Did you mean ml1"),
        (["ml1:reach"], "Did you mean reach-v3"),
        ([REACH, "--contenders", "native,asink"], "unknown contender 'asink'. Did you mean async"),
        ([REACH, "--contenders", ""], "unknown contender ''"),
        ([REACH, "--num-envs", "0"], "num_envs must be at least 1, not 0"),
        ([REACH, "--num-envs", "10,-2"], "num_envs must be at least 1, not -2"),
        ([REACH, "--num-envs", "10,many"], "num_envs must be whole numbers, such as 1,10,100: 'many' is not a number"),
        ([REACH, "--threads", "1.5"], "threads must be whole numbers"),
        ([REACH, "--threads", "0"], "threads must be at least 1, not 0"),
        ([REACH, "--seconds", "0"], "seconds must be positive"),
        ([REACH, "--seconds", "nan"], "seconds must be positive"),
        ([REACH, "--seconds", "long"], "long"),
        ([REACH, "--num-envs", "1,2", "--contenders", "bare"], "--contenders must name native"),
        ([REACH, "--json", "."], "--json needs a file"),
    ],
)
def test_wrong_input_is_answered_with_status_2(args, message, tmp_path, monkeypatch, capsys):
    refused(["bench", *args], message, tmp_path, monkeypatch, capsys)


def test_help(capsys):
    with pytest.raises(SystemExit) as ended:
        cli.run(["bench", "--help"])
    assert ended.value.code == 0
    assert "--contenders" in capsys.readouterr().out


def test_numbers_and_combinations():
    assert numbers("num_envs", "1, 10,1e3,10") == [1, 10, 1000]
    assert combine([1, 4], [1, 2, 8]) == [(1, 1), (4, 1), (4, 2), (4, 4)]


def test_an_interrupt_shows_the_completed_rounds(tmp_path, monkeypatch, capsys):
    def interrupted(contenders, rounds, seconds, *, same_steps):
        rounds += [[6.0, 2.0], [8.0, 2.0], [9.0, 2.0]]
        raise KeyboardInterrupt

    monkeypatch.setattr(bench, "measure", interrupted)
    path = tmp_path / "bench.json"
    assert cli.run(["bench", REACH, *QUICK, "--contenders", "native,bare", "--json", str(path)]) == 130
    assert "4.00 [3.00 to 4.50]" in capsys.readouterr().out
    report = json.loads(path.read_text())
    assert report["interrupted"] is True
    assert [row["steps_per_second"] for row in report["contenders"]] == [8.0, 2.0]


def test_ctrl_c_ends_every_process_without_a_traceback():
    options = ["--num-envs", "2", "--seconds", "600", "--contenders", "async,bare"]
    args = [sys.executable, "-m", "metarl.cli", "bench", REACH, *options]
    # A shell makes background processes ignore SIGINT, and children inherit that.
    handler = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        process = subprocess.Popen(args, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True)
    finally:
        signal.signal(signal.SIGINT, handler)
    assert process.stderr is not None
    lines = [process.stderr.readline() for _ in range(2)]  # both contenders are ready, and the warm-up or a round is running
    os.killpg(process.pid, signal.SIGINT)
    _, error_output = process.communicate(timeout=60)  # waits for every process that holds the pipes
    assert process.returncode == 130, lines
    assert "Traceback" not in error_output
