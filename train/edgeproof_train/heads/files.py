"""Writing a head as the device reads it: `head.safetensors` and `labels.txt`."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from edgeproof_configs.errors import DataError, UsageError
from edgeproof_configs.files import write_bytes, write_text
from edgeproof_deploy.runtime.cache_head import CacheHead
from edgeproof_deploy.runtime.class_values import ClassValues
from edgeproof_deploy.runtime.ensemble_head import EnsembleHead
from edgeproof_deploy.runtime.gallery_head import GalleryHead
from edgeproof_deploy.runtime.head import HEAD_FILE, LABELS_FILE, Head, parse_head
from edgeproof_train.heads.fewer_objects import objects_within
from edgeproof_train.heads.merged_keys import merge_keys

HALVED = ("keys", "values")
"""Arrays that can be kept in half precision, whatever stands before their last dot."""
HALF_TOLERANCE = 0.02
MOST_PROBES = 512
DTYPES = {
    "float64": "F64",
    "float32": "F32",
    "float16": "F16",
    "int64": "I64",
    "int32": "I32",
    "uint8": "U8",
}


def save_head(head: Head, folder: Path, *, max_bytes: int | None = None, half: bool = False) -> list[Path]:
    """Write `head.safetensors` and `labels.txt` and return both.

    Args:
        head: to write.
        folder: where; it is made if it is not there.
        max_bytes: largest size of `head.safetensors`. A cache whose keys vote for one label each is made to
            fit by merging keys of a label, a gallery by leaving out objects that lie near others of their
            class; any other head that is larger is refused.
        half: whether keys, and values that are no votes, are kept in half precision. Where that changes the
            scores of some of the keys by more than 2 % of their range, it is refused.

    Raises:
        DataError: the head does not fit, or not in half precision.
        UsageError: half precision is asked for, and the head keeps no keys.
        ValueError: a label is empty, is there twice, or holds a line break.
    """
    check_labels(head.labels)
    data = head_bytes(head, half=half)
    if max_bytes is not None and len(data) > max_bytes:
        data = head_bytes(within(head, len(data), max_bytes, half=half), half=half)
    tensors, labels = folder / HEAD_FILE, folder / LABELS_FILE
    write_bytes(tensors, data)
    write_text(labels, labels_text(head))
    return [tensors, labels]


def head_bytes(head: Head, *, half: bool = False) -> bytes:
    """Return `head.safetensors` of a head; see `save_head`.

    Raises:
        DataError: half precision changes what it says.
        UsageError: half precision is asked for, and there is nothing to narrow.
    """
    arrays = head.arrays()
    if not half:
        return safetensors_bytes(arrays, head.described())
    narrow = {name: array.astype(np.float16) for name, array in arrays.items() if is_halved(name)}
    if not narrow:
        raise UsageError(
            "half precision is for the keys of a cache, and this head has none", fix="leave it out"
        )
    data = safetensors_bytes({**arrays, **narrow}, head.described())
    changed = largest_change(head, parse_head(data, labels_text(head).encode()))
    if changed > HALF_TOLERANCE:
        raise DataError(
            f"half precision changes scores of the head's own keys by {100 * changed:.0f} % of their range",
            fix="keep it in float32, or fit it more smoothly (a larger lambda)",
        )
    return data


def is_halved(name: str) -> bool:
    """Whether an array can be kept in half precision."""
    return name.rsplit(".", 1)[-1] in HALVED


def largest_change(head: Head, other: Head) -> float:
    """Return how far two heads are apart on the keys of the first, as a part of the range of its scores."""
    probes = np.concatenate([array for name, array in head.arrays().items() if name.split(".")[-1] == "keys"])
    probes = probes[:: -(-len(probes) // MOST_PROBES)]
    scores = head.logits(probes)
    spread = float((scores.max(axis=1) - scores.min(axis=1)).max())
    return float(np.abs(other.logits(probes) - scores).max()) / spread if spread else 0.0


def within(head: Head, size: int, max_bytes: int, *, half: bool) -> Head:
    """Return a head that takes at most so many bytes as a file.

    Args:
        head: that takes more.
        size: the bytes that it takes.
        max_bytes: that it may take.
        half: whether its keys are kept in half precision.

    Raises:
        DataError: it has no keys that can be merged, or even one a label is too many.
    """
    told = f"the head takes {size} bytes, {max_bytes} are allowed"
    if isinstance(head, GalleryHead):
        kept = objects_within(head, size, max_bytes, 2 if half else 4)
        if kept is None:
            raise DataError(f"{told}: not one object of each class fits", fix="allow more")
        return kept
    if not isinstance(head, CacheHead):
        fix = "save its members in fewer keys" if isinstance(head, EnsembleHead) else "allow more"
        raise DataError(told, fix=f"{fix}, or choose another head: edgeproof ls heads")
    width, values = 2 if half else 4, head.values
    per_key = head.dim * width + (8 if isinstance(values, ClassValues) else len(head.labels) * width)
    keys = max(0, len(head.keys) - -(-(size - max_bytes) // per_key))
    if not isinstance(values, ClassValues):
        other = "" if half else ", or keep it in half precision"
        raise DataError(told, fix=f"fit it with max_keys: {keys} at most{other}")
    classes = len(np.unique(values.classes))
    if keys < classes:
        raise DataError(f"{told}: {keys} keys for {classes} labels", fix="allow more")
    return merge_keys(head, keys)


def check_labels(labels: tuple[str, ...]) -> None:
    """Raise ValueError where labels cannot be written one a line and told apart."""
    if any("\n" in label for label in labels):
        raise ValueError("a label holds a line break")
    if len(set(labels)) != len(labels) or not all(labels):
        raise ValueError("a label is empty or there twice")


def labels_text(head: Head) -> str:
    """Return `labels.txt` of a head."""
    return "".join(f"{label}\n" for label in head.labels)


def safetensors_bytes(arrays: Mapping[str, np.ndarray], metadata: Mapping[str, str]) -> bytes:
    """Return a safetensors file, the same for the same content.

    The package `safetensors` writes the same file, but for the metadata, whose order it draws anew each time.
    Wide types come first, as there, so that all values are aligned.
    """
    names = sorted(arrays, key=lambda name: (-arrays[name].itemsize, name))
    header: dict[str, object] = {"__metadata__": dict(sorted(metadata.items()))} if metadata else {}
    start = 0
    for name in names:
        array = arrays[name]
        stop = start + array.nbytes
        header[name] = {
            "dtype": DTYPES[array.dtype.name],
            "shape": list(array.shape),
            "data_offsets": [start, stop],
        }
        start = stop
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)
    values = [np.ascontiguousarray(arrays[name]).tobytes() for name in names]
    return b"".join([len(text).to_bytes(8, "little"), text, *values])
