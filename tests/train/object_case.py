"""Objects with views on disk, stored embeddings of each view, and a recipe that trains on them in seconds."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from PIL import Image
from tests.train.head_case import context_of

from edgeproof_configs.run import RunDir
from edgeproof_configs.stage import StageContext, StageOutcome
from edgeproof_train.run_data import RunData
from edgeproof_train.stages import embed_stage

COLOURS = {"cup": (210, 60, 40), "dog": (40, 170, 60), "owl": (60, 60, 200), "pear": (200, 190, 40)}
DIM, VIEWS, OBJECTS = 12, 4, {"train": 6, "test": 2}


def make_objects(root: Path, photos: int = 0) -> Path:
    """Write 4 classes of 6 training and 2 test objects with 4 views each, photos, and the embeddings of all.

    A view's embedding leans towards its class and is of any length.
    """
    random = np.random.default_rng(0)
    towards = dict(zip(COLOURS, random.normal(size=(len(COLOURS), DIM)), strict=True))
    paths: list[str] = []
    rows: list[np.ndarray] = []

    def write(path: str, colour: Any, embedding: np.ndarray) -> None:
        file = root / path
        file.parent.mkdir(parents=True, exist_ok=True)
        pixels = np.array(colour) + random.normal(0, 30, (36, 40, 3))
        Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(file)
        paths.append(path)
        rows.append(embedding * random.uniform(0.5, 9))

    for part, count in OBJECTS.items():
        for name, colour in COLOURS.items():
            for number in range(count):
                for view in range(VIEWS):
                    place = f"{part}/{name}/{name}{number}/{view}.png"
                    write(place, colour, towards[name] + 0.5 * random.normal(size=DIM))
    for number in range(photos):
        write(f"photos/{number}.png", random.integers(0, 255, 3), random.normal(size=DIM))
    np.save(root / "rows.npy", np.array(rows, np.float32))
    with (root / "index.csv").open("w", newline="") as handle:
        csv.writer(handle).writerows([("path",), *((path,) for path in paths)])
    return root


def make_recipe(folder: Path, root: Path, **changes: Any) -> Path:
    """Write the recipe; `changes` are merged into its parts."""
    recipe: dict[str, Any] = {
        "name": "objects",
        "data": {"kind": "multi_view", "root": str(root), "val": 0.34, "views": 3},
        "teacher": {"kind": "stored", "files": [{"embeddings": "rows.npy", "index": "index.csv"}]},
        "student": {
            "kind": "multi_view",
            "model": "test_resnet.r160_in1k",
            "image_size": 32,
            "pooling": "mean",
        },
        "losses": [{"kind": "cosine_embedding"}, {"kind": "triplet", "weight": 0.5}],
        "train": {
            "epochs": 3,
            "batch_size": 4,
            "lr": 2e-3,
            "warmup_epochs": 0.5,
            "workers": 0,
            "checkpoint_every_steps": 1,
            "sampler": {"classes": 2, "objects": 2, "views": 2},
        },
        "head": {"kind": "gallery"},
    }
    for key, value in changes.items():
        mergeable = isinstance(value, dict) and isinstance(recipe.get(key), dict)
        recipe[key] = {**recipe[key], **value} if mergeable else value
    file = folder / "objects.yaml"
    folder.mkdir(parents=True, exist_ok=True)
    file.write_text(yaml.safe_dump(recipe, sort_keys=False))
    return file


def embedded(folder: Path, root: Path, **changes: Any) -> tuple[StageContext, StageOutcome]:
    """Run the stage `embed` of the recipe; return the context for further stages, and what it left."""
    context = context_of(RunDir(folder / "run"), make_recipe(folder, root, **changes))
    done = embed_stage(context)
    context.run.finish("embed", "", done.outputs, 0.0, done.metrics)
    return context, done


def data_of(folder: Path, root: Path, **changes: Any) -> RunData:
    """Return the data of a run whose stage `embed` is done."""
    return RunData(embedded(folder, root, **changes)[0])
