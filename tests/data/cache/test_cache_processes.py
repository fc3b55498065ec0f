"""The cache under real processes: killed ones, and two at once."""

from __future__ import annotations

import random
import subprocess
import sys
import time
from pathlib import Path

import pytest

SCRIPT = Path(__file__).with_name("write_cache.py")
IMAGES = 400


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    root = tmp_path / "photos"
    root.mkdir()
    for number in range(IMAGES):
        (root / f"{number:04d}.jpg").write_bytes(f"photo {number}".encode())
    return root


def contents(folder: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in folder.iterdir()}


def uninterrupted(photos: Path, folder: Path) -> dict[str, bytes]:
    subprocess.run([sys.executable, SCRIPT, photos, folder, "0"], check=True, capture_output=True)
    return contents(folder)


def kill_at_random(
    photos: Path, folder: Path, kills: int, longest_seconds: float, draw: random.Random
) -> list[int]:
    """Kill writers at random moments, then let one finish; return how much each found to do."""
    left = []
    for turn in range(kills + 1):
        command = [sys.executable, SCRIPT, photos, folder, "0.004"]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            left.append(int(process.stdout.readline().split()[1]))
            if turn < kills:
                time.sleep(draw.uniform(0, longest_seconds))
                process.kill()
            elif process.communicate()[0] != "finished\n":
                pytest.fail("the last writer did not finish")
    return left


def test_writer__killed_at_random_moments_equals_uninterrupted(photos: Path, tmp_path: Path):
    # On a busy machine a writer may be killed before it has written anything: then they are given longer.
    for longest in (0.15, 0.5, 1.5):
        folder = tmp_path / f"killed_within_{longest}"
        left = kill_at_random(photos, folder, 3, longest, random.Random(0))
        assert left == sorted(left, reverse=True)
        if left[-1] < IMAGES:
            break
    assert left[-1] < IMAGES
    assert contents(folder) == uninterrupted(photos, tmp_path / "whole")


@pytest.mark.slow
def test_writer__killed_at_twenty_random_moments(photos: Path, tmp_path: Path):
    kill_at_random(photos, tmp_path / "killed", 20, 0.06, random.Random(1))
    assert contents(tmp_path / "killed") == uninterrupted(photos, tmp_path / "whole")


@pytest.mark.integration
def test_writer__two_processes_under_torchrun(photos: Path, tmp_path: Path):
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    done = subprocess.run(
        [*launcher, SCRIPT, photos, tmp_path / "two", "0"], capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    shares = sorted(int(line.split()[1]) for line in done.stdout.splitlines() if line.startswith("started"))
    assert len(shares) == 2
    assert sum(shares) == IMAGES
    assert shares[0] > IMAGES // 3
    assert contents(tmp_path / "two") == uninterrupted(photos, tmp_path / "whole")
