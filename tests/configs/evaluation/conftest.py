"""A run whose student scores classes, trained in seconds."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.integration.tiny import make_recipe

CLASSIFIER = {"kind": "classifier"}


@pytest.fixture(scope="session")
def class_recipe(photos: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a recipe without a teacher, on 33 pictures of three classes."""
    return make_recipe(
        tmp_path_factory.mktemp("class-recipe"),
        photos,
        name="classes",
        teacher={"kind": "none"},
        losses=[{"kind": "cross_entropy"}],
        train={"epochs": 2, "batch_size": 8, "lr": 1e-3, "warmup_epochs": 0, "workers": 0},
        head=CLASSIFIER,
        baseline=None,
        deploy={"engines": ["onnxruntime"], "batch": [1]},
    )


@pytest.fixture(scope="session")
def class_run(class_recipe: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a run of it up to the trained student."""
    from edgeproof.ship import ship

    run = tmp_path_factory.mktemp("class-runs") / "classes"
    assert ship(str(class_recipe), overrides=[], run=run, until="train", device="cpu") == 0
    return run
