"""Shards from a server on loopback that also misbehaves, and from a storage in memory."""

from __future__ import annotations

import hashlib
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from edgeproof_configs.errors import DataError, MissingPackageError, UsageError
from edgeproof_data.shards import remote
from edgeproof_data.shards.remote import fetch

BODY = bytes(range(256)) * 40
OTHER = BODY[::-1]


class Server(BaseHTTPRequestHandler):
    """What is asked for says how the answer is spoilt; `asked` keeps the requests."""

    asked: list[tuple[str, str | None]] = []  # noqa: RUF012 - shared on purpose
    resumed = threading.Event()

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""

    def do_GET(self) -> None:
        """Answer."""
        Server.asked.append((self.path, self.headers.get("Range")))
        how = self.path.strip("/").split(".")[0]
        getattr(self, how, self.missing)()

    def answer(
        self, body: bytes, length: int, kind: str = "application/x-tar", code: int = 200, tag: str = '"v1"'
    ) -> None:
        self.send_response(code)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(length))
        self.send_header("ETag", tag)
        if code == 206:
            self.send_header("Content-Range", f"bytes {len(BODY) - length}-{len(BODY) - 1}/{len(BODY)}")
        self.end_headers()
        self.wfile.write(body)

    def good(self) -> None:
        self.answer(BODY, len(BODY))

    def missing(self) -> None:
        self.send_error(404)

    def page(self) -> None:
        self.answer(b"<html>", 6, "text/html; charset=utf-8")

    def short(self) -> None:
        """Promise more than ever comes."""
        self.answer(BODY[:100], len(BODY))

    def busy(self) -> None:
        """Be overloaded, then well."""
        if len(Server.asked) < 3:
            self.send_error(503)
        else:
            self.good()

    def halved(self) -> None:
        """Stop in the middle at first; go on from there when asked to."""
        wanted = self.headers.get("Range")
        if wanted is None:
            self.answer(BODY[:5000], len(BODY))
        else:
            start = int(wanted.removeprefix("bytes=").rstrip("-"))
            self.answer(BODY[start:], len(BODY) - start, code=206)

    def swapped(self) -> None:
        """Stop in the middle, then offer the rest of another version as if it were the same one."""
        if len(Server.asked) == 1:
            self.answer(BODY[:5000], len(BODY))
        elif self.headers.get("Range"):
            self.answer(OTHER[5000:], len(OTHER) - 5000, code=206, tag='"v2"')
        else:
            self.answer(OTHER, len(OTHER), tag='"v2"')

    def shrunk(self) -> None:
        """Stop in the middle, then be shorter than that."""
        if len(Server.asked) == 1:
            self.answer(BODY[:5000], len(BODY))
        elif self.headers.get("Range"):
            self.send_error(416)
        else:
            self.answer(BODY[:3000], 3000)

    def pausing(self) -> None:
        """Stop sending in the middle, the first time, without closing."""
        if len(Server.asked) == 1:
            self.answer(BODY[:5000], len(BODY))
            self.wfile.flush()
            Server.resumed.wait(60)
        else:
            self.good()

    def round(self) -> None:
        """Send in circles."""
        self.send_response(302)
        self.send_header("Location", self.path)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def trickle(self) -> None:
        """Send a byte now and then."""
        self.answer(b"", len(BODY))
        for number in range(40):
            self.wfile.write(BODY[number : number + 1])
            self.wfile.flush()
            time.sleep(0.02)

    def huge(self) -> None:
        """Promise more than any disk holds."""
        self.answer(b"x", 1 << 60)


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    monkeypatch.setattr(remote, "WAIT_SECONDS", 0.01)
    monkeypatch.setattr(remote, "TIMEOUT_SECONDS", 5.0)
    Server.asked = []
    Server.resumed.clear()
    with ThreadingHTTPServer(("127.0.0.1", 0), Server) as running:
        thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield f"http://127.0.0.1:{running.server_address[1]}"
        running.shutdown()
        thread.join()


def left(folder: Path) -> list[str]:
    return sorted(file.name for file in folder.iterdir() if not file.name.endswith(".lock"))


def test_fetch__once(server: str, tmp_path: Path):
    copy = fetch(f"{server}/good.tar", tmp_path)
    assert copy.read_bytes() == BODY
    assert fetch(f"{server}/good.tar", tmp_path, hashlib.sha256(BODY).hexdigest()) == copy
    assert len(Server.asked) == 1


