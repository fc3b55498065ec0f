from __future__ import annotations

from collections.abc import Callable
from itertools import product
from typing import Any

import pytest
import torch
from pydantic import ValidationError
from torch import Tensor, nn
from torch.nn import functional as F

from edgeproof_configs.registry import component_class
from edgeproof_train.loss import Loss
from edgeproof_train.losses.triplet import pairs_of
from edgeproof_train.outputs import ModelOutputs, StepOutputs

LABEL = torch.tensor([0, 1, 0, -1, 1, 2, 0, 1])
MakeLoss = Callable[..., Loss]


def circle(*degrees: float) -> Tensor:
    """Return unit vectors in the plane; the distance of two at an angle w is 2 sin(w / 2)."""
    angle = torch.deg2rad(torch.tensor(degrees))
    return torch.stack([angle.cos(), angle.sin()], dim=1)


def rows(seed: int, count: int = len(LABEL), width: int = 8) -> Tensor:
    return torch.randn(count, width, generator=torch.Generator().manual_seed(seed))


def of(loss: Loss, embedding: Tensor, label: Tensor, index: Tensor | None = None) -> Tensor:
    given: dict[str, Any] = {} if index is None else {"index": index}
    return loss(StepOutputs(ModelOutputs(embedding), label=label, **given))


def every_triplet(label: Tensor) -> list[tuple[int, int, int]]:
    """Return all (a, p, n), found the slow way."""
    places = range(len(label))
    known = [(a, p, n) for a, p, n in product(places, repeat=3) if min(label[a], label[p], label[n]) >= 0]
    return [(a, p, n) for a, p, n in known if a != p and label[a] == label[p] != label[n]]


@pytest.mark.parametrize("distance", ["euclidean", "cosine"])
def test_forward__batch_hard_by_hand(distance: str, make_loss: MakeLoss) -> None:
    # At 0 and 60 degrees one class, at 90 and 180 the other; a row's length does not matter.
    embedding = circle(0, 60, 90, 180) * torch.tensor([1.0, 2.0, 3.0, 0.5])[:, None]
    label = torch.tensor([0, 0, 1, 1])
    positive, negative = torch.tensor([60.0, 60.0, 90.0, 90.0]), torch.tensor([90.0, 30.0, 30.0, 120.0])
    if distance == "euclidean":
        near, far = (2 * torch.sin(torch.deg2rad(angle) / 2) for angle in (positive, negative))
    else:
        near, far = (1 - torch.cos(torch.deg2rad(angle)) for angle in (positive, negative))
    expected = (near - far + 0.25).clamp_min(0).mean()
    loss = make_loss("triplet", distance=distance, margin=0.25)
    torch.testing.assert_close(of(loss, embedding, label), expected)
    soft = make_loss("triplet", distance=distance, margin="soft")
    torch.testing.assert_close(of(soft, embedding, label), torch.log1p((near - far).exp()).mean())


def test_forward__semi_hard_by_hand(make_loss: MakeLoss) -> None:
    # The anchor at 0 has its positive at 40; negatives at 20 (nearer), 50 and 70 (farther): 50 counts. The
    # anchor at 40 has all its negatives nearer, at most 30 away: that one counts. Singles have no positive.
    label = torch.tensor([0, 0, 1, 2, 3])
    loss = make_loss("triplet", mining="semi_hard", margin=0.2)

    def chord(degrees: float) -> Tensor:
        return 2 * torch.sin(torch.deg2rad(torch.tensor(degrees)) / 2)

    first = (chord(40) - chord(50) + 0.2).clamp_min(0)
    second = chord(40) - chord(30) + 0.2
    torch.testing.assert_close(of(loss, circle(0, 40, 20, 50, 70), label), (first + second) / 2)


@pytest.mark.parametrize("distance", ["euclidean", "cosine"])
def test_forward__all_matches_torch(distance: str, make_loss: MakeLoss) -> None:
    embedding = rows(1)
    units = F.normalize(embedding, dim=1)
    anchor, positive, negative = units[torch.tensor(every_triplet(LABEL)).T]
    if distance == "euclidean":
        # Its own epsilon is added to each difference.
        oracle: Any = nn.TripletMarginLoss(margin=0.3, eps=0.0)
    else:
        oracle = nn.TripletMarginWithDistanceLoss(
            distance_function=lambda x, y: 1 - F.cosine_similarity(x, y), margin=0.3
        )
    loss = make_loss("triplet", mining="all", distance=distance, margin=0.3)
    torch.testing.assert_close(of(loss, embedding, LABEL), oracle(anchor, positive, negative))


