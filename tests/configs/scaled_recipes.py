"""Shipped recipes scaled down: solids of 32 pixels, a tiny student of the same family, a teacher made here.

Losses, augmentation, head and optimizer stay what they are. The network keeps the names of its nodes.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import timm
import torch
import yaml
from safetensors.torch import save_file

from edgeproof_configs.files import FileTable
from edgeproof_configs.loader import component_config, load_recipe, recipe_path
from edgeproof_configs.registry import build
from edgeproof_configs.run import RunDir
from edgeproof_configs.stage import StageContext
from edgeproof_train.curate import curate_stage
from edgeproof_train.stages import embed_stage, teacher_stage, train_stage

SOLIDS = {"kind": "solids", "image_size": 32, "objects": 1, "views": 2, "val_views": 1} | {
    "test_objects": 1,
    "test_views": 1,
}
SOLID_VIEWS = {"kind": "solid_views", "image_size": 32, "objects": 2, "val_objects": 2} | {
    "test_objects": 2,
    "rendered_views": 2,
    "views": 2,
}
"""For recipes on objects with views."""
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
    "vit_base_patch32_clip_224.openai": ("test_vit", {}),
    "vit_tiny_patch16_224": ("test_vit", {}),
}
"""The student of a recipe -> a small network with the same nodes, and its arguments."""

SMALL_TEACHERS: dict[str, tuple[str, dict[str, Any]]] = {
    "mobilenetv2": ("mobilenetv2_035", {}),
    "samvit": ("samvit_base_patch16", {"img_size": 32, "embed_dim": 32, "depth": 1, "num_heads": 2}),
    "vit": ("test_vit", {"img_size": 32}),
}
"""The beginning of the name of a teacher of views -> a small network of its family, with random weights."""
FROZEN = ("freeze", "freeze_except")
OF_VIEWS = ("kind", "head", "pooling", "pool_at", "hidden_layers", "tokens")
LAST_BLOCK = ("backbone.blocks.11", "backbone.blocks.5")

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
        elif getattr(recipe.teacher, "pca", None):
            teacher_stage(context)
        if recipe.curate is not None:
            curate = curate_stage(context)
            run.finish("curate", "", curate.outputs, 0.0, curate.metrics)
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
        of_objects = plain["data"]["kind"] in ("multi_view", "solid_views")
        plain["data"] = SOLID_VIEWS if of_objects else SOLIDS
        plain["teacher"] = (self.teacher_of_views if of_objects else self.teacher)(plain["teacher"])
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
        if "curate" in plain:
            plain["curate"] = {"floor": -1.0, "near": False}
            plain["data"] = unlabelled_solids()
            plain["head"] |= {"labels": "labels.txt"}
        if of_objects:
            plain["train"] |= small_steps(plain["train"])
            plain["head"] |= {"of": "train"} if plain["head"]["kind"] == "gallery" else {}
        return without(plain, "baseline", "deploy", "bench", "gates")

    def teacher_of_views(self, given: dict[str, Any]) -> dict[str, Any]:
        """Return what stands in for a teacher that looks at views."""
        if given["kind"] != "timm":
            return self.teacher(given)
        name, arguments = next(
            small for start, small in SMALL_TEACHERS.items() if given["model"].startswith(start)
        )
        weights = self.folder / f"{name}.safetensors"
        torch.manual_seed(0)
        save_file(timm.create_model(name, num_classes=0, **arguments).state_dict(), weights)
        kept = without(given, "preprocess") | ({"pca": 4} if "pca" in given else {})
        return kept | {"model": name, "weights": str(weights), "kwargs": arguments}

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


def small_steps(train: dict[str, Any]) -> dict[str, Any]:
    """Return settings for steps of a few objects with two views each, and a small network's last block."""
    sampler = train["sampler"] | {"views": 2}
    if "classes" in sampler:
        sampler |= {"classes": 4, "objects": 2}
    layers = {key: [name.replace(*LAST_BLOCK) for name in train[key]] for key in FROZEN if key in train}
    return {"batch_size": 8, "sampler": sampler, **layers}


def small_student(given: dict[str, Any]) -> dict[str, Any]:
    """Return a student of the same family that learns in a second."""
    if given.get("kind") == "mv_alexnet":
        return {"kind": "mv_alexnet", "image_size": 64} | ({"grid": 3} if "grid" in given else {})
    model, arguments = SMALL.get(given["model"], (given["model"], {}))
    side = 48 if model.startswith(("mobilenet", "ghostnet", "resnet10t")) else 32
    small = {"model": model, "image_size": side, "kwargs": {**given.get("kwargs", {}), **arguments}}
    if given.get("head_init") == "least_squares":
        small["head_init"] = "least_squares"
    of_views = given.get("kind") == "multi_view"
    return small | {key: given[key] for key in OF_VIEWS if of_views and key in given}


def without(part: dict[str, Any], *keys: str) -> dict[str, Any]:
    """Return a part of a recipe less some keys."""
    return {key: value for key, value in part.items() if key not in keys}


def epochs_of(run: RunDir) -> list[dict[str, Any]]:
    """Return the rows that the train stage has written, one an epoch."""
    return [row for row in run.metrics() if row["stage"] == "train" and row["event"] == "epoch"]


def unlabelled_solids() -> dict[str, Any]:
    """Return the solids as a folder of photos without labels, which their captions are still of."""
    source: Any = build("data", component_config("data", SOLIDS))
    source.prepare()
    told = {"val": "val", "labels": "none", "captions": "captions.csv"}
    return {"kind": "image_folder", "root": str(source.root)} | told
