"""Every shipped recipe trains: a small copy of it, on the built-in solids, and its loss falls."""

from __future__ import annotations

import math
from typing import Any

import pytest
from tests.configs.scaled_recipes import Scaled

from edgeproof_configs.loader import recipe_names

pytestmark = pytest.mark.integration
ONE_OF_EACH_FAMILY = (
    "clip-kd-vit-b-16-vit-tiny",
    "cub200-mobilenetv2-mgd-resnet50",
    "cub200-mobilenetv2-r-drop",
    "imagenet-seen-unseen",
    "landmark-swin-t",
    "mv-alexnet-dinov2-relation",
)


@pytest.fixture(scope="session")
def scaled(tmp_path_factory: pytest.TempPathFactory) -> Scaled:
    return Scaled(tmp_path_factory.mktemp("scaled"))


def named(name: str) -> Any:
    return pytest.param(name, marks=() if name in ONE_OF_EACH_FAMILY else (pytest.mark.slow,))


@pytest.mark.parametrize("name", [named(name) for name in recipe_names()])
def test_train__loss_of_a_shipped_recipe_falls(name: str, scaled: Scaled) -> None:
    rows = scaled.train(name)
    assert len(rows) == 2
    assert rows[-1]["loss"] < rows[0]["loss"]
    for term in rows[-1]["losses"].values():
        assert math.isfinite(term["raw"])
