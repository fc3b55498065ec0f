"""Fetching a list of addresses into shards, in a process of its own, so that a stopped one goes on."""

from __future__ import annotations

import fcntl
import math
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from edgeproof_configs.errors import EdgeproofError, MissingPackageError, UsageError
from edgeproof_configs.files import digest_of, half_written, read_json, write_json
from edgeproof_configs.progress import progress
from edgeproof_data.download.guarded import Limits
from edgeproof_data.download.url_list import Address

INCOMING = ".incoming"
CARD = "download.json"
STATS = re.compile(r"(\d{5})_stats\.json")
QUIET = {"NO_ALBUMENTATIONS_UPDATE": "1", "PYTHONWARNINGS": "ignore"}
POLL_SECONDS = 0.2


@dataclass(frozen=True)
class FetchOptions:
    """How images are fetched and stored.

    Attributes:
        image_size: shorter side that larger images are reduced to; None leaves them as large as they are.
        smallest_side: images with a shorter side below this are left out.
        quality: of the JPEG in which every image is stored anew.
        shard_size: addresses of a shard.
        processes: that fetch.
        threads: of each.
        retries: of an address that failed for a reason that may pass.
        limits: what is put up with for one image.
    """

    image_size: int | None = None
    smallest_side: int = 64
    quality: int = 95
    shard_size: int = 1_000
    processes: int = 1
    threads: int = 16
    retries: int = 1
    limits: Limits = field(default_factory=Limits)


def fetch_shards(
    addresses: Sequence[Address], out: Path, options: FetchOptions, taken_in: Collection[int] = ()
) -> list[int]:
    """Fetch all addresses into `OUT/.incoming` and return the numbers of its shards.

    Shards that an earlier, stopped call finished are kept.

    Args:
        addresses: of the list.
        out: the folder of the download, which was claimed.
        options: how images are fetched.
        taken_in: shards that need no fetching any more.

    Raises:
        MissingPackageError: img2dataset is not installed.
        EdgeproofError: shards did not finish.
    """
    wanted = list(range(math.ceil(len(addresses) / options.shard_size)))
    incoming = out / INCOMING
    if set(wanted) - set(finished(incoming)) - set(taken_in):
        _run(addresses, incoming, options)
    missing = sorted(set(wanted) - set(finished(incoming)) - set(taken_in))
    if missing:
        raise EdgeproofError(
            f"{len(missing)} of {len(wanted)} shards did not finish",
            where=incoming / "fetch.log",
            fix="look there, then run the same command again: finished shards are kept",
        )
    return wanted


def claim(out: Path, addresses: Sequence[Address], options: FetchOptions) -> None:
    """Write what a folder is for, or refuse one that is for something else."""
    card = out / CARD
    kept = ("image_size", "smallest_side", "quality", "shard_size")
    mine = {
        "addresses": len(addresses),
        "addresses_sha256": digest_of([list(one) for one in addresses]),
        **{key: getattr(options, key) for key in kept},
    }
    if card.is_file():
        known = read_json(card)
        different = [key for key in mine if known.get(key) != mine[key]]
        if different:
            raise UsageError(
                f"this folder is of another download: {', '.join(different)} differ",
                where=out,
                fix="choose another folder, or run the command that began it",
            )
        return
    if out.is_file():
        raise UsageError(
            "images are fetched into a folder, this is a file", where=out, fix="choose a new one"
        )
    if out.exists() and any(not half_written(one, CARD) for one in out.iterdir()):
        raise UsageError("this folder is not empty", where=out, fix="choose a new one")
    write_json(card, mine)


@contextmanager
def alone(out: Path) -> Iterator[None]:
    """Hold the folder of a download for this process.

    Raises:
        UsageError: another one works in it.
    """
    with (out / ".lock").open("a") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise UsageError("another download works in this folder", where=out, fix="wait for it") from error
        yield


def finished(incoming: Path) -> list[int]:
    """Return the numbers of the shards that were written to their end."""
    if not incoming.is_dir():
        return []
    found = (STATS.fullmatch(file.name) for file in incoming.iterdir())
    return sorted(int(match.group(1)) for match in found if match)


def _run(addresses: Sequence[Address], incoming: Path, options: FetchOptions) -> None:
    if find_spec("img2dataset") is None:
        raise MissingPackageError(
            "package 'img2dataset' is needed to download", fix="pip install 'edgeproof[download]'"
        )
    incoming.mkdir(parents=True, exist_ok=True)
    listed = incoming / "addresses.parquet"
    _write_list(addresses, listed)
    # img2dataset takes every .json in this folder for the record of a finished shard.
    settings = incoming / "fetch.settings"
    arguments = _settings(options, listed, incoming)
    write_json(settings, {"limits": _limits(options.limits), "img2dataset": arguments})
    command = [sys.executable, "-m", "edgeproof_data.download.fetch_process", str(settings)]
    total = math.ceil(len(addresses) / options.shard_size)
    with (
        (incoming / "fetch.log").open("ab") as log,
        progress("download", total, "shards") as shown,
        subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=log,
            stderr=log,
            env={**os.environ, **QUIET},
            start_new_session=True,
        ) as process,
    ):
        try:
            while process.poll() is None:
                time.sleep(POLL_SECONDS)
                shown.advance(len(finished(incoming)) - shown.done)
        except BaseException:
            os.killpg(process.pid, signal.SIGKILL)
            raise


def _limits(limits: Limits) -> dict[str, Any]:
    return {**asdict(limits), "opt_out": sorted(limits.opt_out)}


def _settings(options: FetchOptions, listed: Path, incoming: Path) -> dict[str, Any]:
    """Return the arguments of `img2dataset.download`."""
    return {
        "url_list": str(listed),
        "input_format": "parquet",
        "url_col": "url",
        "save_additional_columns": ["label", "licence"],
        "output_folder": str(incoming),
        "output_format": "webdataset",
        "image_size": options.image_size or 256,
        "resize_mode": "no" if options.image_size is None else "keep_ratio",
        "resize_only_if_bigger": True,
        "encode_format": "jpg",
        "encode_quality": options.quality,
        "min_image_size": options.smallest_side,
        "max_image_area": float(options.limits.most_pixels),
        "number_sample_per_shard": options.shard_size,
        "processes_count": options.processes,
        "thread_count": options.threads,
        "retries": options.retries,
        "timeout": int(max(1, options.limits.connect_seconds)),
        "extract_exif": False,
        "compute_hash": None,
        "incremental_mode": "incremental",
        "user_agent_token": options.limits.agent,
    }


def _write_list(addresses: Sequence[Address], listed: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    columns = {name: [getattr(one, name) for one in addresses] for name in Address._fields}
    table = pa.table({name: pa.array(values, pa.string()) for name, values in columns.items()})
    temporary = listed.with_suffix(".new")
    pq.write_table(table, temporary)
    temporary.replace(listed)
