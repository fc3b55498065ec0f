from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from edgeproof_train.view_pooling import PoolingKind, ViewPool, as_views

KINDS: tuple[PoolingKind, ...] = ("max", "mean", "attention")


def pool_of(kind: PoolingKind, width: int = 6, **settings: Any) -> ViewPool:
    torch.manual_seed(0)
    pool = ViewPool(kind, width, **settings)
    for part in pool.parameters():
        nn.init.normal_(part)
    return pool


def views(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("kind", KINDS)
def test_view_pool__views_that_only_fill_up_a_row_count_for_nothing(kind: PoolingKind) -> None:
    pool, given = pool_of(kind), views(2, 5, 6)
    given[0, 3:] = 1e6
    present = torch.ones(2, 5, dtype=torch.bool)
    present[0, 3:] = False
    found = pool(given, present_BV=present)
    torch.testing.assert_close(found[0], pool(given[:1, :3])[0])
    torch.testing.assert_close(found[1], pool(given[1:])[0])


@pytest.mark.parametrize("shape", [(2, 3, 6), (2, 3, 6, 4, 4), (2, 3, 9, 6), (2, 3, 4, 4, 6)])
@pytest.mark.parametrize("kind", KINDS)
def test_view_pool__keeps_the_axes_of_a_view(kind: PoolingKind, shape: tuple[int, ...]) -> None:
    axis = 1 if shape[2] == 6 else len(shape) - 2
    pool = pool_of(kind, channel_axis=axis, rank=len(shape) - 1)
    assert pool(views(*shape)).shape == (2, *shape[2:])


def test_view_pool__values_worked_by_hand() -> None:
    given = torch.tensor([[[1.0, -4.0], [3.0, -6.0]]])
    assert pool_of("max")(given).tolist() == [[3.0, -4.0]]
    assert pool_of("mean")(given).tolist() == [[2.0, -5.0]]


def test_view_pool__attention_begins_as_the_mean_and_learns() -> None:
    pool, given = ViewPool("attention", 6), views(4, 3, 6)
    torch.testing.assert_close(pool(given), given.mean(dim=1))
    pool(given).square().sum().backward()
    last: Any = pool.score[2]
    assert last.weight.grad.abs().sum() > 0


def test_view_pool__attention_weighs_maps_by_their_means() -> None:
    pool = pool_of("attention", channel_axis=1, rank=4)
    maps = views(2, 3, 6, 4, 4)
    weights = pool.score(maps.mean(dim=(3, 4))).softmax(dim=1)
    expected = (weights[..., None, None] * maps).sum(dim=1)
    torch.testing.assert_close(pool(maps), expected)


def test_view_pool__other_values_by_the_same_features() -> None:
    pool, features = pool_of("attention"), views(2, 3, 6)
    weights = pool.score(features).softmax(dim=1)
    tokens = views(2, 3, 9, 5)
    expected = (weights[..., None] * tokens).sum(dim=1)
    torch.testing.assert_close(pool(tokens, features), expected)


def test_as_views__an_image_is_an_object_with_one_view() -> None:
    image = views(2, 3, 8, 8)
    assert torch.equal(as_views(image), image[:, None])
    assert as_views(image[:, None]).shape == (2, 1, 3, 8, 8)
