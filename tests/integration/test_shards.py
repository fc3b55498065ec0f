"""From a run to shards with embeddings beside them, and from these to a bundle."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from tests.integration.tiny import make_data, make_recipe

from edgeproof.__main__ import main
from edgeproof_data.cache import EmbeddingCache

pytestmark = pytest.mark.integration


def test_ship__from_shards_with_the_embeddings_that_lie_beside_them(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("pyarrow")
    photos, run, shards = make_data(tmp_path / "data"), tmp_path / "first", tmp_path / "shards"
    assert main(["embed", str(make_recipe(tmp_path, photos)), "--run", str(run)]) == 0
    assert main(["data", "export", str(run), str(shards), "--shards", "10", "--dtype", "float32"]) == 0
    assert main(["data", "import", str(shards), str(shards / "rows.csv")]) == 0
    assert "27 train, 9 val, 18 test, 3 classes" in capsys.readouterr().out
    for name in ("text.npy", "labels.txt"):
        (shards / name).write_bytes((photos / name).read_bytes())
    data = {"kind": "webdataset", "root": str(shards), "val": "val*.tar", "classes": "classes.txt"}
    stored = [{"embeddings": "rows.npy", "index": "rows.index.csv"}]
    teacher = {"kind": "stored", "view": "assume_invariant", "files": stored}
    recipe = make_recipe(tmp_path, shards, data=data, teacher=teacher, baseline=None)
    assert yaml.safe_load(recipe.read_text())["data"]["kind"] == "webdataset"
    done = subprocess.run(
        [sys.executable, "-m", "edgeproof", "ship", str(recipe), "--run", str(tmp_path / "second")],
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | {"EDGEPROOF_CACHE": str(tmp_path / "cache")},
    )
    assert done.returncode == 0, done.stdout + done.stderr
    second = tmp_path / "second"
    assert len(EmbeddingCache.open(second / "embed" / "train")) == 27
    assert (second / "bundle" / "manifest.json").exists()
    result = json.loads((second / "result.json").read_text())
    teacher_row = next(row for row in result["rows"] if row["form"] == "teacher")
    assert teacher_row["metrics"]["top1"] == 1.0
