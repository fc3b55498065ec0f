"""`evaluate` under `torchrun`: two processes on gloo leave what one leaves, to the bit."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from tests.integration.tiny import make_data, make_recipe

from edgeproof.evaluation.sharing import share_of, shared_rows
from edgeproof.processes import ALONE, Processes
from edgeproof.ship import ship
from edgeproof_data.sets import ImageSet, unlabelled

TORCHRUN = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
IMAGES = 135
"""Two batches of 64 and one of 7, so that two processes have 71 and 64 images."""


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Return a recipe with an odd number of test images, few of `val`, and a run of it up to the student."""
    folder = tmp_path_factory.mktemp("shared")
    data = make_data(folder / "data", train=8, test=IMAGES // 3)
    recipe = make_recipe(folder, data, baseline=None)
    assert ship(str(recipe), overrides=["train.epochs=1"], run=folder / "run", until="train") == 0
    return recipe, folder / "run"


@pytest.mark.integration
@pytest.mark.parametrize("of", ["a run, with ten crops", pytest.param("weights", marks=pytest.mark.slow)])
def test_evaluate__two_processes_leave_what_one_leaves(
    of: str, trained: tuple[Path, Path], edgeproof: Callable[..., tuple[int, str, str]], tmp_path: Path
) -> None:
    recipe, run = trained
    what = [recipe, "--weights", run / "train"] if of == "weights" else [run, "--tta"]
    one, two = tmp_path / "one", tmp_path / "two"
    code, out, err = edgeproof("evaluate", *what, "--device", "cpu", "--out", one)
    assert code == 0, err
    words = ["evaluate", *map(str, what), "--device", "cpu", "--out", str(two)]
    done = subprocess.run(
        [*TORCHRUN, "-m", "--", "edgeproof", *words], capture_output=True, text=True, check=False, timeout=500
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.replace(str(two), str(one)) == out
    assert len(np.load(two / "features.npy")) == IMAGES
    written = sorted(file.name for file in one.iterdir())
    assert {"metrics.json", "features.npy", "right.csv"} <= set(written)
    assert sorted(file.name for file in two.iterdir()) == written
    for name in written:
        assert (two / name).read_bytes() == (one / name).read_bytes(), name


@pytest.mark.parametrize("world", [1, 2, 3, 5])
@pytest.mark.parametrize("count", [0, 1, 63, 64, 129, 200])
def test_share_of__every_image_belongs_to_one_process(count: int, world: int) -> None:
    shares = [share_of(Processes(rank, world), count, 64) for rank in range(world)]
    assert sorted(np.concatenate(shares)) == list(range(count))
    assert max(map(len, shares)) - min(map(len, shares)) <= 64


def test_share_of__whole_batches_in_turn() -> None:
    shares = [share_of(Processes(rank, 2), 7, 2).tolist() for rank in (0, 1)]
    assert shares == [[0, 1, 4, 5], [2, 3, 6]]


def test_shared_rows__one_process_computes_all() -> None:
    def compute(images: ImageSet) -> np.ndarray:
        return np.array([[float(len(path))] for path in images.paths])

    images = unlabelled(Path("photos"), ["a", "bb", "ccc"])
    assert shared_rows(ALONE, images, compute, 2).tolist() == [[1.0], [2.0], [3.0]]
