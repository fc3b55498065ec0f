from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torchvision.transforms.v2 import functional as F

from edgeproof_configs.schema import AugmentConfig
from edgeproof_data.draws import uniforms
from edgeproof_data.policies import Policy
from edgeproof_data.transforms import DRAWS, POLICY, Augment, crop_box, cutout_box, erase_box
from edgeproof_deploy.runtime.preprocess import Preprocess

SIZE, COUNT = 20, 200
PREPROCESS = Preprocess(SIZE, 24, mean=(0.2, 0.4, 0.6))
EVERYTHING = {
    "flip": 0.5,
    "policy": "trivial_augment",
    "color_jitter": 0.4,
    "rotate_degrees": 15.0,
    "erase": 0.5,
    "cutout": 0.3,
}


def augment(count: int = COUNT, **settings: Any) -> tuple[np.ndarray, np.ndarray, Augment]:
    """Return squares, their changed images, and what changed them."""
    change = Augment(AugmentConfig(**settings), PREPROCESS)
    side = change.side or PREPROCESS.resize_size
    squares = np.random.default_rng(0).integers(0, 256, (count, 3, side, side), dtype=np.uint8)
    return squares, change(squares, uniforms(0, 0, np.arange(count), DRAWS)), change


def test_augment__nothing_asked_for_nothing_done():
    squares, images, change = augment()
    assert change.side == SIZE
    assert np.array_equal(squares, images)


def test_augment__flip_is_torchvisions_and_as_often_as_asked():
    squares, images, _ = augment(flip=0.3)
    flipped = F.horizontal_flip(torch.from_numpy(squares)).numpy()
    changed = np.array([np.array_equal(image, other) for image, other in zip(images, flipped, strict=True)])
    assert 0.2 < changed.mean() < 0.4
    assert np.array_equal(images[~changed], squares[~changed])


def test_augment__shift_cuts_everywhere_it_can():
    squares, images, change = augment(shift_pixels=2)
    assert change.side == SIZE + 4
    found = {}
    for square, image in zip(torch.from_numpy(squares), images, strict=True):
        for top in range(5):
            for left in range(5):
                if np.array_equal(F.crop(square, top, left, SIZE, SIZE).numpy(), image):
                    found[top, left] = found.get((top, left), 0) + 1
    assert len(found) == 25
    assert sum(found.values()) == COUNT


def test_augment__pad_cuts_from_the_image_in_a_frame_of_the_mean_colour():
    squares, images, change = augment(pad_pixels=2)
    assert change.side == SIZE
    mean = torch.tensor([51, 102, 153], dtype=torch.uint8)[:, None, None]
    found = {}
    for square, image in zip(torch.from_numpy(squares), images, strict=True):
        framed = mean.repeat(1, SIZE + 4, SIZE + 4)
        framed[:, 2:-2, 2:-2] = square
        for top in range(5):
            for left in range(5):
                if np.array_equal(F.crop(framed, top, left, SIZE, SIZE).numpy(), image):
                    found[top, left] = found.get((top, left), 0) + 1
    assert len(found) == 25
    assert sum(found.values()) == COUNT


def test_augment__random_resized_crop_shows_a_part():
    change = Augment(AugmentConfig(random_resized_crop=(0.25, 0.25)), PREPROCESS)
    ramp = np.broadcast_to(np.arange(24, dtype=np.uint8) * 10, (1, 3, 24, 24)).repeat(50, axis=0)
    images = change(np.ascontiguousarray(ramp), uniforms(0, 0, np.arange(50), DRAWS)).astype(int)
    spread = images[..., -1] - images[..., 0]
    assert images.shape == (50, 3, SIZE, SIZE)
    assert np.all(spread >= 0)
    assert 80 < np.median(spread) < 130
    assert change.side is None


def test_augment__whole_square_is_resized_like_the_interpolation_says():
    squares, images, _ = augment(count=4, random_resized_crop=(1.0, 1.0))
    expected = F.resize(torch.from_numpy(squares), [SIZE, SIZE], F.InterpolationMode.BICUBIC, antialias=True)
    assert np.array_equal(images, expected.numpy())


def test_augment__colour_jitter_changes_colours_within_its_strength():
    change = Augment(AugmentConfig(color_jitter=0.4), PREPROCESS)
    grey = np.full((COUNT, 3, SIZE, SIZE), 100, np.uint8)
    images = change(grey, uniforms(0, 0, np.arange(COUNT), DRAWS)).astype(int)
    levels = images[:, 0, 0, 0]
    assert 57 <= levels.min() < 70
    assert 130 < levels.max() <= 141
    assert np.all(images == levels[:, None, None, None])


