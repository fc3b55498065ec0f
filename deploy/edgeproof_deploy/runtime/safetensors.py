"""Reading safetensors files with numpy alone.

Format: 8 bytes with the length N of the header (unsigned, little-endian), N bytes of JSON
`{name: {"dtype", "shape", "data_offsets": [start, stop]}, "__metadata__": {str: str}}`, then the values,
little-endian and in C order. Every number in the header is held against the size of the file before use.
"""

from __future__ import annotations

import json
import math
from typing import Any

import numpy as np

from edgeproof_deploy.runtime.errors import BundleError

DTYPES = {"F64": "<f8", "F32": "<f4", "F16": "<f2", "I64": "<i8", "I32": "<i4", "U8": "|u1", "I8": "|i1"}
LARGEST_HEADER_BYTES = 100_000_000


def read_safetensors(data: bytes, name: str) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """Return the arrays and the metadata of a file.

    Args:
        data: the bytes of the file.
        name: what the file is called in an error.

    Raises:
        BundleError: the file is cut, its header is not JSON, or an entry does not fit the values.
    """
    header, values = _split(data, name)
    metadata = header.pop("__metadata__", {})
    if not isinstance(metadata, dict) or not all(isinstance(value, str) for value in metadata.values()):
        raise BundleError(name, "its metadata are not a table of texts")
    arrays = {key: _array(entry, values, f"{name}, array '{key}'") for key, entry in header.items()}
    used = sum(array.nbytes for array in arrays.values())
    if used != len(values):
        raise BundleError(name, f"holds {len(values)} bytes of values, its header describes {used}")
    return arrays, metadata


def _split(data: bytes, name: str) -> tuple[dict[str, Any], memoryview]:
    if len(data) < 8:
        raise BundleError(name, f"is cut: {len(data)} bytes, a safetensors file has at least 8")
    length = int.from_bytes(data[:8], "little")
    if length > min(len(data) - 8, LARGEST_HEADER_BYTES):
        raise BundleError(
            name, f"is cut or no safetensors file: a header of {length} bytes in {len(data)} bytes"
        )
    try:
        header = json.loads(data[8 : 8 + length])
    except (ValueError, RecursionError) as error:
        raise BundleError(name, f"its header is not JSON: {error}") from error
    if not isinstance(header, dict):
        raise BundleError(name, "its header is not a table")
    return header, memoryview(data)[8 + length :]


def _array(entry: Any, values: memoryview, name: str) -> np.ndarray:
    try:
        dtype, shape, (start, stop) = entry["dtype"], entry["shape"], entry["data_offsets"]
    except (TypeError, KeyError, ValueError) as error:
        raise BundleError(name, "lacks dtype, shape or data_offsets") from error
    if not isinstance(dtype, str) or dtype not in DTYPES:
        raise BundleError(name, f"has values of type {dtype!r}, readable are {', '.join(DTYPES)}")
    whole = isinstance(shape, list) and all(type(side) is int and side >= 0 for side in [*shape, start, stop])
    if not whole or not start <= stop <= len(values):
        raise BundleError(
            name, f"shape {shape} and offsets {start}, {stop} do not lie in {len(values)} bytes"
        )
    kind = np.dtype(DTYPES[dtype])
    if stop - start != math.prod(shape) * kind.itemsize:
        raise BundleError(name, f"shape {shape} of {dtype} does not fill {stop - start} bytes")
    try:
        return np.frombuffer(values[start:stop], dtype=kind).reshape(shape).copy()
    except (ValueError, OverflowError) as error:
        # More axes than numpy has, or a side beyond its range beside one of 0.
        raise BundleError(name, f"shape {shape} cannot be an array: {error}") from error
