"""Shipped recipes scaled down: solids of 32 pixels, a tiny student of the same family, a teacher made here.

Losses, augmentation, head and optimizer stay what they are. The network keeps the names of its nodes.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import yaml

from edgeproof_configs.files import FileTable
from edgeproof_configs.loader import load_recipe, recipe_path
from edgeproof_configs.run import RunDir
from edgeproof_configs.stage import StageContext
from edgeproof_train.stages import embed_stage, teacher_stage, train_stage

SOLIDS = {"kind": "solids", "image_size": 32, "objects": 1, "views": 2, "val_views": 1} | {
    "test_objects": 1,
    "test_views": 1,
}
NARROW = {"channels": [8, 16, 32, 64], "stem_width": 8}
CONTRASTIVE = {
    "kind": "contrastive",
    "model": "resnet10t",
    "kwargs": NARROW,
    "image_size": 32,
    "embedding_dim": 32,
    "text_width": 32,
    "text_layers": 1,
    "epochs": 1,
    "batch_size": 48,
    "warmup_epochs": 0.5,
}
SMALL: dict[str, tuple[str, dict[str, Any]]] = {
    "cifar_resnet56": ("cifar_resnet8", {}),
    "convnextv2_base.fcmae_ft_in22k_in1k": ("test_convnext2", {}),
    "ghostnet_100": ("ghostnet_050", {}),
    "mobilenetv2_100": ("mobilenetv2_035", {}),
    "mobilenetv3_large_100": ("mobilenetv3_small_050", {}),
    "resnet18": ("resnet10t", NARROW),
    "resnet50": ("resnet10t", NARROW),
    "swin_tiny_wide": ("swin_tiny_wide", {"embed_dim": 16, "depths": [1, 1, 1, 1], "window_size": 2}),
    "tf_efficientnetv2_s.in1k": ("test_efficientnet", {}),
    "vit_tiny_patch16_224": ("test_vit", {}),
}
"""The student of a recipe -> a small network with the same nodes, and its arguments."""

WITH_CLASSIFIER = "cub200-resnet50"
"""The recipe whose scaled student stands in for a teacher that was trained on classes."""


class Scaled:
    """Makes scaled recipes and trains them below one folder; teachers are made once."""

    def __init__(self, folder: Path):
        self.folder = folder

    def train(self, name: str) -> list[dict[str, Any]]:
        """Train a recipe's small copy and return its rows of each epoch."""
        run = RunDir(self.folder / name)
        if run.path.exists():
            return epochs_of(run)
        file = self.folder / f"{name}.yaml"
        plain = self.plain(name)
        file.write_text(yaml.safe_dump(plain, sort_keys=False))
        recipe = load_recipe(str(file)).recipe
        context = StageContext(recipe, run, "cpu", strict=False, files=FileTable(run.path / "files.tsv"))
        if recipe.teacher.kind == "contrastive":
            self.teach(context)
        embed = embed_stage(context)
        run.finish("embed", "", embed.outputs, 0.0, embed.metrics)
        train_stage(context)
        return epochs_of(run)

    def teach(self, context: StageContext) -> None:
        """Give a run the contrastive teacher."""
        kept = self.folder / "contrastive"
        if not kept.exists():
            teacher_stage(context)
            shutil.copytree(context.folder("teacher"), kept)
        shutil.copytree(kept, context.run.stage("teacher"), dirs_exist_ok=True)

    def plain(self, name: str) -> dict[str, Any]:
        """Return a recipe's small copy."""
        plain = yaml.safe_load(recipe_path(name).read_text(encoding="utf-8"))
        plain["data"] = SOLIDS
        plain["teacher"] = self.teacher(plain["teacher"])
        plain["student"] = small_student(plain["student"])
        plain["losses"] = [
            without(loss, "labels", "text_embeddings", "warmup_epochs") for loss in plain["losses"]
        ]
        plain["head"] = without(plain["head"], "labels", "text_embeddings", "templates")
        kept = without(plain["train"], "patience", "select", "checkpoint_every_steps")
        plain["train"] = (
            kept
            | {"epochs": 2, "batch_size": 16, "warmup_epochs": 0, "lr": 2e-3}
            | {
                "workers": 0,
                "eval_every": 2,
            }
        )
        return without(plain, "baseline", "deploy", "bench", "gates")

    def teacher(self, given: dict[str, Any]) -> dict[str, Any]:
        """Return what stands in for a recipe's teacher."""
        if given["kind"] == "none":
            return given
        view = {"view": given["view"]} if "view" in given else {}
        if given["kind"] in ("run", "timm"):
            taught = Path(given["path"]).name if given["kind"] == "run" else WITH_CLASSIFIER
            self.train(taught)
            return {"kind": "run", "path": str(self.folder / taught)} | view
        return CONTRASTIVE | view


def small_student(given: dict[str, Any]) -> dict[str, Any]:
    """Return a student of the same family that learns in a second."""
    model, arguments = SMALL.get(given["model"], (given["model"], {}))
    side = 48 if model.startswith(("mobilenet", "ghostnet", "resnet10t")) else 32
    small = {"model": model, "image_size": side, "kwargs": {**given.get("kwargs", {}), **arguments}}
    if given.get("head_init") == "least_squares":
        small["head_init"] = "least_squares"
    return small


def without(part: dict[str, Any], *keys: str) -> dict[str, Any]:
    """Return a part of a recipe less some keys."""
    return {key: value for key, value in part.items() if key not in keys}


def epochs_of(run: RunDir) -> list[dict[str, Any]]:
    """Return the rows that the train stage has written, one an epoch."""
    return [row for row in run.metrics() if row["stage"] == "train" and row["event"] == "epoch"]
