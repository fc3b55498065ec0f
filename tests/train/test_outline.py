"""What a dry run counts of objects: steps on photos too, and memory by views."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
from tests.train.object_case import embedded, make_objects, make_recipe

from edgeproof_configs.errors import UsageError
from edgeproof_configs.loader import load_recipe
from edgeproof_train.outline import Outline, outline


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_objects(tmp_path_factory.mktemp("objects"), photos=6)


def outlined(folder: Path, root: Path, **changes: Any) -> Outline:
    return outline(load_recipe(str(make_recipe(folder, root, data={"photos": "photos"}, **changes))).recipe)


def test_outline__steps_and_parts_of_objects(root: Path, tmp_path: Path) -> None:
    found = outlined(tmp_path, root)
    assert found.images == {"train": 16, "val": 8, "test": 8, "photos": 6}
    # 16 objects, 4 a step: 4 steps, each followed by one on photos, in 3 epochs.
    assert found.steps == 24
    sampler = {"views": 2, "visits": 2, "photo_steps": 2}
    assert outlined(tmp_path, root, train={"sampler": sampler}).steps == 8 * 3 * 3


def test_outline__memory_grows_with_views(root: Path, tmp_path: Path) -> None:
    sizes = [
        outlined(tmp_path, root, train={"sampler": {"views": views}}).memory_bytes for views in (1, 2, 3)
    ]
    assert sizes[0] < sizes[1]
    assert sizes[2] - sizes[1] == pytest.approx(sizes[1] - sizes[0], abs=1)


@pytest.mark.parametrize(
    ("sampler", "told"),
    [
        ({"views": 5}, "a step shows 5 views, and 16 of 16 training objects have fewer"),
        ({"classes": 4, "objects": 2, "views": 2}, "1 of 4 classes have one training object.*owl"),
    ],
)
def test_outline__what_the_sampler_cannot_show(sampler: Any, told: str, tmp_path: Path) -> None:
    root = make_objects(tmp_path / "data")
    if "classes" in sampler:
        for folder in sorted((root / "train" / "owl").iterdir())[1:]:
            shutil.rmtree(folder)
    train = {"sampler": sampler, "batch_size": 8}
    recipe = make_recipe(tmp_path, root, data={"val": 0.34}, train=train)
    with pytest.raises(UsageError, match=told):
        outline(load_recipe(str(recipe)).recipe)
    with pytest.raises(UsageError, match=told):
        embedded(tmp_path / "run", root, train=train)
    # Nothing was computed for it: not one view lies in a cache.
    assert not list((tmp_path / "run").rglob("train/manifest.json"))
