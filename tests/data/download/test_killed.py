"""A download that is killed with SIGKILL, while it fetches and while it checks, and goes on."""

from __future__ import annotations

import csv
import hashlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.data.download.misbehaving import stranger

from edgeproof_data.folders import list_images

pytest.importorskip("img2dataset")
pytestmark = [pytest.mark.slow, pytest.mark.integration]
PATIENCE_SECONDS = 120.0


def until(true: Callable[[], object], process: subprocess.Popen[bytes] | None = None) -> None:
    """Wait until something is so; fail where it does not come about, or the process ends before."""
    last = time.monotonic() + PATIENCE_SECONDS
    while not true():
        assert time.monotonic() < last
        assert process is None or process.poll() is None, "it ended before it was killed"
        time.sleep(0.005)


def of_this_download(out: Path) -> list[int]:
    """Return the processes that were started for a folder, and what these started."""
    found: dict[int, tuple[int, bool]] = {}
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            words = (entry / "cmdline").read_bytes()
            parent = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
        except OSError:
            # It ended while it was looked at.
            continue
        found[int(entry.name)] = parent, str(out).encode() in words
    ours = {number for number, (_, named) in found.items() if named}
    while True:
        more = {number for number, (parent, _) in found.items() if parent in ours} - ours
        if not more:
            return sorted(ours)
        ours |= more


def rows(file: Path) -> list[dict[str, str]]:
    with file.open(newline="", encoding="utf-8") as handle:
        return list(csv.DictReader(handle))


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="processes are looked up in /proc")
def test_download__killed_twice_fetches_and_loses_nothing_twice(tmp_path: Path) -> None:
    gate, out, listed = threading.Event(), tmp_path / "out", tmp_path / "list.txt"
    command = [sys.executable, "-m", "edgeproof", "data", "download", str(listed), str(out)]
    command += ["--shard-size", "2", "--threads", "2", "--timeout", "60"]
    whole = [f"good{number}" for number in range(1, 7)]
    with stranger(gate=gate) as (url, asked):
        listed.write_text("".join(f"{url}/{name}\n" for name in [*whole, "gate7", "gate8", "good9", "good5"]))
        first = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        until(lambda: asked["gate7"] and asked["gate8"], first)
        started = of_this_download(out)
        assert len(started) > 1
        os.kill(first.pid, signal.SIGKILL)
        first.wait()
        until(lambda: not of_this_download(out) and not [n for n in started if Path(f"/proc/{n}").exists()])
        assert not (out / "images.csv").exists()
        gate.set()
        second = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        until((out / "log" / "00000.csv").exists, second)
        os.kill(second.pid, signal.SIGKILL)
        second.wait()
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
    assert {name: asked[name] for name in whole} == dict.fromkeys(whole, 1)
    assert (asked["gate7"], asked["gate8"], asked["good9"]) == (2, 2, 1)
    images = rows(out / "images.csv")
    assert [row["url"].rpartition("/")[2] for row in images] == [*whole, "gate7", "gate8", "good9"]
    assert rows(out / "failed.csv") == []
    assert len({row["sha256"] for row in images}) == 9
    assert not (out / ".incoming").exists()
    paths = [f"images/{path}" for path in list_images(out / "images")]
    assert sorted(paths) == sorted(row["path"] for row in images)
    for row in images:
        assert hashlib.sha256((out / row["path"]).read_bytes()).hexdigest() == row["sha256"]
