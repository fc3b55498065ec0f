from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from edgeproof_train.hub import reachable

FETCH = """
from edgeproof_configs.errors import EdgeproofError
from edgeproof_train.hub import hub_file, hub_folder
try:
    {call}
except EdgeproofError as error:
    print(error)
"""
FILE = "hub_file('nobody/nothing', ['a.safetensors', 'b.safetensors'], 'teacher.pretrained')"
FOLDER = "hub_folder('nobody/nothing', 'teacher.model')"


TEACHERS = """
from edgeproof_configs.errors import EdgeproofError
from edgeproof_configs.registry import build, component_class
from edgeproof_train.teacher import TeacherPlaces
for config in (
    {"kind": "open_clip", "model": "ViT-B-32", "pretrained": "laion2b_s34b_b79k"},
    {"kind": "timm", "model": "resnet18"},
    {"kind": "transformers", "model": "nobody/nothing"},
):
    settings = component_class("teacher", config["kind"]).Config.model_validate(config)
    try:
        build("teacher", settings, TeacherPlaces())
    except EdgeproofError as error:
        print(config["kind"], error)
"""


def run_offline(script: str, home: Path, **environment: str) -> str:
    """Run a script in a process of its own, without proxies, and return what it says."""
    kept = {key: value for key, value in os.environ.items() if not key.lower().endswith("_proxy")}
    done = subprocess.run(
        [sys.executable, "-c", script],
        env={**kept, "HF_HOME": str(home), **environment},
        capture_output=True,
        text=True,
        timeout=500,
        check=True,
    )
    return done.stdout


def fetch(call: str, home: Path, **environment: str) -> str:
    """Run one fetch and return what it says."""
    return run_offline(FETCH.format(call=call), home, **environment)


@pytest.fixture
def empty_hub() -> Iterator[str]:
    """A server on this machine that answers every request with 404 and counts them."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            requests.append(self.path)
            self.send_response(404)
            if self.path.count("/") > 3:
                self.send_header("X-Error-Code", "EntryNotFound")
            self.send_header("Content-Length", "0")
            self.end_headers()

        do_HEAD = do_GET  # noqa: N815

        def log_message(self, format: str, *args: object) -> None:
            return

    requests: list[str] = []
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.mark.integration
@pytest.mark.parametrize(
    ("call", "key"),
    [(FILE, "teacher.pretrained: /path/to/model.safetensors"), (FOLDER, "teacher.model: /path")],
)
@pytest.mark.parametrize("endpoint", ["http://127.0.0.1:9", "http://no-such-host.invalid"])
def test_hub__out_of_reach_ends_with_the_key_for_a_local_path(
    call: str, key: str, endpoint: str, tmp_path: Path
) -> None:
    said = fetch(call, tmp_path, HF_ENDPOINT=endpoint)
    assert "the model hub cannot be reached, and 'nobody/nothing' is not on this machine" in said
    assert key in said


@pytest.mark.integration
def test_hub_file__serves_an_earlier_copy_while_the_hub_is_out_of_reach(tmp_path: Path) -> None:
    place = tmp_path / "hub" / "models--nobody--nothing"
    commit = "0" * 40
    (place / "refs").mkdir(parents=True)
    (place / "refs" / "main").write_text(commit)
    (place / "snapshots" / commit).mkdir(parents=True)
    (place / "snapshots" / commit / "b.safetensors").write_bytes(b"weights")
    said = fetch(f"print({FILE}.read_bytes())", tmp_path, HF_ENDPOINT="http://127.0.0.1:9")
    assert said.strip() == "b'weights'"


@pytest.mark.integration
def test_hub_file__says_that_the_hub_has_no_safetensors(empty_hub: str, tmp_path: Path) -> None:
    said = fetch(FILE, tmp_path, HF_ENDPOINT=empty_hub)
    assert "the hub has no safetensors weights of nobody/nothing (looked for a.safetensors" in said
    assert "teacher.pretrained: /path/to/model.safetensors" in said


@pytest.mark.integration
def test_teachers__by_name_and_without_a_hub_say_which_key_takes_a_local_path(tmp_path: Path) -> None:
    said = run_offline(TEACHERS, tmp_path, HF_ENDPOINT="http://127.0.0.1:9")
    assert said.count("the model hub cannot be reached") == 3
    for key in ("teacher.pretrained: /path", "teacher.weights: /path", "teacher.model: /path"):
        assert key in said


@pytest.fixture
def silent_server() -> Iterator[str]:
    """A server that takes connections and never says a word."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"http://127.0.0.1:{server.getsockname()[1]}"


@pytest.mark.integration
def test_hub_file__does_not_wait_for_a_silent_proxy(silent_server: str, tmp_path: Path) -> None:
    said = fetch(FILE, tmp_path, HF_ENDPOINT="https://no-such-host.invalid", https_proxy=silent_server)
    assert "the model hub cannot be reached" in said


def test_reachable__takes_any_answer_of_a_server_or_a_proxy(
    empty_hub: str, silent_server: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for key in ("http_proxy", "HTTP_PROXY", "no_proxy", "NO_PROXY"):
        monkeypatch.delenv(key, raising=False)
    assert reachable(empty_hub)
    assert not reachable("http://127.0.0.1:9")
    assert not reachable(silent_server, seconds=0.3)
    monkeypatch.setenv("http_proxy", empty_hub)
    assert reachable("http://no-such-host.invalid")
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    assert not reachable("http://no-such-host.invalid")
