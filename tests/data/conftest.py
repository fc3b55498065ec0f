"""Small pictures on disk, and a small disk."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

MakeImages = Callable[..., Path]
DISK_BYTES = 1 << 20


@pytest.fixture
def make_images(tmp_path: Path) -> MakeImages:
    """Return a function that writes pictures, each different, below a folder and returns the folder."""

    def make(*paths: str, size: tuple[int, int] = (24, 20), root: Path | None = None) -> Path:
        root = root or tmp_path / "photos"
        for path in paths:
            file = root / path
            file.parent.mkdir(parents=True, exist_ok=True)
            seed = np.frombuffer(path.encode(), np.uint8)
            coarse = np.random.default_rng(seed).integers(0, 256, (5, 6, 3), dtype=np.uint8)
            image = Image.fromarray(coarse).resize(size, Image.Resampling.BICUBIC)
            image.save(file)
        return root

    return make


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """Return a disk of its own with room for `DISK_BYTES`."""
    place = tmp_path / "disk"
    place.mkdir()
    if shutil.which("mount") is None or os.geteuid() != 0:
        pytest.skip("mounting a small disk needs root")
    command = ["mount", "-t", "tmpfs", "-o", f"size={DISK_BYTES}", "tmpfs", str(place)]
    if subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip("this machine does not let the test mount a small disk")
    yield place
    subprocess.run(["umount", str(place)], check=True)
