"""A recipe that ships in seconds: 36 pictures, stored embeddings, a student of timm's test family."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import yaml
from PIL import Image

CLASSES = ("blue_square", "green_square", "red_square")
COLOURS = {"blue_square": (30, 40, 210), "green_square": (20, 170, 60), "red_square": (220, 30, 30)}
DIM = 16


def unit(rows: np.ndarray) -> np.ndarray:
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def make_data(root: Path, train: int = 12, test: int = 6) -> Path:
    """Write noisy pictures of one colour a class, their embeddings and the embeddings of the class names."""
    rng = np.random.default_rng(0)
    text = unit(rng.normal(size=(len(CLASSES), DIM))).astype(np.float32)
    rows, embeddings = [], []
    for split, count in (("train", train), ("test", test)):
        for label, name in enumerate(CLASSES):
            folder = root / split / name
            folder.mkdir(parents=True)
            for number in range(count):
                pixels = np.array(COLOURS[name]) + rng.normal(0, 25, (40, 36, 3))
                file = folder / f"a.{number:02d}.png"
                Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(file)
                rows.append(file.relative_to(root).as_posix())
                embeddings.append(text[label] + 0.1 * rng.normal(size=DIM))
    np.save(root / "images.npy", unit(np.array(embeddings)).astype(np.float16))
    np.save(root / "text.npy", text)
    with (root / "index.csv").open("w", newline="") as handle:
        csv.writer(handle).writerows([("path",), *((row,) for row in rows)])
    (root / "labels.txt").write_text("".join(f"{name.replace('_', ' ')}\n" for name in CLASSES))
    return root


def make_recipe(folder: Path, root: Path, **changes: object) -> Path:
    """Write the recipe; `changes` replace whole top-level parts."""
    recipe: dict[str, object] = {
        "name": "tiny",
        "data": {"kind": "image_folder", "root": str(root), "train": "train", "test": "test", "val": 0.25},
        "teacher": {
            "kind": "stored",
            "view": "assume_invariant",
            "files": [{"embeddings": "images.npy", "index": "index.csv"}],
        },
        "student": {"model": "test_resnet.r160_in1k", "image_size": 32},
        "losses": [{"kind": "cosine_embedding"}, {"kind": "text_kl", "weight": 0.1, "logit_scale": 10.0}],
        "train": {
            "epochs": 2,
            "batch_size": 8,
            "lr": 1e-3,
            "warmup_epochs": 0.5,
            "workers": 0,
            "augment": {"flip": 0.5},
        },
        "baseline": {"epochs": 1},
        "head": {"kind": "zero_shot", "text_embeddings": "text.npy", "labels": "labels.txt"},
        "deploy": {"batch": [1, 2]},
        "bench": {"seconds": 0.05, "warmup_seconds": 0.01, "threads": 1},
    }
    recipe.update(changes)
    file = folder / "tiny.yaml"
    file.write_text(yaml.safe_dump(recipe, sort_keys=False))
    return file
