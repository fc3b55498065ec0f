from __future__ import annotations

from itertools import combinations
from typing import Any

import pytest
import torch
from tests.compress.small_students import images, make_student
from torch import nn

from edgeproof_compress.channel_spaces import ChannelSpace, channel_spaces, permute_space
from edgeproof_compress.masks import kept_magnitude
from edgeproof_compress.permutation import (
    Order,
    Search,
    find_orders,
    kept_by_splits,
    kept_share,
    kept_under,
)
from edgeproof_train.students.timm import TimmStudent


def uneven_student() -> TimmStudent:
    """Return a student whose channels are strong and weak by runs of four, as no mask likes them."""
    student = make_student()
    strong = torch.arange(64) // 4 % 2 == 0
    with torch.no_grad():
        for name in ("layer1.0.conv2", "layer2.0.conv2", "layer3.0.conv2"):
            weight = student.get_submodule(f"backbone.{name}").weight
            assert isinstance(weight, torch.Tensor)
            weight *= torch.where(strong[: weight.shape[1]], 1.0, 0.05)[None, :, None, None]
    return student


def orders_of(student: TimmStudent, seconds: float = 20.0, seed: int = 0) -> list[Order]:
    spaces = channel_spaces(student)
    eligible = [name for space in spaces for name in space.consumers]
    return find_orders(student, spaces, eligible, seconds=seconds, seed=seed)


def test_kept_by_splits__tries_all_35() -> None:
    eights = torch.rand(3, 8, 5, generator=torch.Generator().manual_seed(1))
    found = kept_by_splits(eights)
    assert found.shape == (3, 35)
    for number, four in enumerate(f for f in combinations(range(8), 4) if 0 in f):
        other = [channel for channel in range(8) if channel not in four]
        expected = sum(eights[:, list(part)].topk(2, dim=1).values.sum(dim=(1, 2)) for part in (four, other))
        torch.testing.assert_close(found[:, number], expected)


def test_find_orders__keeps_clearly_more_of_uneven_channels() -> None:
    student = uneven_student()
    found = orders_of(student)
    assert [order.space for order in found] == [
        "backbone.layer1.0.conv1",
        "backbone.layer2.0.conv1",
        "backbone.layer3.0.conv1",
    ]
    share = [kept_share([order.row() for order in found], key) for key in ("kept_before", "kept")]
    # Measured: 0.744 of the magnitude is kept without the search, 0.955 with it; half of the weights are.
    assert share == pytest.approx([0.744, 0.955], abs=0.005)
    assert all(order.finished for order in found)


def test_find_orders__the_output_stays_and_the_masks_keep_what_was_said() -> None:
    student = uneven_student()
    with torch.no_grad():
        expected = student(images()).embedding
    spaces = {space.name: space for space in channel_spaces(student)}
    for order in orders_of(student):
        (consumer,) = spaces[order.space].consumers
        weight = student.get_parameter(f"{consumer}.weight")
        assert kept_magnitude(weight) == pytest.approx(order.kept_before, rel=1e-6)
        permute_space(student, spaces[order.space], order.order)
        assert kept_magnitude(weight) == pytest.approx(order.kept, rel=1e-6)
    with torch.no_grad():
        torch.testing.assert_close(student(images()).embedding, expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("seed", range(4))
def test_find_orders__never_keeps_less(seed: int) -> None:
    torch.manual_seed(seed)
    layer: Any = nn.Sequential(nn.Linear(8, 16), nn.Linear(16, 8))
    space = ChannelSpace(16, ("0",), (), ("1",))
    (order,) = find_orders(layer, [space], ["1"], seconds=5, seed=seed)
    assert order.kept >= order.kept_before
    assert sorted(order.order) == list(range(16))
    # The best possible order is kept: 16 equal channels gain nothing.
    with torch.no_grad():
        layer[1].weight.fill_(1.0)
    (order,) = find_orders(layer, [space], ["1"], seconds=5, seed=seed)
    assert order.order == tuple(range(16))
    assert order.kept == order.kept_before


def test_find_orders__without_time_is_the_order_of_training() -> None:
    found = orders_of(uneven_student(), seconds=1e-9)
    assert all(order.order == tuple(range(len(order.order))) for order in found)
    assert all((order.rounds, order.finished) == (0, False) for order in found)


def test_find_orders__is_seeded() -> None:
    assert orders_of(uneven_student()) == orders_of(uneven_student())


def test_find_orders__only_what_is_pruned_counts() -> None:
    student = uneven_student()
    spaces = channel_spaces(student)
    found = find_orders(student, spaces, ["backbone.layer2.0.conv2"], seconds=5, seed=0)
    assert [order.space for order in found] == ["backbone.layer2.0.conv1"]


def test_search__finds_the_best_order_of_eight_channels() -> None:
    columns = torch.rand(8, 6, generator=torch.Generator().manual_seed(9))
    search = Search(columns, seed=0)
    while not search.done:
        search.round()
    best = max(
        kept_under(columns, [*four, *(c for c in range(8) if c not in four)])
        for four in combinations(range(8), 4)
    )
    assert kept_under(columns, search.order()) == pytest.approx(best)


def test_kept_share__of_nothing() -> None:
    assert kept_share([], "kept") is None
