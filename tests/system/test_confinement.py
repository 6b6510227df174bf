"""A run directory or a packed model of someone else: no path in it leads out of it, for reading and for writing."""

import base64
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from builders.made_runs import make_run
from builders.pages import report
from builders.tiny import train

from metarl import cli
from metarl.errors import UserError
from metarl.reports.reading import read
from metarl.sharing.opening import open_run
from metarl.sharing.packed import open_packed
from metarl.system.journal import Journal

PRIVATE = b"a private file"


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with a run of RL², and the same packed as `model`."""
    folder = tmp_path_factory.mktemp("trained")
    assert train(folder / "run", 1, "--goals", "2") == 0
    assert cli.run(["pack", str(folder / "run"), "--out", str(folder / "model"), "--quiet"]) == 0
    return folder


@pytest.fixture
def foreign(trained: Path, tmp_path: Path) -> Path:
    """A copy of the run, in a folder of its own."""
    return Path(shutil.copytree(trained / "run", tmp_path / "theirs" / "run", symlinks=True))


@pytest.fixture
def mine(tmp_path: Path) -> Path:
    """A folder of one's own."""
    folder = tmp_path / "mine"
    (folder / "2019").mkdir(parents=True)
    (folder / "file").write_bytes(PRIVATE)
    (folder / "2019" / "picture").write_bytes(PRIVATE)
    return folder


def content(folder: Path) -> dict[str, bytes | None]:
    return {str(path.relative_to(folder)): path.read_bytes() if path.is_file() else None for path in folder.rglob("*")}


@pytest.mark.parametrize("key", ["x/../../../escaped", "other"])
def test_no_key_of_an_evaluation_becomes_a_file(key: str, tmp_path: Path) -> None:
    run = make_run(tmp_path / "theirs" / "run", "ml10", goals=20)
    shutil.rmtree(run / "evaluations")
    evaluation = json.loads((run / "evaluation.json").read_text())
    evaluation["sides"][key] = evaluation["sides"].pop("test")
    (run / "evaluation.json").write_text(json.dumps(evaluation))
    assert report(run) == 0
    assert sorted(path.name for path in tmp_path.rglob("*") if "escaped" in path.name or "other" in path.name) == []
    assert {path.parent.name for path in run.rglob("*.svg")} == {"report"}
    assert "evaluation.json is damaged and left out." in read(run).problems


@pytest.mark.parametrize("name", ["videos/x.mp4", "metrics.jsonl", "config.json", "evaluation.json", "evaluations"])
def test_a_report_follows_no_link_out_of_the_run(name: str, tmp_path: Path, mine: Path) -> None:
    run, other = make_run(tmp_path / "theirs" / "run"), make_run(tmp_path / "other", agent="another-agent")
    (other / "videos").mkdir()
    (other / "videos" / "x.mp4").write_bytes(PRIVATE)
    if (run / name).is_dir():
        shutil.rmtree(run / name)
    (run / name).unlink(missing_ok=True)
    (run / name).parent.mkdir(exist_ok=True)
    (run / name).symlink_to(other / name)
    assert report(run) == 0
    page = (run / "report.html").read_text()
    assert f"{name} is a link out of the run" in page
    assert "another-agent" not in page
    assert base64.b64encode(PRIVATE).decode() not in page
    assert read(run).videos == []


