from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from edgeproof_data.sets import ImageSet
from edgeproof_deploy.runtime.preprocess import open_image
from edgeproof_train.embeddings import embed_images, pooled_features


@pytest.fixture
def images(tmp_path: Path) -> ImageSet:
    generator = np.random.default_rng(0)
    paths = tuple(f"{number}.png" for number in range(7))
    for path in paths:
        Image.fromarray(generator.integers(0, 256, (40, 50, 3), dtype=np.uint8)).save(tmp_path / path)
    return ImageSet(tmp_path, paths, np.full(7, -1, np.int64))


@pytest.mark.parametrize("workers", [0, 2])
def test_embed_images__row_for_row_what_the_student_says(workers: int, images: ImageSet, case: Any) -> None:
    student = case.make_task().student
    rows = embed_images(student, images, batch_size=3, workers=workers)
    assert rows.shape == (7, case.DIM)
    assert rows.dtype == np.float32
    assert student.training
    student.eval()
    for index in range(7):
        planes = torch.from_numpy(student.preprocess(open_image(images.file(index))))[None]
        with torch.no_grad():
            np.testing.assert_allclose(rows[index], student(planes).embedding[0], rtol=1e-4, atol=1e-5)


def test_pooled_features__are_what_the_head_sees(images: ImageSet, case: Any) -> None:
    student = case.make_task().student
    features = torch.from_numpy(pooled_features(student, images, batch_size=3))
    with torch.no_grad():
        np.testing.assert_allclose(
            student.head(features), embed_images(student, images), rtol=1e-4, atol=1e-5
        )


def test_embed_images__silent_unless_named(images: ImageSet, case: Any, capsys: Any) -> None:
    embed_images(case.make_task().student, images)
    assert capsys.readouterr().err == ""
