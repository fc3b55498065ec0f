"""`kill_index.py PHOTOS OUT`: index a folder, killed with SIGKILL after some parts, twice, and then in peace.

Every attempt is a process of its own, forked from this one, so that imports are done once. OUT/seen gets a
line for each image that the teacher looked at; prints the parts that were finished at each kill, as JSON.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import signal
import sys
import time
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from edgeproof.data_index import make_index
from edgeproof.teacher_choice import TeacherChoice
from edgeproof_configs.schema import TeacherConfig
from edgeproof_data.search.collection import CARD, EMBEDDINGS
from edgeproof_deploy.runtime.preprocess import Preprocess
from edgeproof_train.teacher import Teacher, TeacherPlaces

BATCH, SIDE = 8, 16
PATIENCE_SECONDS = 60.0


class Witness(Teacher):
    """Gives mean colours, slowly, and writes down what it looks at."""

    class Config(TeacherConfig):
        """It has no settings."""

        kind: Literal["witness"] = "witness"

    def __init__(self, seen: Path):
        super().__init__(self.Config(), TeacherPlaces())
        self.seen, self.embedding_dim, self.preprocess = seen, 48, Preprocess(SIDE, SIDE)

    def _identity(self) -> dict[str, Any]:
        return {"weights_sha256": "0" * 64}

    def _encode_image(self, image_BCHW: Tensor) -> Tensor:
        with self.seen.open("a") as report:
            for one in image_BCHW:
                report.write(f"{hashlib.sha256(one.numpy().tobytes()).hexdigest()}\n")
        time.sleep(0.02)
        return torch.nn.functional.adaptive_avg_pool2d(image_BCHW, 4).flatten(1)


class Chosen(TeacherChoice):
    """The witness, whatever was said."""

    def build(self, root: Path | None = None) -> Any:
        """Return it."""
        return Witness(Path(sys.argv[2]) / "seen")


def attempt(photos: Path, out: Path) -> int:
    """Index in a new process, and return its number."""
    child = os.fork()
    if child == 0:
        with contextlib.redirect_stdout(sys.stderr):
            make_index(
                photos, out, teacher=Chosen(), index="hnsw", batch_size=BATCH, workers=0, as_json=False
            )
        os._exit(0)
    return child


def main(photos: Path, out: Path) -> None:
    torch.set_num_threads(1)
    collection, finished = out / "collection", []
    for wanted in (1, 3):
        child = attempt(photos, collection)
        last = time.monotonic() + PATIENCE_SECONDS
        while len(list((collection / EMBEDDINGS).glob("part-*.npy"))) < wanted:
            assert time.monotonic() < last
            assert os.waitpid(child, os.WNOHANG) == (0, 0)
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        assert not (collection / CARD).exists()
        finished.append(len(list((collection / EMBEDDINGS).glob("part-*.npy"))))
    # The last kill comes while parts are joined and the index is built, or just after.
    child = attempt(photos, collection)
    while not list((collection / EMBEDDINGS).glob("rows-*.npy")):
        assert os.waitpid(child, os.WNOHANG) == (0, 0)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(os.waitpid(attempt(photos, collection), 0)[1]) == 0
    print(json.dumps(finished))


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
