"""Two processes with two workers each over shards, killed in the middle: every sample once an epoch."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

SCRIPT = Path(__file__).with_name("count_visits.py")
IMAGES, EPOCHS, WORLD = 48, 2, 2
STEPS = EPOCHS * IMAGES // (4 * WORLD)


def start(shards: Path, out: Path, pause_seconds: float) -> list[subprocess.Popen[bytes]]:
    """Start the processes of a training; they meet through nothing, as the loader needs nothing to meet."""
    out.mkdir(exist_ok=True)
    arguments = [sys.executable, SCRIPT, shards, out.parent / "cache", out, EPOCHS, pause_seconds]
    return [
        subprocess.Popen(
            [str(argument) for argument in arguments],
            env={**os.environ, "RANK": str(rank), "WORLD_SIZE": str(WORLD)},
        )
        for rank in range(WORLD)
    ]


def lines(out: Path) -> list[list[str]]:
    return [
        (out / f"rank-{rank}.txt").read_text().split("\n")[:-1] if (out / f"rank-{rank}.txt").exists() else []
        for rank in range(WORLD)
    ]


def test_train_loader__no_sample_lost_or_doubled_over_a_kill(
    write_shard: Callable[..., Path], make_samples: Callable[[int, int], list], tmp_path: Path
):
    for number in range(3):
        write_shard(f"train-{number:03d}.tar", make_samples(16 * number, 16))
    write_shard("val.tar", make_samples(100, 8))
    shards = write_shard("test.tar", make_samples(200, 8)).parent
    killed, peace = tmp_path / "killed", tmp_path / "peace"
    running = start(shards, killed, 0.15)
    limit = time.monotonic() + 60
    while min(map(len, lines(killed))) < STEPS // 3 and time.monotonic() < limit:
        assert [process.poll() for process in running] == [None] * WORLD
        time.sleep(0.02)
    for process in running:
        process.send_signal(signal.SIGKILL)
        process.wait()
    before = lines(killed)
    assert STEPS // 3 <= min(map(len, before)) < STEPS
    for out in (killed, peace):
        assert [process.wait(60) for process in start(shards, out, 0.0)] == [0, 0]
    after = lines(killed)
    assert after == lines(peace)
    kept = min(map(len, before))
    assert [rows[:kept] for rows in after] == [rows[:kept] for rows in before]
    for epoch in range(EPOCHS):
        seen = [
            word for rows in after for row in rows if row.split()[0] == str(epoch) for word in row.split()[3:]
        ]
        assert len(seen) == IMAGES
        assert set(Counter(seen).values()) == {1}
    orders = [
        [row.split()[3:] for row in after[0] if row.split()[0] == str(epoch)] for epoch in range(EPOCHS)
    ]
    assert orders[0] != orders[1]
