from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from edgeproof_configs.errors import DataError
from edgeproof_data.shards.folder import shard_parts


def test_shard_parts__by_name(three_shards: Path, write_shard: Callable[..., Path], tmp_path: Path):
    write_shard("more.tar", [("a.jpg", b"x"), ("/b.jpg", b"y"), ("c.cls", b"1")])
    parts, remarks = shard_parts(three_shards, tmp_path / "cache")
    assert {name: len(images) for name, images in parts.items()} == {"": 1, "test": 8, "train": 24}
    assert parts["train"].paths[12] == "train-001.tar/000012.jpg"
    assert len(remarks) == 2


def test_shard_parts__none_of_them_has_an_image(write_shard: Callable[..., Path], tmp_path: Path):
    file = write_shard("a.tar", [("a.txt", b"x")])
    with pytest.raises(DataError, match="hold no image"):
        shard_parts(file.parent, tmp_path / "cache")
