from __future__ import annotations

import threading
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest

from edgeproof_benchmarks.streams import sweep
from edgeproof_deploy.runtime.session import OnnxSession

INPUTS = {"image": np.zeros((2, 3, 8, 8), np.float32)}


class Counted:
    """A session that notes which thread ran it and whether it was closed."""

    def __init__(self, made: list[Counted], fail: bool = False):
        self.threads: set[int] = set()
        self.closed, self.fail, self.calls = False, fail, 0
        made.append(self)

    def run(self, inputs: Mapping[str, np.ndarray], /) -> dict[str, np.ndarray]:
        self.calls += 1
        if self.fail and self.calls > 5:
            raise RuntimeError("the device is gone")
        self.threads.add(threading.get_ident())
        return {}

    def close(self) -> None:
        self.closed = True


def test_sweep__of_a_model(tiny_onnx: Path):
    found = sweep(lambda: OnnxSession(tiny_onnx, threads=1), INPUTS, [2, 1], seconds=0.05)
    assert list(found) == [1, 2]
    for streams, one in found.items():
        assert (one.streams, one.batch) == (streams, 2)
        assert one.images_per_second == pytest.approx(one.latency.n * 2 / one.seconds)
        assert one.to_dict()["latency_ms"]["n"] >= streams


def test_sweep__each_stream_has_its_own_session_and_thread():
    made: list[Counted] = []
    sweep(lambda: Counted(made), INPUTS, [3], seconds=0.02)
    own = [session.threads - {threading.get_ident()} for session in made]
    assert len(made) == 3
    assert [len(threads) for threads in own] == [1, 1, 1]
    assert len(set.union(*own)) == 3
    assert all(session.closed for session in made)


def test_sweep__an_error_of_a_stream_is_raised_and_all_are_closed():
    made: list[Counted] = []
    with pytest.raises(RuntimeError, match="the device is gone"):
        sweep(lambda: Counted(made, fail=len(made) == 1), INPUTS, [2], seconds=0.02)
    assert [session.closed for session in made] == [True, True]