def test_augment__rotation_uncovers_the_mean_colour():
    change = Augment(AugmentConfig(rotate_degrees=45.0), PREPROCESS)
    images = change(np.full((30, 3, SIZE, SIZE), 255, np.uint8), uniforms(0, 0, np.arange(30), DRAWS))
    corners = images[:, :, 0, 0]
    assert np.any(np.all(corners == [51, 102, 153], axis=1))
    assert np.all(images[:, :, SIZE // 2, SIZE // 2] == 255)


def test_augment__erase_paints_a_box_in_the_mean_colour():
    change = Augment(AugmentConfig(erase=0.5), PREPROCESS)
    images = change(np.zeros((COUNT, 3, SIZE, SIZE), np.uint8), uniforms(0, 0, np.arange(COUNT), DRAWS))
    erased = images[:, 0] == 51
    share = erased.mean(axis=(1, 2))
    assert 0.4 < (share > 0).mean() < 0.6
    assert share.max() < 0.4
    assert np.array_equal(erased, images[:, 2] == 153)
    for box in erased[share > 0]:
        rows, columns = np.flatnonzero(box.any(axis=1)), np.flatnonzero(box.any(axis=0))
        assert box[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1].all()


def test_augment__policy_sees_the_flipped_image_and_draws_for_itself():
    squares, images, change = augment(count=20, flip=0.5, policy="rand_augment")
    _, flipped, _ = augment(count=20, flip=0.5)
    policy = Policy(change.config, [51.0, 102.0, 153.0])
    rows = uniforms(0, 0, np.arange(20), DRAWS)
    assert not np.array_equal(flipped, squares)
    for image, before, row in zip(images, flipped, rows, strict=True):
        assert np.array_equal(image, policy(torch.from_numpy(before), row[POLICY]).numpy())


def test_augment__cutout_covers_a_square_of_one_size_with_the_mean_colour():
    change = Augment(AugmentConfig(cutout=0.5), PREPROCESS)
    images = change(np.zeros((COUNT, 3, SIZE, SIZE), np.uint8), uniforms(0, 0, np.arange(COUNT), DRAWS))
    covered = images[:, 0] == 51
    assert np.array_equal(covered, images[:, 2] == 153)
    assert set(np.unique(images)) == {0, 51, 102, 153}
    sides = [(box.any(axis=1).sum(), box.any(axis=0).sum()) for box in covered]
    # The centre lies inside, so at least half a side is covered; away from the border all of it.
    assert {side for pair in sides for side in pair} == {5, 6, 7, 8, 9, 10}
    assert all(high * wide == box.sum() for (high, wide), box in zip(sides, covered, strict=True))
    assert covered.any(axis=0).all()


@pytest.mark.parametrize(
    "crop", [{"random_resized_crop": (0.3, 0.9)}, {"shift_pixels": 3}, {"pad_pixels": 3}]
)
def test_augment__an_image_does_not_depend_on_its_companions(crop: dict[str, Any]):
    squares, images, change = augment(count=12, **crop, **EVERYTHING)
    draws = uniforms(0, 0, np.arange(12), DRAWS)
    for chosen in ([7], [11, 0, 5]):
        assert np.array_equal(change(squares[chosen], draws[chosen]), images[chosen])


@pytest.mark.parametrize("areas", [(0.05, 0.3), (0.5, 1.0), (1.0, 1.0)])
def test_crop_box__lies_inside_and_has_the_area(areas: tuple[float, float]):
    boxes = [crop_box(areas, 100, row) for row in uniforms(0, 0, np.arange(500), 4)]
    for top, left, height, width in boxes:
        assert 0 <= top <= top + height <= 100
        assert 0 <= left <= left + width <= 100
        assert areas[0] * 0.95 <= height * width / 1e4 <= areas[1] * 1.05
        assert height == 100 or width == 100 or 0.7 < width / height < 1.4


@pytest.mark.parametrize(
    ("part", "row", "box"),
    [
        (0.4, (0.5, 0.5), (3, 3, 4, 4)),
        (0.4, (0.0, 0.99), (0, 7, 2, 3)),
        (0.5, (0.15, 0.3), (0, 1, 4, 5)),
        (0.01, (0.25, 0.99), (2, 9, 1, 1)),
    ],
)
def test_cutout_box__hand_cases(part: float, row: tuple[float, float], box: tuple[int, ...]):
    assert cutout_box(part, 10, np.array(row)) == box


def test_erase_box__never_all_of_it():
    shares = [
        height * width
        for _, _, height, width in (erase_box(10, row) for row in uniforms(0, 0, np.arange(500), 4))
    ]
    assert 1 <= min(shares) <= max(shares) < 45
