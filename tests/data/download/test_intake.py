"""Fetched shards that are not whole: what they lack is fetched again, and never lost in silence."""

from __future__ import annotations

import csv
import io
import json
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.data.download.misbehaving import picture

from edgeproof_configs.errors import DataError
from edgeproof_data.download.fetching import INCOMING, finished
from edgeproof_data.download.intake import IMAGES, take_in, taken_in

pa: Any = pytest.importorskip("pyarrow")
pq: Any = pytest.importorskip("pyarrow.parquet")
URLS = [f"http://127.0.0.1/{number}.jpg" for number in range(5)]
SIZE = 3


def add(archive: tarfile.TarFile, name: str, data: bytes) -> None:
    header = tarfile.TarInfo(name)
    header.size = len(data)
    archive.addfile(header, io.BytesIO(data))


def fetched(out: Path, lost_rows: int = 0, lost_images: int = 0) -> None:
    """Write the two shards as img2dataset leaves them; the last address could not be had."""
    incoming = out / INCOMING
    incoming.mkdir(parents=True)
    for shard in range(2):
        rows, images = [], []
        for place, url in enumerate(URLS[shard * SIZE : (shard + 1) * SIZE]):
            good = url != URLS[-1]
            key = f"{shard:05d}{place:04d}"
            row = {"url": url, "label": "a", "licence": "CC0", "key": key, "error_message": None}
            rows.append(row | {"status": "success" if good else "failed_to_download"})
            images += [(f"{key}.jpg", picture(10 * shard + place))] if good else []
        whole = shard == 0
        with tarfile.open(incoming / f"{shard:05d}.tar", "w") as archive:
            for name, data in images[0 if whole else lost_images :]:
                add(archive, name, data)
        kept = rows[0 if whole else lost_rows :]
        pq.write_table(pa.Table.from_pylist(kept), incoming / f"{shard:05d}.parquet")
        (incoming / f"{shard:05d}_stats.json").write_text(json.dumps({"count": len(rows)}))


def taken(out: Path) -> list[str]:
    take_in(out, [0, 1], "files", URLS, SIZE)
    with (out / IMAGES).open(newline="") as handle:
        return [row["url"] for row in csv.DictReader(handle)]


def test_take_in__each_address_once(tmp_path: Path) -> None:
    fetched(tmp_path)
    assert taken(tmp_path) == URLS[:4]
    assert taken_in(tmp_path) == [0, 1]


def cut_tar(incoming: Path) -> None:
    file = incoming / "00001.tar"
    file.write_bytes(file.read_bytes()[:700])


def cut_table(incoming: Path) -> None:
    file = incoming / "00001.parquet"
    file.write_bytes(file.read_bytes()[:100])


def no_tar(incoming: Path) -> None:
    (incoming / "00001.tar").unlink()


@pytest.mark.parametrize(
    ("spoil", "lost", "words"),
    [
        (cut_tar, {}, "a fetched shard is cut"),
        (cut_table, {}, "a fetched shard is cut"),
        (no_tar, {}, "a fetched shard is cut"),
        (None, {"lost_rows": 1}, "1 address not in it"),
        (None, {"lost_images": 1}, "the image of http://127.0.0.1/3.jpg is not in it"),
    ],
)
def test_take_in__what_is_not_whole_counts_as_not_fetched(
    tmp_path: Path, spoil: Callable[[Path], None] | None, lost: dict[str, int], words: str
) -> None:
    fetched(tmp_path, **lost)
    if spoil is not None:
        spoil(tmp_path / INCOMING)
    with pytest.raises(DataError, match=words) as error:
        taken(tmp_path)
    assert "fetched anew" in str(error.value.fix)
    assert not (tmp_path / IMAGES).exists()
    assert (taken_in(tmp_path), finished(tmp_path / INCOMING)) == ([0], [0])
