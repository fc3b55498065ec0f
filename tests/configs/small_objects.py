"""A run on 24 small objects with four views each, trained and given its gallery in seconds."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import yaml
from PIL import Image

CLASSES = {"blue": (30, 40, 210), "green": (20, 170, 60), "red": (220, 30, 30), "sand": (200, 180, 90)}
UNSEEN = ["red", "sand"]
OBJECTS, VIEWS = 6, 4


def draw_objects(root: Path, objects: int = OBJECTS, seed: int = 0) -> Path:
    """Write noisy views of objects whose class is their colour."""
    random = np.random.default_rng(seed)
    for name, colour in CLASSES.items():
        for number in range(objects):
            shade = np.array(colour) + random.normal(0, 70, 3)
            folder = root / name / f"{name}{number}"
            folder.mkdir(parents=True)
            for view in range(VIEWS):
                pixels = shade + random.normal(0, 40, (32, 32, 3))
                Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(folder / f"{view}.png")
    return root


def object_recipe(folder: Path, root: Path) -> Path:
    """Write a recipe for them, under a teacher with random weights that can look at any photo."""
    # Here, and not above: what only looks at recipes shall not wait for torch.
    import timm
    import torch
    from safetensors.torch import save_file

    torch.manual_seed(0)
    save_file(timm.create_model("test_resnet", num_classes=0).state_dict(), folder / "teacher.safetensors")
    recipe = {
        "name": "objects",
        "data": {"kind": "multi_view", "root": str(root), "unseen": UNSEEN, "val": 0.4, "test": 0.4},
        "teacher": {
            "kind": "timm",
            "model": "test_resnet",
            "weights": str(folder / "teacher.safetensors"),
            "view": "exact",
        },
        "student": {"kind": "multi_view", "model": "test_resnet", "image_size": 32, "pooling": "mean"},
        "losses": [{"kind": "cosine_embedding"}],
        "train": {
            "epochs": 1,
            "batch_size": 4,
            "lr": 1e-3,
            "warmup_epochs": 0,
            "sampler": {"views": 2},
            "workers": 0,
        },
        "head": {"kind": "gallery", "of": ["train"]},
        "deploy": {"engines": ["onnxruntime"], "batch": [1]},
        "bench": {"seconds": 0.05},
    }
    file = folder / "objects.yaml"
    file.write_text(yaml.safe_dump(recipe, sort_keys=False))
    return file
