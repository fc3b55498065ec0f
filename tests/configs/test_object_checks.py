"""Settings about objects with views that would have no effect, or cannot be met."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from edgeproof_configs.errors import RecipeError
from edgeproof_configs.loader import load_recipe

STORED = {"kind": "stored", "files": [{"embeddings": "rows.npy", "index": "index.csv"}]}
LIVE = {"kind": "timm", "model": "test_vit"}
RECIPE: dict[str, Any] = {
    "name": "objects",
    "data": {"kind": "multi_view", "root": "/objects"},
    "teacher": STORED,
    "student": {"kind": "multi_view", "model": "resnet10t", "image_size": 32},
    "losses": [{"kind": "cosine_embedding"}],
    "train": {"epochs": 3, "batch_size": 8, "sampler": {"classes": 4, "objects": 2, "views": 3}},
    "head": {"kind": "gallery"},
}
FLIP = {"flip": 0.5}


def findings(folder: Path, **changes: Any) -> list[str]:
    """Return what is told about the recipe with parts merged into it; None takes a part away."""
    recipe: dict[str, Any] = {}
    for key in {**RECIPE, **changes}:
        given, change = RECIPE.get(key), changes.get(key, {})
        merged = isinstance(given, dict) and isinstance(change, dict) and "kind" not in change
        recipe[key] = {**given, **change} if merged and given is not None else change or given
    file = folder / "recipe.yaml"
    file.write_text(yaml.safe_dump(recipe))
    try:
        load_recipe(str(file))
    except RecipeError as error:
        return [f"{problem.key}: {problem.message}" for problem in error.problems]
    return []


STEPS = [{"head": {"kind": "nearest_mean"}, "answers": ["a"]}, {"head": {"kind": "gda"}}]


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"head": {"kind": "cascade", "steps": STEPS}},
        {"train": {"sampler": {"views": 3}}},
        {"train": {"sampler": {"views": 3, "classes": 2, "objects": 2, "visits": 2}}},
        {"data": {"photos": "photos"}, "train": {"sampler": {"views": 3, "photo_steps": 2}}},
        {"teacher": {**STORED, "view": "assume_invariant"}, "train": {"augment": FLIP}},
        {"teacher": {**LIVE, "views": "seen"}, "train": {"augment": FLIP}},
        {
            "teacher": {**LIVE, "views": "seen"},
            "losses": [{"kind": "token_mse"}, {"kind": "cosine_embedding"}],
        },
        {"teacher": {**STORED, "view_pooling": "max", "views": "seen"}},
        {"baseline": {"epochs": 2, "losses": [{"kind": "triplet", "positives": "object"}]}},
        {"train": {"select": "map"}},
    ],
)
def test_check__can_be_met(changes: dict[str, Any], tmp_path: Path) -> None:
    assert findings(tmp_path, **changes) == []


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        (
            {"student": {"kind": "timm", "model": "resnet10t", "image_size": 32}},
            "student.kind: 'timm' sees one image",
        ),
        (
            {"head": {"kind": "cascade", "steps": [STEPS[0], {"specialist": "runs/dogs"}]}},
            "head.steps.1.specialist: a specialist looks at single images, .*: make the step one with a head",
        ),
        (
            {"student": {"kind": "multi_view", "model": "resnet10t", "image_size": 32, "tokens": True}},
            "student.tokens: has no effect: no loss looks at the student's tokens",
        ),
        ({"train": {"sampler": None}}, "train: how many views of an object does a step show?"),
        ({"train": {"batch_size": 9}}, "train.*: .*4 classes x 2 objects make 8, and batch_size is 9"),
        ({"train": {"sampler": {"views": 2, "classes": 4}}}, "train.*classes and objects go together"),
        ({"train": {"sampler": {"views": 2, "visits": 3}}}, "train.*visits 3 does not divide batch_size 8"),
        ({"train": {"balance": "classes"}}, "train.*balance has no effect beside sampler.classes"),
        ({"train": {"mix": {"mixup": 0.4}}}, "train.*mix mixes single images"),
        (
            {"train": {"sampler": {"views": 3, "photo_steps": 2}}},
            r"train.sampler.photo_steps: has no effect without data.photos",
        ),
        (
            {"data": {"photos": "photos"}, "losses": [{"kind": "triplet"}]},
            "data.photos: have no labels, and no loss looks at a teacher",
        ),
        (
            {"teacher": {**LIVE, "stored_views": 2}, "train": {"augment": FLIP}},
            "teacher.stored_views: is not for objects",
        ),
        (
            {"teacher": LIVE, "train": {"augment": FLIP}},
            "teacher.views: the teacher looks at the views itself .train.augment.*say 'seen'",
        ),
        (
            {"teacher": LIVE, "losses": [{"kind": "relation"}, {"kind": "cosine_embedding"}]},
            "teacher.views: the teacher looks at the views itself .a loss wants its tokens",
        ),
        (
            {"baseline": {"epochs": 2, "losses": [{"kind": "cosine_embedding"}]}},
            r"baseline.losses.0: cosine_embedding looks at the teacher",
        ),
        (
            {"baseline": {"epochs": 2, "losses": [{"kind": "triplet", "warmup_epochs": 2}]}},
            r"baseline.losses.0.warmup_epochs: must be below baseline.epochs",
        ),
        (
            {"baseline": {"epochs": 2, "label_smoothing": 0.1, "losses": [{"kind": "triplet"}]}},
            "baseline: .*label_smoothing has no effect beside losses",
        ),
        ({"baseline": {"epochs": 2, "losses": []}}, "baseline: .*losses is empty"),
        (
            {"baseline": {"epochs": 2, "losses": [{"kind": "triplets"}]}},
            "baseline.losses.0.kind: .*Did you mean 'triplet'",
        ),
    ],
)
def test_check__told(changes: dict[str, Any], told: str, tmp_path: Path) -> None:
    found = findings(tmp_path, **changes)
    assert any(re.search(told, one) for one in found), found


def test_check__of_single_images(tmp_path: Path) -> None:
    found = findings(
        tmp_path,
        data={"kind": "image_folder", "root": "/images"},
        student={"kind": "timm", "model": "resnet10t", "image_size": 32},
        teacher={**STORED, "view_pooling": "max", "views": "seen"},
    )
    places = {one.split(":")[0] for one in found if "have single images" in one}
    assert places == {"train.sampler", "teacher.view_pooling", "teacher.views"}
