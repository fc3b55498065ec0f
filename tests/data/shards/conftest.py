"""Shards written by hand, whole or spoilt."""

from __future__ import annotations

import io
import tarfile
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

Entry = tuple[str, bytes]
WriteShard = Callable[..., Path]


def picture(seed: int, side: int = 24) -> bytes:
    """Return the bytes of a small JPEG."""
    pixels = np.random.default_rng(seed).integers(0, 256, (side, side, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG")
    return buffer.getvalue()


def samples(start: int, count: int) -> list[Entry]:
    """Return images with a label, a caption and a json."""
    entries: list[Entry] = []
    for number in range(start, start + count):
        entries.append((f"{number:06d}.jpg", picture(number)))
        entries.append((f"{number:06d}.cls", b"cat" if number % 2 else b"dog"))
        entries.append((f"{number:06d}.txt", f"photo {number}\n".encode()))
        entries.append(
            (f"{number:06d}.json", f'{{"caption": "json {number}", "kind": {number % 2}}}'.encode())
        )
    return entries


@pytest.fixture
def write_shard(tmp_path: Path) -> WriteShard:
    """Return a function that writes a tar file of (name, bytes) and `TarInfo`s."""

    def write(name: str, entries: Sequence[Entry | tarfile.TarInfo], folder: Path | None = None) -> Path:
        file = (folder or tmp_path / "shards") / name
        file.parent.mkdir(parents=True, exist_ok=True)
        with tarfile.open(file, "w") as archive:
            for entry in entries:
                if isinstance(entry, tarfile.TarInfo):
                    archive.addfile(entry)
                    continue
                header = tarfile.TarInfo(entry[0])
                header.size = len(entry[1])
                archive.addfile(header, io.BytesIO(entry[1]))
        return file

    return write


@pytest.fixture
def make_samples() -> Callable[[int, int], list[Entry]]:
    """Return `samples`."""
    return samples


@pytest.fixture
def three_shards(write_shard: WriteShard) -> Path:
    """Return a folder of train-000, train-001 (12 samples each) and test-000 (8 samples)."""
    for number in range(2):
        write_shard(f"train-{number:03d}.tar", samples(12 * number, 12))
    return write_shard("test-000.tar", samples(100, 8)).parent


@pytest.fixture
def bomb() -> bytes:
    """Return a PNG of a few kB whose header says that it has 3.6 thousand million pixels."""
    side = (60_000).to_bytes(4, "big")
    body = b"IHDR" + side + side + bytes([8, 2, 0, 0, 0])
    chunk = (13).to_bytes(4, "big") + body + zlib.crc32(body).to_bytes(4, "big")
    data = b"IDAT" + zlib.compress(bytes(1 << 20))
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk
        + (len(data) - 4).to_bytes(4, "big")
        + data
        + zlib.crc32(data).to_bytes(4, "big")
    )