def test_a_link_within_the_run_is_followed(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run")
    (run / "evaluation.json").unlink()
    (run / "evaluation.json").symlink_to("evaluations/all-goals_000000003000.json")
    assert read(run).evaluation is not None
    assert read(run).problems == []


def test_a_report_writes_nothing_through_a_link(tmp_path: Path, mine: Path, capsys: Any) -> None:
    run, before = make_run(tmp_path / "theirs" / "run"), content(mine)
    (run / "report.html").symlink_to(mine / "file")
    (run / "report").symlink_to(mine)
    assert report(run) == 2
    assert "leads out of" in capsys.readouterr().err
    (run / "report").unlink()
    (run / "report").mkdir()
    (run / "report" / "summary.csv").symlink_to(mine / "file")
    assert report(run) == 2
    assert content(mine) == before


LINKS = {
    ".lock": "file",
    "metrics.jsonl": "file",
    "videos/x.mp4": "file",
    "checkpoints/000000000040": "2019",
    "evaluations": "",
    "evaluations/.all-goals_000000000080.partial": "file",
    "tensorboard": "2019",
}


@pytest.mark.parametrize("name", LINKS)
def test_no_command_follows_a_link_out_of_a_run(
    name: str, trained: Path, foreign: Path, mine: Path, tmp_path: Path, capsys: Any
) -> None:
    before, link = content(mine), foreign / name
    shutil.rmtree(link, ignore_errors=True)
    link.unlink(missing_ok=True)
    link.parent.mkdir(exist_ok=True)
    link.symlink_to(mine / LINKS[name])
    run, out = str(foreign), str(tmp_path / "out")
    for command in (
        ["evaluate", run],
        ["pack", run, "--out", out],
        ["train", "--resume", run, "--steps", "160"],
        ["export", run],
        ["render", run],
        ["compare", run, str(trained / "run")],
    ):
        status, said = cli.run(command), capsys.readouterr().err
        assert (status, name in said, said.count("\n")) == (2, True, 1)
    assert content(mine) == before
    assert not (tmp_path / "out").exists()


def test_the_newest_checkpoint_is_one_of_the_run(trained: Path, foreign: Path, capsys: Any) -> None:
    latest = foreign / "checkpoints" / "latest"
    assert open_run(latest)[1] == foreign / "checkpoints" / "000000000080"
    latest.unlink()
    latest.symlink_to(trained / "run" / "checkpoints" / "000000000080")
    for command in ("evaluate", "report"):
        assert cli.run([command, str(latest)]) == 2
        assert "leads out of" in capsys.readouterr().err


def test_a_packed_model_is_its_own_files(trained: Path, tmp_path: Path, mine: Path) -> None:
    model = Path(shutil.copytree(trained / "model", tmp_path / "model"))
    (model / "x.mp4").symlink_to(mine / "file")
    with pytest.raises(UserError, match=r"x\.mp4 is a link out of"):
        open_packed(model)
    assert report(model) == 2


def test_a_model_in_the_hubs_cache_is_links(trained: Path, tmp_path: Path, mine: Path) -> None:
    """models--NAME/blobs/DIGEST, and models--NAME/snapshots/COMMIT/FILE -> ../../blobs/DIGEST."""
    home = tmp_path / "models--me--tiny"
    shutil.copytree(trained / "model", home / "blobs")
    model = home / "snapshots" / "c0ffee"
    model.mkdir(parents=True)
    for file in (home / "blobs").iterdir():
        (model / file.name).symlink_to(f"../../blobs/{file.name}")
    assert open_packed(model).config["agent"] == "rl2"
    (model / "x.mp4").symlink_to(mine / "file")
    with pytest.raises(UserError, match=r"x\.mp4 is a link out of"):
        open_packed(model)


@pytest.mark.parametrize(
    "line", ["{}", "[]", "7", '["a", 5]', '["b", {"figures": 5}, "0"]', "[" * 5000, "\udcff", '[[], 1, "x"]']
)
def test_a_damaged_line_of_a_journal_is_done_again(line: str, tmp_path: Path, capsys: Any) -> None:
    path, work = tmp_path / "journal", {"of": "this", "x": [0.1, 1e300]}
    kept = Journal(path, work)
    kept.put("a", {"figures": [0.1, 2]})
    kept.put("b", None)
    lines = path.read_text().splitlines()
    again = Journal(path, work)
    assert (again.parts, capsys.readouterr().out) == ({"a": {"figures": [0.1, 2]}, "b": None}, "")
    text = "\n".join([lines[0], line, *lines[1:], lines[2][:9]])  # and one that was cut while it was written
    path.write_bytes(text.encode(errors="surrogateescape"))
    again = Journal(path, work)
    assert again.parts == kept.parts
    assert "1 of 3 parts are damaged" in capsys.readouterr().out
    path.write_text("\n".join([lines[0], lines[1].replace("0.1", "0.2"), ""]))
    assert Journal(path, work).parts == {}
    assert Journal(path, {"of": "another"}).parts == {}


def test_an_evaluation_goes_on_beside_a_damaged_line(foreign: Path, monkeypatch: Any, capsys: Any) -> None:
    """The work's name in a journal and, in the place of its first part, a whole line of other JSON."""
    finish = Journal.finish
    monkeypatch.setattr(Journal, "finish", lambda self: None)
    assert cli.run(["evaluate", str(foreign), "--quiet"]) == 0
    (journal,) = (foreign / "evaluations").glob(".*.partial")
    head, _, *rest = journal.read_text().splitlines()
    journal.write_text("\n".join([head, json.dumps(["train/0", {"figures": 7}]), *rest, ""]))
    measured = (foreign / "evaluation.json").read_bytes()
    monkeypatch.setattr(Journal, "finish", finish)
    assert cli.run(["evaluate", str(foreign), "--quiet"]) == 0
    assert f"1 of {1 + len(rest)} parts are damaged and are done again" in capsys.readouterr().out.replace("\n", " ")
    assert (foreign / "evaluation.json").read_bytes() == measured
    assert not journal.exists()
