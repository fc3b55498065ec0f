"""`data plan`: what a training on so many images takes, worked out from rates that somebody measured."""

from __future__ import annotations

import json
import re
from dataclasses import asdict, dataclass

from edgeproof_configs.errors import UsageError

COUNT = re.compile(r"^(\d+(?:\.\d+)?)\s*([kKmMbB]?)$")
UNITS = {"": 1, "k": 10**3, "m": 10**6, "b": 10**9}
ROW_EXTRA_BYTES = 4 + 8 + 8 + 32 + 8 + 8
"""Of a row of a cache beside its values: norm, size, mtime, sha256, hash and order of its path. The list of
paths comes to it."""
SET_BYTES = 170
"""Of an image in the memory of each process: path, label, and where it lies in its shard. 162 were measured
with paths of 45 characters."""
TAR_BLOCKS = 3
"""Of 512 bytes a sample at least: headers of image and label, and the label."""


@dataclass(frozen=True)
class Plan:
    """Hours, bytes and cost. `fetch_hours` and `price` are None where nobody said the rate or the price."""

    images: int
    shard_bytes: int
    cache_bytes: int
    set_bytes_per_process: int
    fetch_hours: float | None
    embed_hours: float
    train_hours: float
    device_hours: float
    price: float | None


def plan(
    images: str,
    *,
    embed_rate: float,
    train_rate: float,
    devices: int,
    epochs: float,
    image_kb: float,
    dim: int,
    link_mb: float | None,
    price: float | None,
    as_json: bool,
) -> int:
    """Print what a training takes and return 0.

    Args:
        images: a number, with k, M or B behind it.
        embed_rate: images/s of the teacher on one device.
        train_rate: images/s of a training step on one device.
        devices: that share the work evenly.
        epochs: over all images.
        image_kb: of an image file.
        dim: of the embeddings.
        link_mb: MB/s at which shards are fetched, all machines together.
        price: of one device for an hour.
        as_json: print JSON.

    Raises:
        UsageError: the number is none.
    """
    count = count_of(images)
    found = worked_out(count, embed_rate, train_rate, devices, epochs, image_kb, dim, link_mb, price)
    print(json.dumps(asdict(found)) if as_json else "\n".join(lines_of(found, devices, epochs)))
    return 0


def count_of(text: str) -> int:
    """Return how many images `1M`, `2.5M` or `5B` are.

    Raises:
        UsageError: it is no such number.
    """
    match = COUNT.match(text.strip())
    count = 0 if match is None else round(float(match[1]) * UNITS[match[2].lower()])
    if count < 1:
        raise UsageError(f"'{text}' is no number of images", fix="write 250000, 1M or 5B")
    return count


def worked_out(
    count: int,
    embed_rate: float,
    train_rate: float,
    devices: int,
    epochs: float,
    image_kb: float,
    dim: int,
    link_mb: float | None,
    price: float | None,
) -> Plan:
    """Return hours, bytes and cost.

    embed = N / (R devices), train = N epochs / (R devices); the cache has 2 D + 68 bytes an image.
    """
    shard_bytes = round(count * (image_kb * 1000 + TAR_BLOCKS * 512))
    embed = count / (embed_rate * devices) / 3600
    train = count * epochs / (train_rate * devices) / 3600
    device_hours = (embed + train) * devices
    return Plan(
        images=count,
        shard_bytes=shard_bytes,
        cache_bytes=count * (2 * dim + ROW_EXTRA_BYTES),
        set_bytes_per_process=count * SET_BYTES,
        fetch_hours=None if link_mb is None else shard_bytes / (link_mb * 1e6) / 3600,
        embed_hours=embed,
        train_hours=train,
        device_hours=device_hours,
        price=None if price is None else device_hours * price,
    )


def lines_of(found: Plan, devices: int, epochs: float) -> list[str]:
    """Return the plan for a terminal."""
    lines = [
        f"{found.images:,} images on {devices} device{'s' * (devices != 1)}",
        f"  shards            {size(found.shard_bytes)}",
        f"  embedding cache   {size(found.cache_bytes)}",
        f"  memory a process  {size(found.set_bytes_per_process)} for the list of images",
    ]
    if found.fetch_hours is not None:
        lines.append(f"  fetch             {duration(found.fetch_hours)}")
    lines.append(f"  embed, once       {duration(found.embed_hours)}")
    lines.append(f"  train, {f'{epochs:g} epochs':<11}{duration(found.train_hours)}")
    lines.append(f"  device hours      {found.device_hours:,.1f}")
    if found.price is not None:
        lines.append(f"  cost              {found.price:,.0f}")
    return lines


def size(count: float) -> str:
    """Return bytes in words, in powers of 1000."""
    for unit in ("B", "kB", "MB", "GB", "TB"):
        if count < 1000:
            return f"{count:.3g} {unit}"
        count /= 1000
    return f"{count:,.3g} PB"


def duration(hours: float) -> str:
    """Return a time in words."""
    if hours < 1:
        return f"{hours * 60:.1f} minutes"
    return f"{hours:.1f} hours" if hours < 72 else f"{hours / 24:,.1f} days"
