from __future__ import annotations

import numpy as np
import pytest
from PIL import Image
from pydantic import ValidationError

from edgeproof_configs.errors import EdgeproofError
from edgeproof_train.preprocessing import (
    PreprocessOverride,
    SquashPreprocess,
    square_side,
    teacher_preprocess,
)

FOUND = {
    "image_size": 16,
    "resize_size": 20,
    "interpolation": "bilinear",
    "mean": [0.1, 0.2, 0.3],
    "std": [1, 1, 1],
    "resize_mode": "shortest",
}


def test_teacher_preprocess__takes_what_the_recipe_overrides() -> None:
    override = PreprocessOverride(resize_size=18, mean=(0, 0, 0))
    made = teacher_preprocess(FOUND, override)
    assert made.to_dict() == {
        "image_size": 16,
        "resize_size": 18,
        "interpolation": "bilinear",
        "mean": [0, 0, 0],
        "std": [1, 1, 1],
    }


def test_teacher_preprocess__squash_ignores_the_aspect_ratio_and_is_another_key() -> None:
    image = Image.fromarray(np.random.default_rng(0).integers(0, 255, (30, 50, 3), dtype=np.uint8))
    made = teacher_preprocess({**FOUND, "resize_mode": "squash"}, PreprocessOverride())
    assert isinstance(made, SquashPreprocess)
    expected = np.array(image.resize((20, 20), Image.Resampling.BILINEAR))[2:18, 2:18]
    np.testing.assert_array_equal(made.pixels(image), expected)
    assert made(image).shape == (3, 16, 16)
    plain = teacher_preprocess(FOUND, PreprocessOverride())
    assert made.to_dict() != plain.to_dict()


@pytest.mark.parametrize(
    ("change", "words"),
    [({"resize_mode": "longest"}, "resized by 'longest'"), ({"resize_size": 8}, "resize_size")],
)
def test_teacher_preprocess__refuses_what_it_cannot_do(change: dict[str, object], words: str) -> None:
    with pytest.raises(EdgeproofError, match=words):
        teacher_preprocess({**FOUND, **change}, PreprocessOverride())


def test_override__refuses_a_zero_std() -> None:
    with pytest.raises(ValidationError):
        PreprocessOverride(std=(0, 1, 1))


def test_square_side__takes_squares_only() -> None:
    assert [square_side(size, "x") for size in (224, [224], (224, 224))] == [224] * 3
    with pytest.raises(EdgeproofError, match="224 x 192 pixels"):
        square_side((224, 192), "x")
