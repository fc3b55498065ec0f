from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save

from edgeproof_deploy.runtime.errors import BundleError
from edgeproof_deploy.runtime.safetensors import read_safetensors


def packed(header: Any, values: bytes = b"") -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + values


def entry(dtype: str = "F32", shape: Any = (2,), offsets: Any = (0, 8)) -> dict[str, Any]:
    return {"a": {"dtype": dtype, "shape": list(shape), "data_offsets": list(offsets)}}


@pytest.mark.parametrize("dtype", ["float32", "float16", "float64", "int64", "int32", "uint8", "int8"])
def test_read_safetensors__reads_what_the_library_writes(dtype: str) -> None:
    rng = np.random.default_rng(0)
    arrays = {
        # A cast of what the type cannot hold gives other values, and a warning, on other processors.
        "matrix": (rng.standard_normal((3, 5)) * 50).clip(0 if dtype == "uint8" else -127, 127).astype(dtype),
        "scalar": np.array(7, dtype),
        "empty": np.zeros((0, 4), dtype),
    }
    found, metadata = read_safetensors(save(arrays, {"kind": "test"}), "x")
    assert metadata == {"kind": "test"}
    assert set(found) == set(arrays)
    for name, array in arrays.items():
        assert found[name].dtype == array.dtype
        np.testing.assert_array_equal(found[name], array)


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "is cut: 0 bytes"),
        (b"1234567", "is cut: 7 bytes"),
        ((1 << 62).to_bytes(8, "little") + b"{}", "is cut or no safetensors file"),
        (packed(b"{not json"), "header is not JSON"),
        (packed(b"\xff\xfe\x00"), "header is not JSON"),
        (packed([1, 2]), "header is not a table"),
        (packed({"a": 3}), "lacks dtype, shape or data_offsets"),
        (packed({"a": {"dtype": "F32", "shape": [1], "data_offsets": [0]}}), "lacks dtype"),
        (packed(entry("BF16"), b"12345678"), "values of type 'BF16'"),
        (packed(entry(offsets=(0, 9)), b"12345678"), "do not lie in 8 bytes"),
        (packed(entry(offsets=(-8, 0)), b"12345678"), "do not lie in 8 bytes"),
        (packed(entry(offsets=(8, 0)), b"12345678"), "do not lie in 8 bytes"),
        (packed(entry(shape=(3,)), b"12345678"), "does not fill 8 bytes"),
        (packed(entry(shape=(-2,)), b"12345678"), "do not lie in"),
        (packed(entry(shape=(1.0, 2)), b"12345678"), "do not lie in"),
        (packed(entry(shape=(1 << 40, 1 << 40)), b"12345678"), "does not fill 8 bytes"),
        (packed(entry(), b"12345678more"), "holds 12 bytes of values, its header describes 8"),
        (packed({"__metadata__": {"a": 1}}), "metadata are not a table of texts"),
    ],
)
def test_read_safetensors__malformed_files_are_refused(data: bytes, words: str) -> None:
    with pytest.raises(BundleError, match=rf"head\.safetensors.*{words}"):
        read_safetensors(data, "head.safetensors")


def test_read_safetensors__random_damage_never_escapes() -> None:
    whole = save({"weight": np.arange(12, dtype=np.float32).reshape(3, 4)}, {"k": "v"})
    rng = np.random.default_rng(2)
    refused = 0
    for _ in range(400):
        data = bytearray(whole[: int(rng.integers(0, len(whole) + 1))])
        for place in rng.integers(0, max(len(data), 1), 2):
            if len(data):
                data[place] = int(rng.integers(0, 256))
        try:
            read_safetensors(bytes(data), "x")
        except BundleError:
            refused += 1
    assert refused > 300
