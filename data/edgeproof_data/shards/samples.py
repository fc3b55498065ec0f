"""From the members of shards to samples: an image with its label and its captions.

As WebDataset has it, the members of a sample share their name up to the first dot after the last slash, the
key; what follows is the member's suffix. `0001.jpg`, `0001.cls` and `0001.json` are one sample.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from edgeproof_configs.errors import DataError
from edgeproof_data.folders import IMAGE_SUFFIXES
from edgeproof_data.paths import counted, some_of
from edgeproof_data.shards.index import ShardIndex
from edgeproof_data.shards.members import MEMBER_DTYPE, Shards

LARGEST_TEXT_BYTES = 1 << 20
JSON = "json."
"""What `json.key` begins with: the value at this key of the sample's json."""
FOLDERS = "folders"


class Wanted(NamedTuple):
    """Which members of a sample say what.

    Attributes:
        image: suffix of the image; None takes the only one there is.
        label: `cls` or another suffix, `json.KEY`, `folders` (the first part of the member's name), or None.
        caption: `txt` or another suffix, `json.KEY`, or None.
    """

    image: str | None
    label: str | None
    caption: str | None


@dataclass(frozen=True, eq=False)
class Samples:
    """The samples of some shards, in order.

    Attributes:
        paths: `SHARD/MEMBER` of each image.
        members: records of `MEMBER_DTYPE`.
        labels: as they stand in the shards, stripped; None where they are not asked for.
        captions: of each image; None where they are not asked for.
        remarks: what was left out.
    """

    paths: list[str]
    members: NDArray[np.void]
    labels: list[str] | None
    captions: list[list[str]] | None
    remarks: list[str]


def read_samples(
    names: Sequence[str], indices: Sequence[ShardIndex], shards: Shards, first: int, wanted: Wanted
) -> Samples:
    """Return the samples of some shards.

    Args:
        names: what each shard is called in paths.
        indices: of these shards.
        shards: that the members are read from.
        first: position of the first of these shards in `shards`.
        wanted: which members say what.

    Raises:
        DataError: a sample has several images, or lacks its label or caption, or one cannot be read.
    """
    paths: list[str] = []
    blocks: list[NDArray[np.void]] = []
    labels: list[str] = []
    captions: list[list[str]] = []
    without: list[str] = []
    for place, (shard, index) in enumerate(zip(names, indices, strict=True), first):
        listed = index.names()
        grouped = _grouped(listed)
        chosen = []
        for key, suffixes in grouped.items():
            at = _image_of(key, suffixes, wanted.image, index)
            if at is None:
                without.append(f"{shard}/{key}")
                continue
            chosen.append(at)
            sample = _Sample(key, suffixes, index, shards, place)
            if wanted.label is not None:
                labels.append(sample.text(wanted.label, "label"))
            if wanted.caption is not None:
                captions.append(sample.texts(wanted.caption))
        paths += [f"{shard}/{listed[at]}" for at in chosen]
        blocks.append(_records(index, chosen, place))
    remarks = _left_out(indices)
    if without:
        remarks.append(f"{counted(len(without), 'sample')} without an image: {some_of(without)}")
    return Samples(
        paths,
        np.concatenate(blocks) if blocks else np.zeros(0, MEMBER_DTYPE),
        None if wanted.label is None else labels,
        None if wanted.caption is None else captions,
        remarks,
    )


@dataclass(frozen=True, eq=False)
class _Sample:
    """A sample's members by suffix, as positions in the index of its shard."""

    key: str
    members: dict[str, int]
    index: ShardIndex
    shards: Shards
    shard: int

    def text(self, source: str, what: str) -> str:
        """Return what one of its members, or its name, says."""
        if source == FOLDERS:
            folder, slash, _ = self.key.partition("/")
            if not slash:
                raise self._error(f"lies in no folder, so that it has no {what}")
            return folder
        value = self._value(source, what)
        if not isinstance(value, str | int) or isinstance(value, bool) or not str(value).strip():
            raise self._error(f"has a {what} that is no text or number: {str(value)[:40]!r}")
        return str(value).strip()

    def texts(self, source: str) -> list[str]:
        """Return its captions, one or several."""
        value = self._value(source, "caption")
        values = value if isinstance(value, list) else [value]
        if not values or not all(isinstance(one, str) and one.strip() for one in values):
            raise self._error(f"has a caption that is empty or no text: {str(value)[:40]!r}")
        return [one.strip() for one in values]

    def _value(self, source: str, what: str) -> Any:
        suffix, key = ("json", source[len(JSON) :]) if source.startswith(JSON) else (source, None)
        at = self.members.get(suffix)
        if at is None:
            raise self._error(f"has no member .{suffix}, which is to say its {what}")
        record = self.index.members[at]
        if record["size"] > LARGEST_TEXT_BYTES:
            raise self._error(f"has a .{suffix} of {record['size']:,} bytes")
        data = self.shards.read(self.shard, int(record["offset"]), int(record["size"]))
        try:
            text = data.decode("utf-8-sig")
            value: Any = text if key is None else json.loads(text)
        except (UnicodeDecodeError, json.JSONDecodeError, RecursionError) as error:
            raise self._error(f"has a .{suffix} that cannot be read: {str(error)[:80]}") from error
        if key is None:
            return value
        if not isinstance(value, dict) or key not in value:
            raise self._error(f"has no '{key}' in its .json, which is to say its {what}")
        return value[key]

    def _error(self, how: str) -> DataError:
        return DataError(
            f"the sample '{self.key}' {how}", where=self.index.shard, fix="set data.labels or data.captions"
        )


def _grouped(names: Sequence[str]) -> dict[str, dict[str, int]]:
    """Return for each key the position of each of its members by suffix, in the order of first members."""
    grouped: dict[str, dict[str, int]] = {}
    for position, name in enumerate(names):
        folder, slash, last = name.rpartition("/")
        stem, _, suffix = last.partition(".")
        grouped.setdefault(f"{folder}{slash}{stem}", {})[suffix] = position
    return grouped


def _image_of(key: str, suffixes: dict[str, int], wanted: str | None, index: ShardIndex) -> int | None:
    if wanted is not None:
        return suffixes.get(wanted)
    images = [suffix for suffix in suffixes if f".{suffix.lower()}".endswith(IMAGE_SUFFIXES)]
    if len(images) > 1:
        raise DataError(
            f"the sample '{key}' has {len(images)} images: {some_of(images)}",
            where=index.shard,
            fix=f"say which one: --set data.image={images[0]}",
        )
    return suffixes[images[0]] if images else None


def _records(index: ShardIndex, chosen: Sequence[int], shard: int) -> NDArray[np.void]:
    records = np.zeros(len(chosen), MEMBER_DTYPE)
    found = index.members[np.array(chosen, np.int64)]
    records["shard"] = shard
    for name in ("offset", "size", "sha256"):
        records[name] = found[name]
    return records


def _left_out(indices: Sequence[ShardIndex]) -> list[str]:
    counts: dict[str, int] = {}
    named: dict[str, list[str]] = {}
    for index in indices:
        for reason, (count, names) in index.left_out.items():
            counts[reason] = counts.get(reason, 0) + count
            named.setdefault(reason, []).extend(f"{index.shard.name}: {name}" for name in names)
    return [
        f"{counted(count, 'member')} left out ({reason}): {', '.join(named[reason][:3])}"
        for reason, count in counts.items()
    ]
