"""A full disk, a read-only place, a kill at any moment: an error in words, and nothing lost."""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from safetensors.numpy import load_file
from tests.integration.test_ship import Shipped, edgeproof, shipped
from tests.integration.tiny import make_data, make_recipe

from edgeproof_data.cache import EmbeddingCache

pytestmark = pytest.mark.integration
__all__ = ["shipped"]

DISK_BYTES = 64 << 20


@pytest.fixture
def disk(make_disk: Callable[[str], Path]) -> Path:
    """Return a small disk of its own."""
    return make_disk(str(DISK_BYTES))


@pytest.mark.parametrize("stage", ["embed", "train", "export", "bundle"])
def test_ship__a_full_disk_is_explained_and_loses_nothing(shipped: Shipped, disk: Path, stage: str) -> None:
    recipe, run = shipped[0], disk / "run"
    shutil.copytree(shipped[1], run)
    shutil.rmtree(run / stage)
    ballast = disk / "ballast"
    free = os.statvfs(disk).f_bavail * os.statvfs(disk).f_frsize
    ballast.write_bytes(b"\0" * (free - 8192))
    full = edgeproof("ship", recipe, "--run", run)
    assert full.returncode == 1, full.stderr
    assert "No space left" in full.stderr
    assert len(full.stderr.strip().splitlines()) <= 3
    assert not (run / stage / "stage.json").exists()
    ballast.unlink()
    again = edgeproof("ship", recipe, "--run", run)
    assert again.returncode == 0, again.stderr
    weights = [load_file(place / "train" / "model.safetensors") for place in (run, shipped[1])]
    assert all((weights[0][name] == weights[1][name]).all() for name in weights[1])


def test_ship__a_read_only_place_is_explained(shipped: Shipped, disk: Path) -> None:
    subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
    done = edgeproof("ship", shipped[0], "--run", disk / "run")
    assert done.returncode == 1
    assert "read-only" in done.stderr.lower()
    assert len(done.stderr.strip().splitlines()) <= 3


def kill_until_done(recipe: Path, run: Path, kills: int, seed: int) -> int:
    """Start `head` again and again, killing it at random moments, then let it finish; return the kills."""
    rng = random.Random(seed)
    killed = 0
    for _ in range(kills):
        process = subprocess.Popen(
            [sys.executable, "-m", "edgeproof", "head", str(recipe), "--run", str(run)],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        marks = [run / stage / "started.json" for stage in ("embed", "train")]
        waiting = next((mark for mark in marks if not mark.exists()), marks[-1])
        while process.poll() is None and not waiting.exists():
            time.sleep(0.02)
        time.sleep(rng.uniform(0.0, 1.5))
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            killed += 1
        process.wait()
    done = edgeproof("head", recipe, "--run", run)
    assert done.returncode == 0, done.stderr
    return killed


@pytest.mark.parametrize("kills", [3, pytest.param(20, marks=pytest.mark.slow)])
def test_ship__killed_at_random_moments_gives_the_same_bits(tmp_path: Path, kills: int) -> None:
    train = {
        "epochs": 6,
        "batch_size": 8,
        "lr": 1e-3,
        "workers": 0,
        "augment": {"flip": 0.5},
        "checkpoint_every_steps": 1,
        "ema": 0.9,
    }
    recipe = make_recipe(tmp_path, make_data(tmp_path / "data"), train=train, baseline=None)
    whole = edgeproof("head", recipe, "--run", tmp_path / "whole")
    assert whole.returncode == 0, whole.stderr
    assert kill_until_done(recipe, tmp_path / "killed", kills, seed=kills) > 0
    first = load_file(tmp_path / "whole" / "train" / "model.safetensors")
    second = load_file(tmp_path / "killed" / "train" / "model.safetensors")
    assert all((first[name] == second[name]).all() for name in first)
    for part in ("train", "val", "test"):
        caches = [EmbeddingCache.open(tmp_path / run / "embed" / part) for run in ("whole", "killed")]
        assert list(caches[0].paths) == list(caches[1].paths)
        rows = [cache.rows(range(len(cache)), raw=True) for cache in caches]
        assert (rows[0] == rows[1]).all()
