"""Run directories: what is whole, what is refused, and what a crash leaves behind."""

import json
import os
import pickle
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from builders.made_runs import EXPERIMENT
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

import metarl
from metarl.errors import UserError
from metarl.runs.checkpoints import copied
from metarl.runs.directory import Run
from metarl.runs.provenance import git_commit
from metarl.sharing.opening import open_run

STATE = {"policy": {"w": torch.arange(6.0).view(2, 3), "deep": {"b": torch.ones(1)}}, "count": 3, "name": "x"}


def _run(path: Path) -> Run:
    return Run.create(path / "run", EXPERIMENT)


def test_a_checkpoint_gives_back_what_was_saved(tmp_path):
    run = _run(tmp_path)
    run.save(100, 1, STATE, keep=3)
    checkpoint, problems = run.load()
    assert (checkpoint.step, checkpoint.iteration, problems) == (100, 1, [])
    assert torch.equal(checkpoint.state["policy"]["w"], STATE["policy"]["w"])
    assert torch.equal(checkpoint.state["policy"]["deep"]["b"], STATE["policy"]["deep"]["b"])
    assert (checkpoint.state["count"], checkpoint.state["name"]) == (3, "x")


def test_the_newest_are_kept_and_latest_points_to_the_last(tmp_path):
    run = _run(tmp_path)
    for i in range(5):
        run.save(100 * i, i, STATE, keep=2)
    assert [p.name for p in run.checkpoints()] == ["000000000300", "000000000400"]
    assert (run.path / "checkpoints" / "latest").resolve().name == "000000000400"
    assert not [p for p in (run.path / "checkpoints").iterdir() if p.name.startswith(".")]


@pytest.mark.parametrize(
    ("file", "damage", "word"),
    [
        ("agent.safetensors", lambda p: p.write_bytes(p.read_bytes()[:-10]), "does not match its checksum"),
        ("agent.safetensors", lambda p: p.write_bytes(p.read_bytes()[:-1] + b"\x07"), "does not match its checksum"),
        ("agent.safetensors", lambda p: p.unlink(), "agent.safetensors is missing"),
        ("checkpoint.json", lambda p: p.write_text(p.read_text()[:40]), "checkpoint.json"),
        ("checkpoint.json", lambda p: p.write_text("{}"), "checkpoint.json"),
    ],
)
def test_a_damaged_checkpoint_is_passed_over_for_the_one_before(tmp_path, file, damage, word):
    run = _run(tmp_path)
    run.save(100, 1, STATE, keep=3)
    damage(run.save(200, 2, STATE, keep=3) / file)
    checkpoint, problems = run.load()
    assert checkpoint.step == 100
    assert len(problems) == 1
    assert word in problems[0]
    with pytest.raises(UserError, match="damaged"):
        run.load(run.path / "checkpoints" / "000000000200")
    damage(run.path / "checkpoints" / "000000000100" / file)
    with pytest.raises(UserError, match="no intact one"):
        run.load()


def test_no_pickle_is_ever_executed(tmp_path):
    run, trap = _run(tmp_path), tmp_path / "executed"

    class Trap:
        def __reduce__(self):
            return os.system, (f"touch {trap}",)

    folder = run.save(100, 1, STATE, keep=3)
    for name in ("agent.safetensors", "checkpoint.json"):
        (folder / name).write_bytes(pickle.dumps(Trap()))
        with pytest.raises(UserError):
            run.load()
    assert not trap.exists()
    assert not [p for p in run.path.rglob("*") if p.suffix in (".pt", ".pth", ".pkl", ".pickle")]


def test_a_full_disk_leaves_the_last_checkpoint_whole(tmp_path, monkeypatch):
    run = _run(tmp_path)
    run.save(100, 1, STATE, keep=1)

    def full(path, content):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("metarl.runs.directory.write_atomically", full)
    with pytest.raises(UserError, match=r"No space left.*|.*last complete one is kept"):
        run.save(200, 2, STATE, keep=1)
    monkeypatch.undo()
    assert run.load()[0].step == 100
    assert [p.name for p in (run.path / "checkpoints").iterdir() if p.name.startswith(".")] == []


