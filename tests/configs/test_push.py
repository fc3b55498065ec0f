from __future__ import annotations

import base64
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
from huggingface_hub import constants
from safetensors.numpy import load_file, save_file
from tests.configs.small_bundle import make_bundle

from edgeproof.__main__ import main


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What a push reads of a run: bundle, weights, result.json."""
    folder = tmp_path_factory.mktemp("push") / "run"
    make_bundle(folder)
    (folder / "train").mkdir()
    save_file({"w": np.arange(3.0)}, folder / "train/model.safetensors")
    row = {
        "form": "student",
        "engine": "onnxruntime",
        "precision": "fp32",
        "metrics": {"top1": 0.8125},
        "latency_ms": {"batch1": {"p50": 1.25}},
        "size_bytes": 2_500_000,
        "parity": [
            {"reference": "pytorch int8", "cosine_mean": 0.5},
            {"reference": "pytorch fp32", "cosine_mean": 0.99996},
        ],
    }
    plan = {"form": "student", "engine": "tensorrt", "precision": "fp16", "status": "built, not run here"}
    environment = {"processor": "A CPU", "cores": 2, "python": "3.11.1"}
    result = {"rows": [row, plan], "environment": environment}
    (folder / "result.json").write_text(json.dumps(result))
    return folder


class Hub(BaseHTTPRequestHandler):
    """Answers as the hub does and keeps what it was asked."""

    asked: ClassVar[list[tuple[str, str, str, bytes]]] = []
    refuse = 0

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.asked.append((self.command, self.path, self.headers.get("Authorization", ""), body))
        here = f"http://{self.headers['Host']}/me/tiny"
        if self.refuse:
            return self.answer(self.refuse, {"error": "no"})
        if self.path == "/api/repos/create":
            return self.answer(200, {"url": here})
        if "/preupload/" in self.path:
            files = json.loads(body)["files"]
            modes = [{"path": f["path"], "uploadMode": "regular", "shouldIgnore": False} for f in files]
            return self.answer(200, {"files": modes})
        if "/commit/" in self.path:
            done = {"success": True, "commitOid": "1" * 40, "commitUrl": f"{here}/commit/{'1' * 40}"}
            return self.answer(200, done)
        return self.answer(200, {"errors": [], "warnings": []})

    def do_GET(self) -> None:
        self.asked.append((self.command, self.path, "", b""))
        self.answer(200, {"id": "me/tiny", "sha": "0" * 40, "siblings": [], "type": "user", "name": "me"})

    def do_HEAD(self) -> None:
        self.answer(404, {})

    def answer(self, status: int, plain: dict[str, Any]) -> None:
        data = json.dumps(plain).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing."""


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[type[Hub]]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setattr(constants, "ENDPOINT", f"http://127.0.0.1:{server.server_port}")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setenv("HF_TOKEN", "hf_not_a_real_one")
    Hub.asked, Hub.refuse = [], 0
    try:
        yield Hub
    finally:
        server.shutdown()
        server.server_close()


def test_push__a_dry_run_writes_the_files(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "hub"
    assert main(["push", str(run), "me/tiny", "--dry-run", str(out)]) == 0
    said = capsys.readouterr().out
    names = sorted(file.relative_to(out).as_posix() for file in out.rglob("*") if file.is_file())
    assert {
        "README.md",
        "config.json",
        "model.safetensors",
        "bundle/manifest.json",
        "bundle/model.onnx",
    } < set(names)
    assert all(name in said for name in names)
    assert "dry run: nothing was uploaded to me/tiny" in said
    assert list(load_file(out / "model.safetensors")) == ["w"]
    for name in names:
        if name.startswith("bundle/"):
            assert (out / name).read_bytes() == (run / name).read_bytes()
    card = (out / "README.md").read_text(encoding="utf-8")
    assert card.startswith("---\nlibrary_name: edgeproof\npipeline_tag: zero-shot-image-classification\n")
    assert "| student onnxruntime fp32 | 81.2 % | 1.0000 | 1.25 | 2.5 |" in card
    assert "| student tensorrt fp16 (built, not run here) | - | - | - | - |" in card
    assert "| form | top-1 | cosine to the fp32 student |" in card
    assert "Measured on: A CPU, 2 cores, Python 3.11.1." in card
    assert 'snapshot_download("me/tiny") + "/bundle"' in card
    assert main(["push", str(run), "me/tiny", "--dry-run", str(out)]) == 2
    assert "exists and is not overwritten" in capsys.readouterr().err


def test_push__a_bundle_alone_says_that_it_has_no_weights(run: Path, tmp_path: Path) -> None:
    assert main(["push", str(run / "bundle"), "me/tiny", "--dry-run", str(tmp_path / "hub")]) == 0
    assert not (tmp_path / "hub/model.safetensors").exists()
    card = (tmp_path / "hub/README.md").read_text(encoding="utf-8")
    assert "There are no PyTorch weights here" in card
    assert "| form | top-1 |" in card
    assert "| onnxruntime int8 | 88.5 % |" in card


def test_push__uploads_every_file_with_the_users_token(
    run: Path, hub: type[Hub], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["push", str(run), "me/tiny"]) == 0
    assert "/me/tiny" in capsys.readouterr().out.splitlines()[-1]
    created = next(json.loads(body) for _, path, _, body in hub.asked if path == "/api/repos/create")
    assert created["name"] == "tiny"
    assert created["organization"] == "me"
    assert created.get("private") is True or created.get("visibility") == "private"
    ((_, path, token, body),) = [asked for asked in hub.asked if "/commit/" in asked[1]]
    assert path.startswith("/api/models/me/tiny/commit/main")
    assert token == "Bearer hf_not_a_real_one"
    lines = [json.loads(line) for line in body.splitlines()]
    files = {line["value"]["path"]: line["value"] for line in lines if line["key"] == "file"}
    assert {"README.md", "config.json", "model.safetensors", "bundle/labels.txt"} < set(files)
    sent = base64.b64decode(files["bundle/labels.txt"]["content"])
    assert sent == (run / "bundle/labels.txt").read_bytes()


@pytest.mark.parametrize(
    ("status", "words"),
    [(401, "does not let this account"), (403, "does not let"), (400, "the upload to me/tiny failed")],
)
def test_push__a_hub_that_refuses(
    run: Path, hub: type[Hub], capsys: pytest.CaptureFixture[str], status: int, words: str
) -> None:
    hub.refuse = status
    assert main(["push", str(run), "me/tiny"]) == 1
    said = capsys.readouterr().err
    assert words in said
    assert len(said.splitlines()) <= 3


@pytest.mark.parametrize("name", ["tiny", "me/ti ny", "a/b/c", "me/"])
def test_push__names_that_are_none(run: Path, name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["push", str(run), name]) == 2
    assert f"'{name}'" in capsys.readouterr().err


def test_push__a_changed_bundle_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    bundle = make_bundle(tmp_path / "b")
    (bundle / "labels.txt").write_text("red\ngreen\nblau\n")
    assert main(["push", str(bundle), "me/tiny", "--dry-run", str(tmp_path / "hub")]) == 1
    assert "labels.txt: was changed" in capsys.readouterr().err


def test_export_triton__from_the_command_line(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["export-triton", str(run), str(tmp_path / "repo"), "--max-batch", "2"]) == 0
    assert f"tritonserver --model-repository {tmp_path / 'repo'}" in capsys.readouterr().out
    assert (tmp_path / "repo/tiny/1/model.onnx").is_file()
    assert main(["export-triton", str(run), str(tmp_path / "repo"), "--model", "gone.onnx"]) == 1
