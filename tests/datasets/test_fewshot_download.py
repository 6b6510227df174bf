"""Files of data sets are fetched, checked, and set aside if wrong; the source is a local server in another thread."""

import hashlib
import io
import threading
from collections.abc import Iterator
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from metarl.datasets import omniglot, text
from metarl.datasets.catalog import data_set
from metarl.datasets.download import File, checked, folder, obtain
from metarl.errors import UserError

CONTENT = bytes(range(256)) * 1000
RIGHT = hashlib.sha256(CONTENT).hexdigest()


class Source(BaseHTTPRequestHandler):
    """Serves `content`; breaks off after `most` bytes."""

    content, most = CONTENT, 10**9
    asked: list[str] = []  # noqa: RUF012

    def do_GET(self) -> None:
        self.asked.append(self.path)
        if "/missing" in self.path:
            self.send_error(404)
            return
        self.send_response(200)
        self.send_header("Content-Length", str(len(self.content)))
        self.end_headers()
        self.wfile.write(self.content[: self.most])

    def log_message(self, *args: Any) -> None:
        """Say nothing."""


@pytest.fixture
def source(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Any]:
    """A local server with its own settings, and an empty data folder."""
    monkeypatch.setenv("METARL_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("no_proxy", "*")
    handler = type("Own", (Source,), {"asked": []})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    handler.url = f"http://127.0.0.1:{server.server_port}"  # type: ignore[attr-defined]
    yield handler
    server.shutdown()
    thread.join()
    server.server_close()


def file(source: Any, name: str = "own/file") -> File[bytes]:
    return File(name, f"{source.url}/file", partial(checked, sha256=RIGHT))


def stored_files() -> list[str]:
    return sorted(path.name for path in folder().rglob("*") if path.is_file())


def test_a_file_is_fetched_once(source: Any) -> None:
    assert obtain(file(source)) == obtain(file(source)) == CONTENT
    assert source.asked == ["/file"]
    assert stored_files() == ["file"]


def test_an_interrupted_download_leaves_no_file(source: Any) -> None:
    source.most = 100_000
    with pytest.raises(UserError, match=r"file cannot be fetched: .*100000 bytes read, 156000 more.*; download it once"):
        obtain(file(source))
    assert stored_files() == []
    source.most = 10**9
    assert obtain(file(source)) == CONTENT


def test_a_wrong_file_is_set_aside_and_never_used(source: Any) -> None:
    source.content = b"<html>Please log in</html>" * 100
    with pytest.raises(UserError, match=f"expected SHA-256 {RIGHT}, found .* of 2,600 bytes.*file.wrong and not used"):
        obtain(file(source))
    assert stored_files() == ["file.wrong"]
    source.content = CONTENT
    assert obtain(file(source)) == CONTENT


def test_a_damaged_file_is_named_and_fetched_again(source: Any, capsys: pytest.CaptureFixture[str]) -> None:
    obtain(file(source))
    (folder() / "own" / "file").write_bytes(CONTENT[:3000])
    assert obtain(file(source)) == CONTENT
    output = " ".join(capsys.readouterr().out.split())
    assert f"own/file is damaged (3,000 bytes): expected SHA-256 {RIGHT}, found" in output
    assert stored_files() == ["file", "file.wrong"]


def test_a_failed_download_names_file_and_source(source: Any) -> None:
    with pytest.raises(
        UserError, match=r"data/own/file \(METARL_DATA\) is not there, and http.*/missing cannot be fetched: .*404"
    ):
        obtain(File("own/file", f"{source.url}/missing", bytes))
    with pytest.raises(UserError, match="refused"):
        obtain(File("own/file", "http://127.0.0.1:9/file", bytes))
    assert stored_files() == []


def test_a_folder_that_cannot_be_created_is_reported(source: Any) -> None:
    folder().write_text("a file")
    with pytest.raises(UserError, match="own/file cannot be read or made"):
        obtain(file(source))


def test_concurrent_requests_fetch_a_file_once(source: Any) -> None:
    contents: list[bytes] = []
    threads = [threading.Thread(target=lambda: contents.append(obtain(file(source)))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert contents == [CONTENT] * 4
    assert len(source.asked) == 1


def test_the_stored_content_is_converted_from_the_download(source: Any) -> None:
    reversed_file = File(
        "own/upper", f"{source.url}/file", partial(checked, sha256=RIGHT), convert=lambda content: content[::-1]
    )
    source.content = CONTENT[::-1]
    assert obtain(reversed_file) == CONTENT
    assert (folder() / "own" / "upper").read_bytes() == CONTENT
    assert stored_files() == ["upper"]


@pytest.mark.parametrize("kind", ["page", "npz", "other"])
def test_truncated_data_files_are_reported_by_name(source: Any, monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    """A download left 3 kB instead of an archive: npz and JSON give one error without a traceback."""
    monkeypatch.setattr(omniglot, "SOURCE", f"{source.url}/missing/")
    missing_file = File(text.CLINC150.name, f"{source.url}/missing", text.CLINC150.read)
    monkeypatch.setattr(text, "CLINC150", missing_file)
    npz = io.BytesIO()
    np.savez_compressed(npz, images=np.random.default_rng(0).random((9, 20, 105, 105)) < (0.9 if kind == "npz" else 2))
    content = {"page": b"<html>" * 500, "npz": npz.getvalue()[:3000], "other": npz.getvalue()}[kind]
    for name, data in (("omniglot/images_background.npz", "omniglot"), ("clinc150/data_full.json", "clinc150")):
        path = folder() / name
        path.parent.mkdir(parents=True)
        path.write_bytes(content)
        with pytest.raises(
            UserError, match=f"{name} is damaged .{len(content):,} bytes.: expected .*SHA-256.* found .*fetched"
        ):
            data_set(data)
        assert path.with_name(path.name + ".wrong").read_bytes() == content
