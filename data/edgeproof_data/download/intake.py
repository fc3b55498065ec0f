"""From fetched shards to a set of images: each is decoded, named by its content, kept once, and logged."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import tarfile
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

from edgeproof_configs.errors import DataError
from edgeproof_configs.files import atomic_open, write_bytes, write_text
from edgeproof_configs.progress import progress
from edgeproof_data.download.fetching import INCOMING
from edgeproof_data.paths import counted
from edgeproof_deploy.runtime.preprocess import ImageError, open_image

Format = Literal["files", "webdataset"]
IMAGES, FAILED, LOG = "images.csv", "failed.csv", "log"
TAKEN, TWIN = "taken", "the same image again"
TAR_DATE = 0
"""Of every file in a shard: the same images give the same bytes."""


class Line(NamedTuple):
    """What became of an address. `path` is where its image is; in a shard `shard.tar/name`."""

    path: str
    prompt: str
    url: str
    status: str
    sha256: str
    width: str
    height: str
    licence: str


@dataclass(frozen=True)
class Intake:
    """Counts of a finished download, by what became of the addresses."""

    taken: int
    reasons: dict[str, int]


def taken_in(out: Path) -> list[int]:
    """Return the numbers of the shards that were checked and stored to their end."""
    return sorted(int(log.stem) for log in (out / LOG).glob("*.csv") if log.stem.isdigit())


def take_in(out: Path, shards: Sequence[int], form: Format, urls: Sequence[str], shard_size: int) -> Intake:
    """Check the images of fetched shards, store them, and write `images.csv` and `failed.csv`.

    Args:
        out: the folder of the download.
        shards: the numbers of its shards, all fetched.
        form: `files` (`images/ab/abcd….jpg`) or `webdataset` (`shards/00000.tar`).
        urls: of all addresses, in the order of the list.
        shard_size: addresses of a shard.

    Raises:
        DataError: a shard is cut or lacks addresses, or no image could be had.
    """
    seen: set[str] = set()
    lines: list[Line] = []
    with progress("check", len(shards), "shards") as shown:
        for shard in shards:
            log = out / LOG / f"{shard:05d}.csv"
            if not log.exists():
                _take_shard(out, shard, form, seen, urls[shard * shard_size : (shard + 1) * shard_size])
            told = read_log(log)
            seen |= {line.sha256 for line in told if line.status == TAKEN}
            lines += told
            shown.advance()
    taken = [line for line in lines if line.status == TAKEN]
    write_text(out / FAILED, _csv([line for line in lines if line.status != TAKEN]))
    if not taken:
        raise DataError(
            "no image could be had",
            where=out / FAILED,
            fix="the reason of each is there; to ask once more name a new folder",
        )
    write_text(out / IMAGES, _csv(taken))
    return told_before(out)


def told_before(out: Path) -> Intake:
    """Return the counts of a download that was finished."""
    reasons = Counter(_sort_of(line.status) for line in read_log(out / FAILED))
    return Intake(len(read_log(out / IMAGES)), dict(reasons.most_common()))


def read_log(file: Path) -> list[Line]:
    """Return the lines of a log."""
    with file.open(encoding="utf-8", newline="") as handle:
        return [Line(**row) for row in csv.DictReader(handle)]


def _take_shard(out: Path, shard: int, form: Format, seen: set[str], urls: Sequence[str]) -> None:
    """Store the images of a shard and write its log, last."""
    source = out / INCOMING / f"{shard:05d}.tar"
    known, lines, kept = set(seen), [], []
    for told, data in _samples(source, urls):
        line = _line(told)
        if data is not None:
            line = _checked(line, data, known)
            if line.status == TAKEN:
                known.add(line.sha256)
                inside = f"images/{line.sha256[:2]}" if form == "files" else f"shards/{shard:05d}.tar"
                line = line._replace(path=f"{inside}/{line.sha256}.jpg")
                kept.append((line, data))
        lines.append(line)
    if form == "files":
        for line, data in kept:
            write_bytes(out / line.path, data)
    else:
        _write_shard(out / "shards" / f"{shard:05d}.tar", kept)
    write_text(out / LOG / f"{shard:05d}.csv", _csv(lines))
    source.unlink(missing_ok=True)


def _samples(source: Path, urls: Sequence[str]) -> Iterator[tuple[dict[str, Any], bytes | None]]:
    """Yield what the table beside a shard says of each address, in its order, with the image if there is one.

    Raises:
        DataError: shard or table are cut, or an address is not in it; they count as not fetched from here on.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        table = pq.read_table(source.with_suffix(".parquet"))
        rows = sorted(table.to_pylist(), key=lambda row: row["key"])
        lost = set(urls) - {row["url"] for row in rows}
        if lost:
            raise EOFError(f"{counted(len(lost), 'address', 'addresses')} not in it")
        with tarfile.open(source, "r:") as archive:
            members = {member.name: member for member in archive if member.isreg()}
            for row in rows:
                member = members.get(f"{row['key']}.jpg")
                handle = None if member is None else archive.extractfile(member)
                if handle is None and row["status"] == "success":
                    raise EOFError(f"the image of {row['url']} is not in it")
                yield row, None if handle is None else handle.read()
    except (tarfile.TarError, pa.ArrowException, OSError, EOFError, KeyError) as error:
        source.with_name(f"{source.stem}_stats.json").unlink(missing_ok=True)
        raise DataError(
            f"a fetched shard is cut: {error}",
            where=source,
            fix="run the same command again: this shard is fetched anew",
        ) from error


def _line(told: dict[str, Any]) -> Line:
    reason = str(told.get("error_message") or told.get("status") or "no image")
    return Line("", told.get("label") or "", told["url"], reason, "", "", "", told.get("licence") or "")


def _checked(line: Line, data: bytes, known: set[str]) -> Line:
    digest = hashlib.sha256(data).hexdigest()
    try:
        width, height = open_image(data).size
    except ImageError as error:
        return line._replace(status=f"does not decode: {error.reason}")
    status = TWIN if digest in known else TAKEN
    return line._replace(status=status, sha256=digest, width=str(width), height=str(height))


def _write_shard(target: Path, kept: Sequence[tuple[Line, bytes]]) -> None:
    with (
        atomic_open(target) as handle,
        tarfile.open(fileobj=handle, mode="w", format=tarfile.USTAR_FORMAT) as archive,
    ):
        for line, data in kept:
            told = {"url": line.url, "licence": line.licence, "prompt": line.prompt, "sha256": line.sha256}
            parts = {"jpg": data, "json": json.dumps(told, ensure_ascii=False).encode()}
            if line.prompt:
                parts["txt"] = line.prompt.encode()
            for suffix, content in parts.items():
                info = tarfile.TarInfo(f"{line.sha256}.{suffix}")
                info.size, info.mtime = len(content), TAR_DATE
                archive.addfile(info, io.BytesIO(content))


def _csv(lines: Sequence[Line]) -> str:
    text = io.StringIO(newline="")
    csv.writer(text, lineterminator="\n").writerows([Line._fields, *lines])
    return text.getvalue()


def _sort_of(status: str) -> str:
    """Return a reason without what is particular to one image."""
    return status.split(":")[0]
