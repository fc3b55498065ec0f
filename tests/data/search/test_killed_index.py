"""An index that is killed while it embeds and while it joins: what was finished is kept, nothing is lost."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from edgeproof_data.folders import list_images
from edgeproof_data.search.collection import Collection

SCRIPT = Path(__file__).with_name("kill_index.py")
IMAGES, ROWS_A_PART, BATCH = 160, 32, 8


@pytest.mark.slow
def test_make_index__killed_three_times(make_images: Callable[..., Path], tmp_path: Path) -> None:
    photos = make_images(*(f"{number % 4}/{number:03d}.png" for number in range(IMAGES)))
    out = tmp_path / "out"
    out.mkdir()
    done = subprocess.run(
        [sys.executable, str(SCRIPT), str(photos), str(out)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    finished = json.loads(done.stdout)
    assert finished[0] >= 1
    assert 3 <= finished[1] < IMAGES // ROWS_A_PART
    found = Collection.open(out / "collection")
    assert list(found.names) == list_images(photos)
    assert found.figures is not None
    assert len(np.unique(found.cache.rows(range(IMAGES)), axis=0)) == IMAGES
    seen = (out / "seen").read_text().split()
    counts = Counter(seen)
    assert len(counts) == IMAGES
    # The teacher looks at images in their order: those of finished parts come first, and only once.
    first = list(dict.fromkeys(seen))
    assert {counts[one] for one in first[: finished[0] * ROWS_A_PART]} == {1}
    assert len(seen) <= IMAGES + 2 * (ROWS_A_PART + 2 * BATCH)
    assert not [file for file in (out / "collection").rglob("*") if file.name.startswith((".", "part-"))]
