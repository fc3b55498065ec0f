"""Counts what a training would see: `kill_visits.py SHARDS CACHE OUT`.

Forks two processes with two workers each, kills both in the middle with kill -9, and forks two that go on;
OUT/killed/rank-R.txt then has a line `epoch step pixels id id ...` for each step, OUT/before what was
there after the kill, and OUT/peace what nobody interrupted. Imports are done once.
"""

from __future__ import annotations

import os
import shutil
import signal
import sys
import time
from pathlib import Path

import torch

from edgeproof_configs.schema import AugmentConfig
from edgeproof_data.kinds.webdataset import WebDataset
from edgeproof_data.loader import TrainLoader
from edgeproof_deploy.runtime.preprocess import Preprocess

BATCH, EPOCHS, WORLD = 4, 2, 2


def whole_lines(file: Path) -> list[str]:
    return file.read_text().split("\n")[:-1] if file.exists() else []


def train(shards: str, cache: str, out: Path, rank: int, pause_seconds: float) -> None:
    """Go on after the last whole line of the slowest process, as a training does from its checkpoint."""
    source = WebDataset(WebDataset.Config(root=shards, cache=cache, val="val.tar", test="test.tar"))
    images = source.split("train")
    files = [out / f"rank-{number}.txt" for number in range(WORLD)]
    done = int((out / "done").read_text())
    loader = TrainLoader(
        images,
        Preprocess(16, 16),
        AugmentConfig(flip=0.5),
        batch_size=BATCH,
        seed=3,
        workers=2,
        rank=rank,
        world=WORLD,
    )
    with files[rank].open("a") as report:
        for epoch in range(done // loader.steps_per_epoch, EPOCHS):
            first = max(done - epoch * loader.steps_per_epoch, 0)
            for step, batch in enumerate(loader.epoch(epoch, first), first):
                seen = [images.paths[index].rpartition("/")[2] for index in batch["index"].tolist()]
                pixels = int(batch["image"].double().sum().item() * 1000)
                report.write(f"{epoch} {step} {pixels} {' '.join(seen)}\n")
                report.flush()
                time.sleep(pause_seconds)


def started(shards: str, cache: str, out: Path, pause_seconds: float) -> list[int]:
    """Fork the processes of a training."""
    out.mkdir(parents=True, exist_ok=True)
    files = [out / f"rank-{rank}.txt" for rank in range(WORLD)]
    done = min(len(whole_lines(file)) for file in files)
    (out / "done").write_text(str(done))
    for file in files:
        file.write_text("".join(f"{line}\n" for line in whole_lines(file)[:done]))
    children = []
    for rank in range(WORLD):
        child = os.fork()
        if child == 0:
            train(shards, cache, out, rank, pause_seconds)
            os._exit(0)
        children.append(child)
    return children


def main() -> None:
    torch.set_num_threads(1)
    shards, cache, out = sys.argv[1], sys.argv[2], Path(sys.argv[3])
    running = started(shards, cache, out / "killed", 0.1)
    while min(len(whole_lines(out / "killed" / f"rank-{rank}.txt")) for rank in range(WORLD)) < 4:
        time.sleep(0.01)
    for child in running:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
    shutil.copytree(out / "killed", out / "before")
    for name in ("killed", "peace"):
        for child in started(shards, cache, out / name, 0.0):
            assert os.waitpid(child, 0)[1] == 0


if __name__ == "__main__":
    main()