@pytest.mark.parametrize("mining", ["batch_hard", "semi_hard"])
def test_forward__mining_matches_the_slow_way(mining: str, make_loss: MakeLoss) -> None:
    embedding = rows(2)
    near = torch.cdist(F.normalize(embedding, dim=1), F.normalize(embedding, dim=1))
    found: dict[Any, list[tuple[float, float]]] = {}
    for a, p, n in every_triplet(LABEL):
        key = a if mining == "batch_hard" else (a, p)
        found.setdefault(key, []).append((near[a, p].item(), near[a, n].item()))
    gaps = []
    for pairs in found.values():
        own, others = max(p for p, _ in pairs), [n for _, n in pairs]
        beyond = [n for n in others if n > own]
        nearest = min(others) if mining == "batch_hard" else (min(beyond) if beyond else max(others))
        gaps.append(own - nearest)
    expected = torch.tensor(gaps).add(0.5).clamp_min(0).mean()
    loss = make_loss("triplet", mining=mining, margin=0.5)
    torch.testing.assert_close(of(loss, embedding, LABEL), expected, rtol=1e-5, atol=1e-6)


def test_forward__positives_of_one_object(make_loss: MakeLoss) -> None:
    index = torch.tensor([5, 5, 9, 9])
    embedding = circle(0, 60, 90, 180)
    loss = make_loss("triplet", positives="object", margin=0.25)
    same = of(make_loss("triplet", margin=0.25), embedding, torch.tensor([0, 0, 1, 1]))
    assert of(loss, embedding, torch.full((4,), -1), index) == same
    component: Any = component_class("loss", "triplet")
    assert component.needs_of(loss.config) == ("student.embedding",)
    with pytest.raises(ValueError, match="positions of the rows' objects"):
        of(loss, embedding, torch.zeros(4, dtype=torch.int64))


@pytest.mark.parametrize("mining", ["batch_hard", "semi_hard", "all"])
@pytest.mark.parametrize("label", [[-1, -1, -1], [0, 0, 0], [0, 1, 2], [0, -1, 1]])
def test_forward__without_a_triplet_it_is_0_with_a_gradient(
    mining: str, label: list[int], make_loss: MakeLoss
) -> None:
    embedding = rows(3, 3).requires_grad_()
    value = of(make_loss("triplet", mining=mining), embedding, torch.tensor(label))
    value.backward()
    assert value == 0
    assert embedding.grad is not None
    assert not embedding.grad.any()


def test_epoch_figures__counts_batches_without_a_triplet(make_loss: MakeLoss) -> None:
    loss = make_loss("triplet", margin=0.001)
    for label in ([0, 0, 1], [0, 1, 2], [-1, -1, -1], [0, 0, 0]):
        of(loss, circle(0, 10, 90), torch.tensor(label))
    of(loss, circle(0, 90, 10), torch.tensor([0, 0, 1]))
    assert loss.epoch_figures() == {"batches_without_triplet": 2.0, "active": 0.5}
    assert loss.epoch_figures() == {"batches_without_triplet": 0.0}
    loss.eval()
    of(loss, circle(0, 10, 90), torch.tensor([0, 1, 2]))
    assert loss.epoch_figures() == {"batches_without_triplet": 0.0}


@pytest.mark.parametrize("distance", ["euclidean", "cosine"])
@pytest.mark.parametrize("margin", [0.3, "soft"])
def test_forward__equal_rows_have_a_finite_gradient(distance: str, margin: Any, make_loss: MakeLoss) -> None:
    embedding = torch.ones(4, 8, requires_grad=True)
    of(
        make_loss("triplet", distance=distance, margin=margin), embedding, torch.tensor([0, 0, 1, 1])
    ).backward()
    assert embedding.grad is not None
    assert embedding.grad.isfinite().all()


@pytest.mark.parametrize("mining", ["batch_hard", "semi_hard", "all"])
@pytest.mark.parametrize("distance", ["euclidean", "cosine"])
@pytest.mark.parametrize("margin", [0.3, "soft"])
def test_forward__gradcheck(mining: str, distance: str, margin: Any, make_loss: MakeLoss) -> None:
    loss = make_loss("triplet", mining=mining, distance=distance, margin=margin).double()
    embedding = rows(4).double().requires_grad_()
    assert torch.autograd.gradcheck(lambda e: of(loss, e, LABEL), (embedding,))


def test_forward__blind_to_scale_turn_and_order(make_loss: MakeLoss) -> None:
    loss, embedding = make_loss("triplet"), rows(5)
    turn = torch.linalg.qr(torch.randn(8, 8, generator=torch.Generator().manual_seed(6)))[0]
    once = of(loss, embedding, LABEL)
    torch.testing.assert_close(of(loss, 7 * embedding @ turn, LABEL), once)
    torch.testing.assert_close(of(loss, embedding.flip(0), LABEL.flip(0)), once)


def test_pairs_of__by_hand() -> None:
    positive, negative = pairs_of(torch.tensor([0, 0, 1, -1]))
    assert positive.nonzero().tolist() == [[0, 1], [1, 0]]
    assert negative.nonzero().tolist() == [[0, 2], [1, 2], [2, 0], [2, 1]]


@pytest.mark.parametrize("wrong", [{"margin": 0}, {"margin": "hard"}, {"mining": "hardest"}])
def test_config__refuses(wrong: dict[str, Any]) -> None:
    component: Any = component_class("loss", "triplet")
    with pytest.raises(ValidationError):
        component.Config(**wrong)
