"""What every test can rely on: a cache folder of its own, one thread, the real data where they are."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")


@pytest.fixture(scope="session", autouse=True)
def edgeproof_cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Keep what the tests render away from the user's own cache."""
    folder = tmp_path_factory.mktemp("edgeproof-cache")
    os.environ["EDGEPROOF_CACHE"] = str(folder)
    return folder


@pytest.fixture(scope="session")
def real_data() -> Path:
    """Return the folder of the data packs, or skip."""
    place = os.environ.get("EDGEPROOF_DATA")
    if not place:
        pytest.skip("EDGEPROOF_DATA is not set: no data packs")
    return Path(place)


@pytest.fixture
def make_disk(tmp_path: Path) -> Iterator[Callable[[str], Path]]:
    """Return `make(size)`: a file system of its own with so much room, `1m` say; skip where it cannot."""
    disks: list[Path] = []

    def make(size: str) -> Path:
        place = tmp_path / f"disk{len(disks) or ''}"
        place.mkdir()
        command = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(place)]
        try:
            done = subprocess.run(command, capture_output=True, text=True, check=False)
        except FileNotFoundError:
            pytest.skip("no mount on this machine: no small disk")
        if done.returncode:
            pytest.skip(f"a small disk cannot be mounted here: {done.stderr.strip()}")
        disks.append(place)
        return place

    yield make
    for place in disks:
        subprocess.run(["umount", str(place)], check=True)
