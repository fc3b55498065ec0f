from __future__ import annotations

from typing import Any

import pytest

from edgeproof_benchmarks.example_data import read_example
from edgeproof_configs.errors import EdgeproofError


def test_read_example__with_a_heat_map(made_up: Any):
    found = read_example(made_up.examples(1, maps=1)[0])
    assert found.heat is not None
    assert found.heat.jpeg[:2] == b"\xff\xd8"
    assert (found.heat.node, found.heat.cells) == ("layer4", (7, 7))


def test_read_example__without_one(made_up: Any):
    plain = made_up.examples(1)[0]
    assert read_example(plain).heat is None
    found = read_example(plain | {"cam": {"reason": "no map"}})
    assert found.heat is not None
    assert (found.heat.jpeg, found.heat.reason) == (b"", "no map")


@pytest.mark.parametrize("key", ["thumbnail", "cam"])
def test_read_example__a_picture_must_be_base64(made_up: Any, key: str):
    plain = made_up.examples(1)[0]
    plain[key] = "!!" if key == "thumbnail" else {"jpeg": "!!", "node": "layer4", "cells": [7, 7]}
    with pytest.raises(EdgeproofError, match="is not base64"):
        read_example(plain)
