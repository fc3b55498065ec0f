"""A trained run to compress: 36 pictures, stored embeddings, a student of timm's test family."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tests.integration.tiny import make_data, make_recipe

from edgeproof_configs.files import FileTable
from edgeproof_configs.loader import load_recipe
from edgeproof_configs.run import RunDir
from edgeproof_configs.schema import Recipe
from edgeproof_configs.stage import StageContext
from edgeproof_train.stages import embed_stage, train_stage

TRAIN = {
    "epochs": 2,
    "batch_size": 8,
    "lr": 1e-3,
    "warmup_epochs": 0.5,
    "workers": 0,
    "augment": {"flip": 0.5},
    "ema": 0.9,
    "checkpoint_every_steps": 1,
}
LOSSES = [
    {"kind": "cosine_embedding"},
    {"kind": "text_cross_entropy", "weight": 0.1, "logit_scale": 10.0, "learn_logit_scale": True},
]
MakeContext = Callable[..., StageContext]


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Return a recipe with sparsity, and the run that has trained it."""
    folder = tmp_path_factory.mktemp("compress")
    compress = {"sparsity": {"epochs": 2, "permute_seconds": 0.5}}
    recipe = make_recipe(
        folder, make_data(folder / "data"), train=TRAIN, losses=LOSSES, compress=compress, baseline=None
    )
    context = context_of(recipe, folder / "run")
    for stage, function in (("embed", embed_stage), ("train", train_stage)):
        outcome = function(context)
        context.run.finish(stage, "", outcome.outputs, 0.0, outcome.metrics)
    return recipe, folder / "run"


def context_of(recipe: Path, run: Path, overrides: tuple[str, ...] = ()) -> StageContext:
    """Return what a stage of this recipe is given."""
    loaded: Recipe = load_recipe(str(recipe), list(overrides)).recipe
    run.mkdir(parents=True, exist_ok=True)
    return StageContext(loaded, RunDir(run), "cpu", False, FileTable(run / "files.tsv"))


@pytest.fixture
def make_context(trained: tuple[Path, Path], tmp_path: Path) -> MakeContext:
    """Return `make(name, overrides)`: a copy of the trained run, and the recipe with changes."""

    def make(name: str = "run", overrides: tuple[str, ...] = (), **sparsity: Any) -> StageContext:
        if not (tmp_path / name).exists():
            shutil.copytree(trained[1], tmp_path / name)
        context = context_of(trained[0], tmp_path / name, overrides)
        compress = context.recipe.compress
        assert compress is not None
        assert compress.sparsity is not None
        changed = compress.model_copy(update={"sparsity": compress.sparsity.model_copy(update=sparsity)})
        return replace(context, recipe=context.recipe.model_copy(update={"compress": changed}))

    return make
