"""`data export --shards`, killed with SIGKILL or out of disk: no half shard counts, and it goes on."""

from __future__ import annotations

import hashlib
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.data.conftest import DISK_BYTES

from edgeproof_data.shards.archive import walk

MakeImages = Callable[..., Path]
IMAGES, A_SHARD = 120, 2


def export(photos: Path, out: Path) -> list[str]:
    return [
        sys.executable,
        "-m",
        "edgeproof",
        "data",
        "export",
        str(photos),
        str(out),
        "--shards",
        str(A_SHARD),
    ]


def run(command: list[str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, capture_output=True, text=True, check=False)


def digests(folder: Path) -> dict[str, str]:
    return {file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in sorted(folder.iterdir())}


def whole_shards(folder: Path) -> list[str]:
    """Return the names of all shards, after walking each to its end."""
    files = sorted(folder.glob("*.tar"))
    assert all(len(list(walk(file))) == 2 * A_SHARD for file in files)
    return [file.name for file in files]


@pytest.fixture
def photos(make_images: MakeImages) -> Path:
    return make_images(*(f"{number:03d}.png" for number in range(IMAGES)))


def test_export__killed_in_the_middle(photos: Path, tmp_path: Path) -> None:
    peace, out = tmp_path / "peace", tmp_path / "out"
    assert run(export(photos, peace)).returncode == 0
    process = subprocess.Popen(export(photos, out), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while len(list(out.glob("*.tar"))) < 3:
        assert process.poll() is None
        time.sleep(0.001)
    process.send_signal(signal.SIGKILL)
    process.wait()
    kept = whole_shards(out)
    assert 3 <= len(kept) < IMAGES // A_SHARD
    # What a kill in the middle of a shard leaves, wherever this one struck.
    (out / ".train-000059.tar.abcdefgh").write_bytes(b"half a shard")
    written = {name: (out / name).stat().st_mtime_ns for name in kept}
    assert run(export(photos, out)).returncode == 0
    assert {name: (out / name).stat().st_mtime_ns for name in kept} == written
    assert digests(out) == digests(peace)


def test_export__a_full_disk(photos: Path, tmp_path: Path, small_disk: Path) -> None:
    out, ballast = small_disk / "out", small_disk / "ballast"
    ballast.write_bytes(b"\0" * (DISK_BYTES - (200 << 10)))
    full = run(export(photos, out))
    assert full.returncode == 1, full.stderr
    assert "No space left" in full.stderr
    assert len(full.stderr.strip().splitlines()) <= 3
    kept = whole_shards(out)
    assert 1 <= len(kept) < IMAGES // A_SHARD
    assert not [file for file in out.iterdir() if file.name.startswith(".")]
    ballast.unlink()
    assert run(export(photos, out)).returncode == 0
    peace = tmp_path / "peace"
    assert run(export(photos, peace)).returncode == 0
    assert digests(out) == digests(peace)
