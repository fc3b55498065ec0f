"""What every test can rely on: a cache folder of its own, one thread, the real data where they are."""

from __future__ import annotations

import os
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
