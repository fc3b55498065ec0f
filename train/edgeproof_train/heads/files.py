"""Writing a head as the device reads it: `head.safetensors` and `labels.txt`."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np

from edgeproof_configs.errors import DataError, UsageError
from edgeproof_configs.files import write_bytes, write_text
from edgeproof_deploy.runtime.cache_head import CacheHead
from edgeproof_deploy.runtime.ensemble_head import EnsembleHead
from edgeproof_deploy.runtime.errors import BundleError
from edgeproof_deploy.runtime.gallery_head import GalleryHead
from edgeproof_deploy.runtime.head import HEAD_FILE, LABELS_FILE, Head, parse_head
from edgeproof_train.heads.fewer_keys import with_fewer_keys
from edgeproof_train.heads.fewer_objects import objects_within

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


class Packed(NamedTuple):
    """A head as a file.

    Attributes:
        head: that the file holds, before its numbers were narrowed.
        data: `head.safetensors`.
        notes: what was done to it, in words.
    """

    head: Head
    data: bytes
    notes: tuple[str, ...]


def save_head(head: Head, folder: Path, *, max_bytes: int | None = None, half: bool = False) -> list[Path]:
    """Write `head.safetensors` and `labels.txt` and return both; see `packed`."""
    return write_head(packed(head, max_bytes=max_bytes, half=half), folder)


def write_head(found: Packed, folder: Path) -> list[Path]:
    """Write a head and its labels into a folder, which is made if it is not there; return both files."""
    tensors, labels = folder / HEAD_FILE, folder / LABELS_FILE
    write_bytes(tensors, found.data)
    write_text(labels, labels_text(found.head))
    return [tensors, labels]


def packed(head: Head, *, max_bytes: int | None = None, half: bool = False) -> Packed:
    """Return a head as a file.

    Args:
        head: to write.
        max_bytes: largest size of `head.safetensors`. A cache whose keys vote for one label each is made to
            fit by merging keys of a label, a gallery by leaving out objects that lie near others of their
            class; any other head that is larger is refused.
        half: whether keys, and values that are no votes, are kept in half precision. Where that changes the
            scores of some of the keys by more than 2 % of their range, values stay in float32; where it is
            the keys that change them, it is refused.

    Raises:
        TooManyKeysError: a cache of coefficients does not fit; with fewer keys it has to be fitted again.
        DataError: the head does not fit, or not in half precision.
        UsageError: half precision is asked for, and the head keeps no keys.
        ValueError: a label is empty, is there twice, or holds a line break.
    """
    check_labels(head.labels)
    arrays, notes = stored_arrays(head, half=half)
    data = safetensors_bytes(arrays, head.described())
    if max_bytes is None or len(data) <= max_bytes:
        return Packed(head, data, notes)
    small = within(head, arrays, len(data), max_bytes)
    arrays, notes = stored_arrays(small, half=half)
    data = safetensors_bytes(arrays, small.described())
    before, after = (len(one.arrays()["keys"]) for one in (head, small))
    done = f"{before} keys merged to {after}"
    if isinstance(small, GalleryHead):
        done = f"{after} of {before} objects kept"
    return Packed(small, data, (f"{done} to fit {max_bytes} bytes", *notes))


def head_bytes(head: Head, *, half: bool = False) -> bytes:
    """Return `head.safetensors` of a head as it is; see `packed`."""
    return safetensors_bytes(stored_arrays(head, half=half)[0], head.described())


def stored_arrays(head: Head, *, half: bool) -> tuple[dict[str, np.ndarray], tuple[str, ...]]:
    """Return the arrays of a file in the types in which they are kept, and in words which are narrow.

    Raises:
        DataError: half precision changes what the head says.
        UsageError: half precision is asked for, and there is nothing to narrow.
    """
    arrays, changed = head.arrays(), 0.0
    if not half:
        return arrays, ()
    for kinds in (HALVED, HALVED[:1]):
        # What is beyond half precision becomes infinite, and then counts as a change without end.
        with np.errstate(over="ignore"):
            narrow = {name: array.astype(np.float16) for name, array in arrays.items() if last(name) in kinds}
        if not narrow:
            raise UsageError(
                "half precision is for the keys of a cache, and this head has none", fix="leave it out"
            )
        changed = largest_change(head, {**arrays, **narrow})
        if changed <= HALF_TOLERANCE:
            wide = any(last(name) in HALVED and name not in narrow for name in arrays)
            said = "keys in half precision, values in float32" if wide else "keys in half precision"
            return {**arrays, **narrow}, (said,)
    share = f"by {100 * changed:.0f} % of their range" if np.isfinite(changed) else "beyond all numbers"
    raise DataError(
        f"half precision changes scores of the head's own keys {share}",
        fix="keep it in float32, or fit it more smoothly (a larger ridge, a smaller beta)",
    )


def last(name: str) -> str:
    """Return the name of an array without what stands before its last dot."""
    return name.rsplit(".", 1)[-1]


def largest_change(head: Head, arrays: Mapping[str, np.ndarray]) -> float:
    """Return how far scores from other arrays are from a head's, on its keys, as a part of their range."""
    try:
        other = parse_head(safetensors_bytes(arrays, head.described()), labels_text(head).encode())
    except BundleError:
        return float("inf")
    probes = np.concatenate([array for name, array in head.arrays().items() if last(name) == "keys"])
    probes = probes[:: -(-len(probes) // MOST_PROBES)]
    scores = head.logits(probes)
    spread = float((scores.max(axis=1) - scores.min(axis=1)).max())
    return float(np.abs(other.logits(probes) - scores).max()) / spread if spread else 0.0


def within(head: Head, arrays: Mapping[str, np.ndarray], size: int, max_bytes: int) -> Head:
    """Return a head that takes at most so many bytes as a file.

    Args:
        head: that takes more.
        arrays: what it is stored as.
        size: the bytes that it takes.
        max_bytes: that it may take.

    Raises:
        DataError: it has no keys that can be merged, or even one a label is too many.
    """
    told = f"the head takes {size} bytes, {max_bytes} are allowed"
    if isinstance(head, CacheHead):
        return with_fewer_keys(head, arrays, size, max_bytes)
    if not isinstance(head, GalleryHead):
        fix = "save its members in fewer keys" if isinstance(head, EnsembleHead) else "allow more"
        raise DataError(told, fix=f"{fix}, or choose another head: edgeproof ls heads")
    kept = objects_within(head, size, max_bytes, arrays["keys"].itemsize)
    if kept is None:
        raise DataError(f"{told}: not one object of each class fits", fix="allow more")
    return kept


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
