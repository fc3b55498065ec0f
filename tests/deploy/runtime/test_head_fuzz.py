"""Seeded damage to heads of every form, a thousand times each: numbers or an error of ours."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save
from tests.deploy.runtime.fitted_heads import FORMS, make_head
from tests.deploy.runtime.test_fuzz import COUNT, damaged_bytes, refusals, texts_of

from edgeproof_deploy.runtime.errors import BundleError
from edgeproof_deploy.runtime.head import read_head

pytestmark = pytest.mark.timeout(300)

ROWS = np.random.default_rng(0).standard_normal((2, 8)).astype(np.float32)


def ask(data: bytes, labels: bytes) -> None:
    """Read a head and use it in every way; a head that can be read gives finite numbers."""
    holder: Any = SimpleNamespace(read={"head.safetensors": data, "labels.txt": labels}.__getitem__)
    head = read_head(holder)
    if head.dim > 1000:
        # A classifier of very many scores makes sense, but not here.
        return
    rows = np.resize(ROWS, (2, head.dim)).astype(np.float32)
    shares = head.probabilities(rows)
    assert shares.shape == (2, len(head.labels))
    assert np.isfinite(shares).all()
    some = head.take([len(head.labels) - 1, 0][: len(head.labels)])
    assert np.isfinite(some(rows)).all()


def attempts(form: str, damage: str, count: int) -> Iterator[Callable[[], object]]:
    head = make_head(form, shots=2)
    # A fixed order of the metadata, since the package draws one.
    data, draw = ordered(save(head.arrays(), head.described())), random.Random(FORMS.index(form))
    labels = "".join(f"{label}\n" for label in head.labels).encode()
    length = int.from_bytes(data[:8], "little")
    values = data[8 + length :]
    if damage == "header":
        for text in texts_of(json.loads(data[8 : 8 + length]), count, FORMS.index(form)):
            changed = len(text).to_bytes(8, "little") + text + values
            yield lambda: ask(changed, labels)
    elif damage == "values":
        for _ in range(count):
            worse = damaged_bytes(values, draw)[: len(values)].ljust(len(values), b"\x7f")
            changed = data[: 8 + length] + worse
            yield lambda: ask(changed, labels)
    else:
        for number in range(count):
            changed, names = (
                (damaged_bytes(data, draw), labels) if number % 4 else (data, damaged_bytes(labels, draw))
            )
            yield lambda: ask(changed, names)


def ordered(data: bytes) -> bytes:
    length = int.from_bytes(data[:8], "little")
    text = json.dumps(json.loads(data[8 : 8 + length]), sort_keys=True).encode()
    return len(text).to_bytes(8, "little") + text + data[8 + length :]


@pytest.mark.parametrize("count", [100, pytest.param(COUNT, marks=pytest.mark.slow)])
@pytest.mark.parametrize("damage", ["bytes", "header", "values"])
@pytest.mark.parametrize("form", [form for form in FORMS if form not in ("zero_shot", "classifier")])
def test_read_head__damaged(form: str, damage: str, count: int) -> None:
    least = {"bytes": count // 2, "header": count // 2, "values": 0}[damage]
    assert refusals(attempts(form, damage, count), BundleError) >= least
