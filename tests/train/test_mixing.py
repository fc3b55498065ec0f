from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from edgeproof_configs.schema import MixConfig
from edgeproof_data.loader import Batch
from edgeproof_train.mixing import cut_box, drawn_share, mixed, pasted
from edgeproof_train.outputs import Mix

BATCH, SIDE = 5, 12


def batch(count: int = BATCH) -> Batch:
    image = torch.randn(count, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(0))
    return {"image": image, "label": torch.arange(count) * 10, "index": torch.arange(count)}


def mix(seed: int, **settings: Any) -> tuple[Tensor, Mix]:
    return mixed(batch(), MixConfig(**settings), torch.Generator().manual_seed(seed))


def before() -> tuple[Tensor, Tensor]:
    """Return the images and the partner of each, the image before it."""
    image = batch()["image"]
    return image, image[[4, 0, 1, 2, 3]]


@pytest.mark.parametrize("seed", range(10))
def test_mixed__mixup_is_the_weighted_mean_of_two_images(seed: int) -> None:
    image, how = mix(seed, mixup=0.8)
    own, partner = before()
    share = float(how.share[0])
    assert 0 <= share <= 1
    assert torch.allclose(image, share * own + (1 - share) * partner, atol=1e-6)
    assert how.partner.tolist() == [40, 0, 10, 20, 30]
    assert how.partner.dtype == torch.int64
    assert how.share.dtype == torch.float32
    assert torch.equal(how.share, torch.full((BATCH,), share))


@pytest.mark.parametrize("seed", range(20))
def test_mixed__cutmix_counts_the_pixels_of_its_box(seed: int) -> None:
    image, how = mix(seed, cutmix=1.0)
    own, partner = before()
    is_own = (image == own).all(dim=1)
    assert torch.equal(image, torch.where(is_own[:, None], own, partner))
    assert torch.allclose(is_own.float().mean(dim=(1, 2)), how.share)
    assert (is_own == is_own[0]).all()
    taken = ~is_own[0]
    assert taken.sum() == taken.any(dim=0).sum() * taken.any(dim=1).sum()
    assert how.partner.tolist() == [40, 0, 10, 20, 30]


def test_mixed__leaves_the_batch_as_it_was() -> None:
    given = batch()
    for settings in ({"mixup": 1.0}, {"cutmix": 1.0}):
        mixed(given, MixConfig(**settings), torch.Generator().manual_seed(1))
    assert torch.equal(given["image"], batch()["image"])
    assert torch.equal(given["label"], batch()["label"])


def test_mixed__as_often_as_asked() -> None:
    image, own = before()[0], torch.arange(BATCH) * 10
    alone = 0
    for seed in range(200):
        result, how = mix(seed, mixup=1.0, cutmix=1.0, probability=0.3)
        if how.share[0] == 1:
            alone += 1
            assert torch.equal(result, image)
            assert torch.equal(how.partner, own)
    assert 120 < alone < 160


def test_mixed__both_kinds_are_drawn_equally_often() -> None:
    own, partner = before()
    blended = 0
    for seed in range(200):
        image, _ = mix(seed, mixup=1.0, cutmix=1.0)
        blended += not ((image == own) | (image == partner)).all()
    assert 80 < blended < 120


def test_mixed__decided_by_the_generator_alone() -> None:
    state = torch.get_rng_state()
    first, how = mix(4, mixup=0.4)
    again, again_how = mix(4, mixup=0.4)
    assert torch.equal(first, again)
    assert torch.equal(how.share, again_how.share)
    assert not torch.equal(first, mix(5, mixup=0.4)[0])
    assert torch.equal(state, torch.get_rng_state())


@pytest.mark.parametrize("settings", [{"mixup": 1.0}, {"cutmix": 1.0}])
def test_mixed__keeps_the_memory_layout(settings: dict[str, float]) -> None:
    given = batch()
    given["image"] = given["image"].to(memory_format=torch.channels_last)
    image, _ = mixed(given, MixConfig(**settings), torch.Generator().manual_seed(1))
    assert image.is_contiguous(memory_format=torch.channels_last)
    assert torch.equal(image, mix(1, **settings)[0])


def test_mixed__cross_entropy_is_that_of_the_mixed_label() -> None:
    _, how = mix(2, mixup=1.0)
    scores, label = torch.randn(BATCH, 50), batch()["label"]
    loss = torch.nn.functional.cross_entropy
    parts = how.share * loss(scores, label, reduction="none")
    parts += (1 - how.share) * loss(scores, how.partner, reduction="none")
    hot = torch.nn.functional.one_hot
    soft = how.share[:, None] * hot(label, 50) + (1 - how.share[:, None]) * hot(how.partner, 50)
    assert torch.allclose(parts, loss(scores, soft, reduction="none"))


def test_pasted__hand_case() -> None:
    # A share of 0.75 wants a box with half the sides, 2 x 2 of 4 x 4; its centre is pixel (0, 3), so that one
    # row and no column lie outside: rows 0 to 0, columns 2 to 3. Two pixels of 16 are the partner's.
    image, share = pasted(torch.zeros(1, 3, 4, 4), torch.ones(1, 3, 4, 4), 0.75, [0.0, 0.8])
    assert share == 14 / 16
    assert image[0, 0].tolist() == [[0, 0, 1, 1], [0, 0, 0, 0], [0, 0, 0, 0], [0, 0, 0, 0]]


def test_cut_box__whole_image_nothing_and_the_border() -> None:
    assert cut_box(8, 6, 0.0, [0.5, 0.5]) == (0, 8, 0, 6)
    top, bottom, left, right = cut_box(8, 6, 1.0, [0.5, 0.5])
    assert (bottom - top, right - left) == (0, 0)
    top, bottom, left, right = cut_box(8, 6, 0.0, [0.999, 0.0])
    assert (top, bottom, left, right) == (3, 8, 0, 3)


@pytest.mark.parametrize("alpha", [0.2, 1.0, 4.0])
def test_drawn_share__is_beta_distributed(alpha: float) -> None:
    generator = torch.Generator().manual_seed(0)
    shares = np.array([drawn_share(alpha, generator) for _ in range(2000)])
    assert 0 <= shares.min() <= shares.max() <= 1
    assert abs(shares.mean() - 0.5) < 0.03
    assert abs(shares.var() - 1 / (4 * (2 * alpha + 1))) < 0.01
