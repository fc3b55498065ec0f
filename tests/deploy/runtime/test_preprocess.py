from __future__ import annotations

import hashlib
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.transforms import v2

from edgeproof_deploy.runtime.preprocess import INTERPOLATIONS, Preprocess

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
MODES = {
    "bicubic": v2.InterpolationMode.BICUBIC,
    "bilinear": v2.InterpolationMode.BILINEAR,
    "nearest": v2.InterpolationMode.NEAREST,
}


def noise(width: int, height: int) -> Image.Image:
    return Image.fromarray(
        np.random.default_rng(width * 1000 + height).integers(0, 256, (height, width, 3), np.uint8)
    )


@pytest.mark.parametrize("interpolation", list(INTERPOLATIONS))
@pytest.mark.parametrize("size", [(400, 300), (300, 400), (97, 131), (32, 32), (640, 113), (1, 1), (5, 200)])
def test_pixels__torchvision_resize_and_crop_within_one_step(
    interpolation: str, size: tuple[int, int]
) -> None:
    ours = Preprocess(64, 73, interpolation, MEAN, STD).pixels(noise(*size)).astype(int)
    theirs = v2.Compose([v2.Resize(73, MODES[interpolation]), v2.CenterCrop(64)])(noise(*size))
    difference = np.abs(ours - np.array(theirs))
    if interpolation == "nearest":
        assert (difference > 0).mean() < 0.04
    else:
        assert difference.max() <= 1
        assert (difference > 0).mean() < 0.01


def test_pixels__without_scaling_it_is_the_crop_itself() -> None:
    image = noise(90, 70)
    assert np.array_equal(Preprocess(64, 70).pixels(image), np.array(image)[3:67, 13:77])


def test_pixels__same_size_is_the_identity() -> None:
    assert np.array_equal(Preprocess(32, 32).pixels(noise(32, 32)), np.array(noise(32, 32)))


def test_pixels__a_long_strip_needs_no_more_memory_than_its_crop() -> None:
    assert Preprocess(224, 256).pixels(Image.new("RGB", (60_000, 1), (9, 8, 7))).tolist()[0][0] == [9, 8, 7]


def test_call__the_same_bits_everywhere() -> None:
    """The digest is the same for Pillow 10.3, 11.3, 12.0 and 13.0: what differs by one bit fails here."""
    gradient = np.add.outer(np.arange(120) * 7, np.arange(170) * 3)[..., None] + np.array([0, 85, 170])
    values = Preprocess(64, 73, mean=MEAN, std=STD)(Image.fromarray((gradient % 256).astype(np.uint8)))
    assert hashlib.sha256(values.tobytes()).hexdigest()[:16] == "90adbf8597af12ca"


def test_normalise__against_float64() -> None:
    pixels = np.arange(256, dtype=np.uint8).repeat(3).reshape(1, 16, 16, 3)
    exact = (pixels / 255 - np.array(MEAN)) / np.array(STD)
    values = Preprocess(16, 16, mean=MEAN, std=STD).normalise(pixels)
    assert values.dtype == np.float32
    assert values.flags.c_contiguous
    assert values.shape == (1, 3, 16, 16)
    np.testing.assert_allclose(values, exact.transpose(0, 3, 1, 2), atol=4e-7, rtol=0)


def test_normalise__a_batch_has_the_bits_of_its_images() -> None:
    preprocess = Preprocess(32, 36, mean=MEAN, std=STD)
    images = [noise(50, 40), noise(36, 36), noise(40, 90)]
    together = preprocess.normalise(np.stack([preprocess.pixels(image) for image in images]))
    assert all(np.array_equal(together[i], preprocess(image)) for i, image in enumerate(images))
    in_torch = torch.from_numpy(np.stack([preprocess.pixels(image) for image in images])).numpy()
    assert np.array_equal(preprocess.normalise(in_torch), together)


@pytest.mark.parametrize("pixels", [np.zeros((1, 8, 8, 3), np.float32), np.zeros((8, 8, 3), np.uint8)])
def test_normalise__other_arrays_are_refused(pixels: np.ndarray) -> None:
    with pytest.raises(ValueError, match="expected uint8 pixels"):
        Preprocess(8, 8).normalise(pixels)


def test_from_dict__reads_what_to_dict_wrote() -> None:
    preprocess = Preprocess(160, 180, "bilinear", MEAN, STD)
    assert Preprocess.from_dict(preprocess.to_dict()) == preprocess


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"image_size": 0}, "image_size must be 1 to"),
        ({"image_size": 9999}, "image_size must be 1 to"),
        ({"image_size": "64"}, "image_size must be a whole number"),
        ({"image_size": True}, "image_size must be a whole number"),
        ({"resize_size": 63}, "resize_size must be 64"),
        ({"interpolation": "lanczos"}, "interpolation must be one of bicubic"),
        ({"interpolation": ["bicubic"]}, "interpolation must be a word"),
        ({"mean": [0.5, 0.5]}, "mean must be three numbers"),
        ({"mean": [0.5, 0.5, float("nan")]}, "mean must be three finite numbers"),
        ({"std": [0.5, 0.5, 0]}, "std must be three numbers above 0"),
        ({"std": "abc"}, "std must be three numbers"),
        ({"colour": "BGR"}, r"unknown keys \['colour'\]"),
    ],
)
def test_from_dict__bad_values_are_refused(change: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        Preprocess.from_dict(Preprocess(64, 72).to_dict() | change)


def test_from_dict__missing_key() -> None:
    plain = Preprocess(64, 72).to_dict()
    del plain["std"]
    with pytest.raises(ValueError, match=r"missing keys \['std'\]"):
        Preprocess.from_dict(plain)


@pytest.mark.parametrize("size", [(20_000, 1), (1, 20_000), (20_000, 300), (1, 1), (2, 1)])
def test_pixels__extreme_shapes_give_the_middle(size: tuple[int, int]) -> None:
    """A strip is black but for its middle, which alone the crop looks at."""
    width, height = size
    pixels = np.zeros((height, width, 3), np.uint8)
    short = min(width, height)
    wide, high = min(width, 8 * short), min(height, 8 * short)
    left, top = (width - wide) // 2, (height - high) // 2
    pixels[top : top + high, left : left + wide] = (250, 120, 30)
    found = Preprocess(32, 36).pixels(Image.fromarray(pixels))
    assert found.shape == (32, 32, 3)
    assert np.abs(found.astype(int) - (250, 120, 30)).max() <= 1


def test_from_dict__views_are_there_only_where_a_model_takes_them() -> None:
    plain = Preprocess(8, 9).to_dict()
    assert "views" not in plain
    of_views = Preprocess(8, 9, views=12)
    assert Preprocess.from_dict(of_views.to_dict()) == of_views
    for wrong in (0, 1.5, True, None, "12", 10**6):
        with pytest.raises(ValueError, match="views must be"):
            Preprocess.from_dict({**plain, "views": wrong})
