"""Counts what a training would see: `count_visits.py SHARDS CACHE OUT EPOCHS SECONDS_A_STEP`.

Each process takes its batches through two workers and appends, after each step, the ids that it saw to
OUT/rank-R.txt as `epoch step id id ...`. Started again it goes on after the last whole line of the slowest
process, as a training does that resumes from its checkpoint.
"""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

import torch

from edgeproof_configs.schema import AugmentConfig
from edgeproof_data.kinds.webdataset import WebDataset
from edgeproof_data.loader import TrainLoader
from edgeproof_deploy.runtime.preprocess import Preprocess

BATCH = 4


def whole_lines(file: Path) -> list[str]:
    return file.read_text().split("\n")[:-1] if file.exists() else []


def main() -> None:
    torch.set_num_threads(1)
    shards, cache, out = sys.argv[1:4]
    epochs, pause_seconds = int(sys.argv[4]), float(sys.argv[5])
    rank, world = int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1"))
    source = WebDataset(WebDataset.Config(root=shards, cache=cache, val="val.tar", test="test.tar"))
    images = source.split("train")
    files = [Path(out) / f"rank-{number}.txt" for number in range(world)]
    done = min(len(whole_lines(file)) for file in files)
    loader = TrainLoader(
        images,
        Preprocess(16, 16),
        AugmentConfig(flip=0.5),
        batch_size=BATCH,
        seed=3,
        workers=2,
        rank=rank,
        world=world,
    )
    kept = whole_lines(files[rank])[:done]
    files[rank].write_text("".join(f"{line}\n" for line in kept))
    with files[rank].open("a") as report:
        for epoch in range(done // loader.steps_per_epoch, epochs):
            first = done - epoch * loader.steps_per_epoch if epoch == done // loader.steps_per_epoch else 0
            for step, batch in enumerate(loader.epoch(epoch, first), first):
                seen = [images.paths[index].rpartition("/")[2] for index in batch["index"].tolist()]
                pixels = int(batch["image"].double().sum().item() * 1000)
                report.write(f"{epoch} {step} {pixels} {' '.join(seen)}\n")
                report.flush()
                time.sleep(pause_seconds)


if __name__ == "__main__":
    main()
