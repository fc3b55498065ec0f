"""A trained run on 54 tiny pictures, and a head kind that is fitted in a line: the nearest mean."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
from tests.integration.tiny import make_data, make_recipe

from edgeproof_configs.files import FileTable
from edgeproof_configs.loader import load_recipe
from edgeproof_configs.run import RunDir
from edgeproof_configs.stage import StageContext
from edgeproof_deploy.runtime.linear_head import LinearHead
from edgeproof_train.heads.evidence import Evidence, Part
from edgeproof_train.heads.fitted import Fitted, FittedConfig, FittedKind
from edgeproof_train.run_data import RunData
from edgeproof_train.stages import embed_stage, train_stage

HEAD: dict[str, object] = {"text_embeddings": "text.npy", "labels": "labels.txt"}


class Means(FittedKind):
    """The mean of each class's shots."""

    class Config(FittedConfig):
        """Nothing of its own."""

        kind: Literal["means_of_test"] = "means_of_test"

    needs: ClassVar[frozenset[Part]] = frozenset({"shots"})
    uses: ClassVar[frozenset[Part]] = frozenset({"text", "val"})

    @staticmethod
    def fit(config: Any, evidence: Evidence) -> Fitted:
        """Return the means."""
        del config
        assert evidence.shots is not None
        rows, labels = evidence.shots
        means = [rows[labels == label].mean(axis=0) for label in range(len(evidence.names))]
        return Fitted(LinearHead(evidence.names, np.stack(means).astype(np.float32)))


class Watching(Means):
    """The same, which also looks at the test images."""

    uses: ClassVar[frozenset[Part]] = frozenset({"unlabelled"})
    transductive: ClassVar[bool] = True


def trained(folder: Path) -> RunDir:
    """Train a tiny student and return its run."""
    recipe = make_recipe(folder, make_data(folder / "data"), head={"kind": "zero_shot", **HEAD})
    context = context_of(RunDir(folder / "run"), recipe)
    for name, stage in (("embed", embed_stage), ("train", train_stage)):
        done = stage(context)
        context.run.finish(name, "", done.outputs, 0.0, done.metrics)
    return context.run


def context_of(run: RunDir, recipe: Path, *overrides: str) -> StageContext:
    """Return the context of a run's stages under a recipe."""
    loaded = load_recipe(str(recipe), overrides).recipe
    return StageContext(loaded, run, "cpu", strict=False, files=FileTable(run.path / "files.tsv"))


def data_of(run: RunDir) -> RunData:
    """Return the data of the run that `trained` made."""
    return RunData(context_of(run, run.path.parent / "tiny.yaml"))
