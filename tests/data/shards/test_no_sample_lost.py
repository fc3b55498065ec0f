"""Two processes with two workers each over shards, killed in the middle: every sample once an epoch."""

from __future__ import annotations

import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path

SCRIPT = Path(__file__).with_name("kill_visits.py")
IMAGES, EPOCHS, WORLD = 48, 2, 2
STEPS = EPOCHS * IMAGES // (4 * WORLD)


def rows_in(out: Path) -> list[list[list[str]]]:
    """Return the words of each step of each process."""
    texts = [(out / f"rank-{rank}.txt").read_text() for rank in range(WORLD)]
    return [[row.split() for row in text.split("\n")[:-1]] for text in texts]


def test_train_loader__no_sample_lost_or_doubled_over_a_kill(
    write_shard: Callable[..., Path], make_samples: Callable[[int, int], list], tmp_path: Path
):
    for number in range(3):
        write_shard(f"train-{number:03d}.tar", make_samples(16 * number, 16))
    write_shard("val.tar", make_samples(100, 8))
    shards = write_shard("test.tar", make_samples(200, 8)).parent
    command = [sys.executable, SCRIPT, shards, tmp_path / "cache", tmp_path]
    subprocess.run([str(word) for word in command], check=True, timeout=300)
    before, after, peace = (rows_in(tmp_path / name) for name in ("before", "killed", "peace"))
    kept = min(map(len, before))
    assert 4 <= kept < STEPS
    assert [rows[:kept] for rows in after] == [rows[:kept] for rows in before]
    assert after == peace
    for epoch in range(EPOCHS):
        seen = [word for rows in after for row in rows if row[0] == str(epoch) for word in row[3:]]
        assert len(seen) == IMAGES
        assert set(Counter(seen).values()) == {1}
    orders = [[row[3:] for row in after[0] if row[0] == str(epoch)] for epoch in range(EPOCHS)]
    assert orders[0] != orders[1]
