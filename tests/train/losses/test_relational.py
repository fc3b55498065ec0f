from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from pydantic import ValidationError
from torch import Tensor

from edgeproof_configs.registry import component_class
from edgeproof_train.loss import Loss, LossContext
from edgeproof_train.losses.relational import angle_loss


def points(*positions: int) -> Tensor:
    return torch.tensor([[float(position)] for position in positions])


def test_forward__distances_by_hand(make_loss: Callable[..., Loss], value: Any) -> None:
    # Points (0, 1, 2) against (0, 1, 3) on a line: 1/72.
    loss = make_loss("relational", LossContext(1, 1), distance=1.0, angle=0.0)
    assert value(loss, points(0, 1, 3), points(0, 1, 2)).item() == pytest.approx(1 / 72, rel=1e-6)


def test_forward__angles_by_hand(make_loss: Callable[..., Loss], value: Any) -> None:
    # A right angle at the first of three points, against a flat one. Student cosines: 0 at the first and
    # 1/sqrt 2 at the others; teacher: -1 and 1. Each stands twice (i and k swapped) among 27 triplets.
    student = torch.tensor([[0.0, 0.0], [1.0, 0.0], [0.0, 1.0]])
    teacher = torch.tensor([[0.0, 0.0], [1.0, 0.0], [-1.0, 0.0]])
    loss = make_loss("relational", LossContext(2, 2), distance=0.0, angle=1.0)
    # |-1 - 0| = 1 lies on the knee: 0.5 either way.
    expected = (2 * 0.5 + 4 * 0.5 * (1 - 0.5**0.5) ** 2) / 27
    assert value(loss, student, teacher).item() == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("width", [8, 3])
def test_forward__matches_torchdistill(
    width: int, make_loss: Callable[..., Loss], value: Any, student: Tensor, teacher: Tensor
) -> None:
    rkd = oracle()
    loss = make_loss("relational", LossContext(width, 8), distance=25.0, angle=50.0)
    student = student[:, :width]
    criterion = rkd("student", "teacher", dist_factor=25.0, angle_factor=50.0, reduction="mean")
    theirs = criterion({"student": {"output": student}}, {"teacher": {"output": teacher}})
    torch.testing.assert_close(value(loss, student, teacher), theirs, rtol=1e-5, atol=1e-6)


def test_forward__blind_to_shift_turn_and_scale(
    make_loss: Callable[..., Loss], value: Any, student: Tensor, teacher: Tensor
) -> None:
    loss = make_loss("relational")
    turn = torch.linalg.qr(torch.randn(8, 8, generator=torch.Generator().manual_seed(5)))[0]
    moved = 13 * student @ turn + 4
    torch.testing.assert_close(
        value(loss, moved, teacher), value(loss, student, teacher), rtol=1e-4, atol=1e-6
    )


def test_forward__equal_embeddings_have_a_finite_gradient(
    make_loss: Callable[..., Loss], value: Any, teacher: Tensor
) -> None:
    student = torch.ones(6, 8)
    student[3:] = 2.0
    student.requires_grad_()
    value(make_loss("relational"), student, teacher).backward()
    assert student.grad is not None
    assert student.grad.isfinite().all()
    assert student.grad.abs().max() < 10


@pytest.mark.parametrize("images", [1, 2])
def test_forward__a_batch_with_no_relations(images: int, make_loss: Callable[..., Loss], value: Any) -> None:
    student = torch.ones(images, 8, requires_grad=True)
    loss = value(make_loss("relational"), student, torch.ones(images, 8))
    loss.backward()
    assert loss.item() == 0


@pytest.mark.parametrize("chunk_elements", [1, 60, 1 << 20])
def test_angle_loss__the_chunk_changes_neither_value_nor_gradient(
    chunk_elements: int, student: Tensor, teacher: Tensor
) -> None:
    whole = student.double().requires_grad_()
    angle_loss(whole, teacher.double()).backward()
    parts = student.double().requires_grad_()
    angle_loss(parts, teacher.double(), chunk_elements).backward()
    assert whole.grad is not None
    assert parts.grad is not None
    torch.testing.assert_close(parts.grad, whole.grad, rtol=1e-10, atol=1e-12)


def test_forward__maps_of_nodes_are_averaged(
    make_loss: Callable[..., Loss], value: Any, feature_loss: Callable[..., Loss], of_maps: Any, maps: Any
) -> None:
    student, teacher = maps(1, 5, 7, 4, 4), maps(2, 5, 3, 2, 2)
    expected = value(make_loss("relational"), student.mean(dim=(2, 3)), teacher.mean(dim=(2, 3)))
    loss = feature_loss("relational", student, teacher)
    assert expected.item() > 0
    torch.testing.assert_close(of_maps(loss, student, teacher), expected)


def test_needs_of__the_embeddings_without_nodes(make_loss: Callable[..., Loss]) -> None:
    loss = make_loss("relational")
    assert type(loss).needs_of(loss.config) == ("student.embedding", "teacher.embedding")


def test_config__nothing_to_compare_is_refused() -> None:
    component: Any = component_class("loss", "relational")
    with pytest.raises(ValidationError, match="nothing would be compared"):
        component.Config(distance=0, angle=0)


def oracle() -> Any:
    """torchdistill's RKD; its registry needs these three modules to be loaded before."""
    import torchvision.datasets
    import torchvision.models
    import torchvision.transforms  # noqa: F401
    from torchdistill.losses.mid_level import RKDLoss

    return RKDLoss
