"""Every sample of a measurement, kept beside its summary."""

from __future__ import annotations

import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from edgeproof_benchmarks.latency import Latency
from edgeproof_configs.files import write_bytes

TRACES_FILE = "traces.npz"


def write_traces(path: Path, latencies: Mapping[str, Mapping[int, Latency]]) -> None:
    """Write a .npz with the samples in milliseconds, in order, by `name/batchN`."""
    traces: dict[str, Any] = {
        f"{name.rstrip('/')}/batch{batch}": latency.trace_ms
        for name, measured in latencies.items()
        for batch, latency in measured.items()
    }
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **traces)
    write_bytes(path, buffer.getvalue())


def read_traces(path: Path) -> dict[str, np.ndarray]:
    """Return what `write_traces` wrote; nothing where there is no file."""
    if not path.exists():
        return {}
    with np.load(path, allow_pickle=False) as found:
        return {name: found[name] for name in found.files}