def test_fetch__a_copy_that_was_cut_is_fetched_again(server: str, tmp_path: Path):
    copy = fetch(f"{server}/good.tar", tmp_path)
    copy.write_bytes(BODY[:77])
    assert fetch(f"{server}/good.tar", tmp_path).read_bytes() == BODY


def test_fetch__killed_in_the_middle(server: str, tmp_path: Path):
    address = f"{server}/pausing.tar"
    code = "import sys, pathlib; from edgeproof_data.shards.remote import fetch;"
    code += "fetch(sys.argv[1], pathlib.Path(sys.argv[2]))"
    process = subprocess.Popen([sys.executable, "-c", code, address, str(tmp_path)])
    while not any(file.stat().st_size for file in tmp_path.glob(".*.part")):
        assert process.poll() is None
        time.sleep(0.01)
    process.kill()
    process.wait()
    Server.resumed.set()
    assert not [name for name in left(tmp_path) if not name.startswith(".")]
    assert fetch(address, tmp_path).read_bytes() == BODY
    assert [wanted for _, wanted in Server.asked] == [None, None]
    assert len(left(tmp_path)) == 2


def test_fetch__waits_for_a_busy_server(server: str, tmp_path: Path):
    assert fetch(f"{server}/busy.tar", tmp_path).read_bytes() == BODY
    assert len(Server.asked) == 3


@pytest.mark.parametrize(("name", "body"), [("swapped", OTHER), ("shrunk", BODY[:3000])])
def test_fetch__halves_of_two_versions_are_not_put_together(
    server: str, tmp_path: Path, name: str, body: bytes
):
    assert fetch(f"{server}/{name}.tar", tmp_path).read_bytes() == body
    assert [wanted for _, wanted in Server.asked] == [None, "bytes=5000-", None]


def test_fetch__goes_on_where_the_connection_was_cut(server: str, tmp_path: Path):
    assert fetch(f"{server}/halved.tar", tmp_path).read_bytes() == BODY
    assert [wanted for _, wanted in Server.asked] == [None, "bytes=5000-"]


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("nothing", "answers 404"),
        ("page", "a web page, not"),
        ("short", "cannot be fetched: .* bytes came"),
        ("round", "answers 302"),
    ],
)
def test_fetch__what_cannot_be_had_leaves_nothing(server: str, tmp_path: Path, name: str, words: str):
    with pytest.raises(DataError, match=words):
        fetch(f"{server}/{name}.tar", tmp_path)
    assert left(tmp_path) == []


def test_fetch__bytes_that_trickle_are_not_waited_for(
    server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(remote, "TIMEOUT_SECONDS", 0.2)
    monkeypatch.setattr(remote, "ATTEMPTS", 1)
    with pytest.raises(DataError, match=r"it comes at \d+ bytes/s"):
        fetch(f"{server}/trickle.tar", tmp_path)


def test_fetch__no_room(server: str, tmp_path: Path):
    with pytest.raises(Exception, match="bytes are free"):
        fetch(f"{server}/huge.tar", tmp_path)
    assert left(tmp_path) == []


def test_fetch__nobody_answers(server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(remote, "ATTEMPTS", 2)
    with pytest.raises(DataError, match=r"cannot be fetched: .*refused"):
        fetch("http://127.0.0.1:9/x.tar", tmp_path)


def test_fetch__other_contents_than_the_sum_says(server: str, tmp_path: Path):
    with pytest.raises(DataError, match="not what its sha256 says"):
        fetch(f"{server}/good.tar", tmp_path, "0" * 64)
    assert left(tmp_path) == []


def test_fetch__through_fsspec(tmp_path: Path):
    fsspec = pytest.importorskip("fsspec")
    fsspec.filesystem("memory").pipe_file("/bucket/a.tar", BODY)
    assert fetch("memory://bucket/a.tar", tmp_path).read_bytes() == BODY
    with pytest.raises(DataError, match="no such shard"):
        fetch("memory://bucket/none.tar", tmp_path)


def test_fetch__storage_whose_package_is_missing(tmp_path: Path):
    pytest.importorskip("fsspec")
    with pytest.raises(MissingPackageError, match="s3"):
        fetch("s3://bucket/a.tar", tmp_path)


def test_fetch__local_files_have_paths(tmp_path: Path):
    pytest.importorskip("fsspec")
    with pytest.raises(UsageError, match="without file://"):
        fetch("file:///etc/passwd", tmp_path)
