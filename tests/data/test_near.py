from __future__ import annotations

from itertools import combinations

import numpy as np
from PIL import Image, ImageEnhance

from edgeproof_data.near import near_groups, perceptual_hash


def brute_force(hashes: np.ndarray, most: int) -> list[list[int]]:
    """Connected components, the slow way."""
    groups = [{index} for index in range(len(hashes))]
    for one, other in combinations(range(len(hashes)), 2):
        if (int(hashes[one]) ^ int(hashes[other])).bit_count() <= most:
            first = next(group for group in groups if one in group)
            second = next(group for group in groups if other in group)
            if first is not second:
                first |= second
                groups.remove(second)
    return sorted(
        (sorted(group) for group in groups if len(group) > 1), key=lambda group: (-len(group), group)
    )


def test_near_groups__finds_every_pair_that_comparing_all_finds():
    draw = np.random.default_rng(0)
    centres = draw.integers(0, 1 << 63, 40, dtype=np.uint64)
    hashes = list(centres)
    for centre in centres[:25]:
        for flips in (1, 5, 6, 7, 8):
            bits = draw.choice(64, flips, replace=False)
            hashes.append(centre ^ np.bitwise_or.reduce(np.uint64(1) << bits.astype(np.uint64)))
    mixed = np.array(hashes, np.uint64)[draw.permutation(len(hashes))]
    expected = brute_force(mixed, 6)
    assert len(expected) > 10
    assert near_groups(mixed) == expected


def test_near_groups__none_and_all():
    assert near_groups(np.zeros(0, np.uint64)) == []
    assert near_groups(np.array([5], np.uint64)) == []
    assert near_groups(np.zeros(3000, np.uint64)) == [list(range(3000))]


def test_perceptual_hash__survives_what_a_resaved_photo_goes_through():
    draw = np.random.default_rng(1)
    photos = [
        Image.fromarray(draw.integers(0, 256, (8, 8, 3), dtype=np.uint8)).resize(
            (120, 90), Image.Resampling.BICUBIC
        )
        for _ in range(6)
    ]
    changed = [ImageEnhance.Brightness(photo.resize((61, 47))).enhance(1.1) for photo in photos]
    hashes = np.array([perceptual_hash(image) for image in photos + changed], np.uint64)
    assert near_groups(hashes) == [[index, index + 6] for index in range(6)]
