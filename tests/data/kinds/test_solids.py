from __future__ import annotations

from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from edgeproof_data.kinds.solids import Solids
from edgeproof_data.prompts import read_labels
from edgeproof_data.solids.spec import SolidsSpec

TINY: dict[str, Any] = {
    "image_size": 16,
    "objects": 1,
    "views": 1,
    "val_views": 1,
    "test_objects": 1,
    "test_views": 1,
}


def test_config__has_the_settings_of_the_spec():
    config = Solids.Config()
    assert {field.name: getattr(config, field.name) for field in fields(SolidsSpec)} == {
        field.name: field.default for field in fields(SolidsSpec)
    }
    assert set(type(config).model_fields) == {"kind", *(field.name for field in fields(SolidsSpec))}


@pytest.fixture(scope="module")
def solids() -> Solids:
    made = Solids(Solids.Config(**TINY))
    made.prepare()
    return made


def test_solids__renders_once(solids: Solids, edgeproof_cache: Path):
    assert solids.root.parent == edgeproof_cache / "solids"
    stamps = {file: file.stat().st_mtime_ns for file in solids.files()}
    again = Solids(Solids.Config(**TINY))
    again.prepare()
    assert {file: file.stat().st_mtime_ns for file in again.files()} == stamps
    assert not list(solids.root.parent.glob(".rendering-*"))


def test_solids__parts_classes_and_captions(solids: Solids):
    assert list(solids.class_names) == read_labels(solids.label_file)
    assert len(solids.class_names) == 64
    assert set(solids.unseen) < set(solids.class_names)
    held_out = {solids.class_names.index(name) for name in solids.unseen}
    assert not held_out & set(solids.split("train").labels)
    assert not held_out & set(solids.split("val").labels)
    assert set(solids.split("test").labels) == set(range(64))
    captions = solids.captions("train")
    assert captions is not None
    images = solids.split("train")
    assert all(
        any(images.class_names[images.labels[i]] in text for text in captions[i]) for i in range(len(images))
    )
    with Image.open(images.file(0)) as image:
        assert image.size == (16, 16)