def test_a_really_full_disk(tmp_path):
    """/dev/full refuses every write."""
    run = _run(tmp_path)
    (run.path / "metrics.jsonl").symlink_to("/dev/full")
    with pytest.raises(UserError, match="No space left"):
        run.log({"step": 1, "iteration": 0})


def test_an_existing_directory_and_one_in_use_are_refused(tmp_path):
    run = _run(tmp_path)
    with pytest.raises(UserError, match=r"exists already.*--resume"):
        _run(tmp_path)
    code = (
        "import sys; from pathlib import Path\nfrom metarl.errors import UserError\n"
        "from metarl.sharing.opening import open_run\n"
        f"try: open_run(Path({str(run.path)!r}))[0].lock()\nexcept UserError as e: sys.exit(str(e))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert "another process is writing" in done.stderr


def test_an_unwritable_place_is_refused(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot make the run directory"):
        Run.create(tmp_path / "file" / "run", EXPERIMENT)


def test_what_is_not_a_run_is_named(tmp_path):
    with pytest.raises(UserError, match="there is no run"):
        open_run(tmp_path / "nothing")
    with pytest.raises(UserError, match="not a run"):
        open_run(tmp_path)
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(UserError, match="damaged"):
        open_run(tmp_path)
    with pytest.raises(UserError, match="no checkpoint"):
        open_run(_run(tmp_path).path)[0].load()


def test_a_run_of_another_version_is_refused(tmp_path):
    run = _run(tmp_path)
    config = json.loads((run.path / "config.json").read_text())
    assert config["metarl"] == metarl.__version__
    (run.path / "config.json").write_text(json.dumps({**config, "metarl": "9.9.0"}))
    with pytest.raises(UserError, match=r"9\.9\.0"):
        open_run(run.path)


def test_metrics_past_the_checkpoint_and_a_cut_line_are_dropped(tmp_path):
    run = _run(tmp_path)
    for i in range(4):
        run.log({"step": 10 * (i + 1), "iteration": i, "return": 0.5})
    with open(run.path / "metrics.jsonl", "a") as file:
        file.write('{"step": 50, "itera')
    run.drop_metrics_after(3)
    lines = [json.loads(line) for line in (run.path / "metrics.jsonl").read_text().splitlines()]
    assert [line["iteration"] for line in lines] == [0, 1, 2]


def test_a_copy_of_a_state_is_not_moved_by_training():
    weight = torch.zeros(2)
    copy = copied({"policy": {"w": weight}})
    weight.add_(1)
    assert copy["policy"]["w"].tolist() == [0, 0]


def test_the_commit_is_recorded():
    commit = git_commit()
    assert commit is None or len(commit.rstrip("+")) == 40


def test_tensorboard_has_groups_and_the_file_has_not(tmp_path):
    groups = {
        "rollout": ["return", "success", "last_step_success", "return_first_episode", "success_last_episode"],
        "train": ["loss", "kl", "return_scale", "successes", "entropy_loss", "mse"],
        "time": ["seconds", "cpu_seconds", "collect_seconds", "steps_per_second", "joules"],
        "eval": ["validation_success", "test_mse"],
    }
    names = {f"{group}/{key}": key for group, keys in groups.items() for key in keys}
    names |= {"task/reach-v3/success": "task/reach-v3/success"}
    line = {"iteration": 0, "step": 7, **{key: float(i) for i, key in enumerate(names.values())}}
    run = _run(tmp_path)
    run.log(line)
    run.close()
    assert json.loads((run.path / "metrics.jsonl").read_text()) == line
    events = EventAccumulator(str(run.path / "tensorboard")).Reload()
    logged = {name: [(event.step, event.value) for event in events.Scalars(name)] for name in events.Tags()["scalars"]}
    assert logged == {name: [(7, line[key])] for name, key in names.items()}
