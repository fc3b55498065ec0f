from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from edgeproof_train.loss import Loss

KIND = "similarity_preserving"


@pytest.mark.parametrize(("norm", "expected"), [("l2", 0.199233), ("l1_compat", 0.180556)])
def test_forward__by_hand(
    norm: str, expected: float, feature_loss: Callable[..., Loss], of_maps: Any
) -> None:
    student = torch.tensor([[1.0, 1.0], [0.0, 1.0]])[:, :, None, None]
    teacher = torch.tensor([[1.0, 0.0], [0.0, 2.0]])[:, :, None, None]
    loss = feature_loss(KIND, student, teacher, norm=norm)
    assert of_maps(loss, student, teacher).item() == pytest.approx(expected, abs=1e-6)


def test_forward__matches_torchdistill_only_where_it_repeats_its_mistake(
    feature_loss: Callable[..., Loss], of_maps: Any, maps: Any
) -> None:
    # It means to divide the rows by their length, and divides by the sum of their absolute values.
    student, teacher = maps(1, 6, 7, 4, 4), maps(2, 6, 3, 2, 2)
    theirs = oracle()("s", "t", "batchmean")({"s": {"output": student}}, {"t": {"output": teacher}})
    same, right = (
        of_maps(feature_loss(KIND, student, teacher, norm=norm), student, teacher)
        for norm in ("l1_compat", "l2")
    )
    torch.testing.assert_close(same, theirs, rtol=1e-5, atol=1e-8)
    assert right > 1.2 * theirs


def test_forward__matches_the_formula_in_float64(
    feature_loss: Callable[..., Loss], of_maps: Any, maps: Any
) -> None:
    student, teacher = maps(1, 6, 7, 4, 4), maps(2, 6, 3, 2, 2)
    products = []
    for features in (student, teacher):
        rows = features.double().flatten(1).numpy()
        product = rows @ rows.T
        products.append(product / (product**2).sum(axis=1, keepdims=True) ** 0.5)
    expected = ((products[0] - products[1]) ** 2).sum() / 36
    loss = feature_loss(KIND, student, teacher)
    assert of_maps(loss, student, teacher).item() == pytest.approx(expected, rel=1e-5)


def test_forward__blind_to_scale_turn_and_order_of_images(
    feature_loss: Callable[..., Loss], of_maps: Any, maps: Any
) -> None:
    student, teacher = maps(1, 6, 2, 2, 2), maps(2, 6, 3, 4, 4)
    loss = feature_loss(KIND, student, teacher)
    expected = of_maps(loss, student, teacher)
    turn = torch.linalg.qr(maps(3, 8, 8))[0]
    turned = (student.flatten(1) @ turn).reshape(student.shape)
    torch.testing.assert_close(of_maps(loss, 1e-8 * turned, 1e6 * teacher), expected, rtol=1e-4, atol=1e-6)
    order = [3, 1, 5, 0, 2, 4]
    torch.testing.assert_close(of_maps(loss, student[order], teacher[order]), expected)
    assert of_maps(loss, teacher, teacher).item() == 0


def test_forward__float16_maps_whose_products_float16_cannot_hold(
    feature_loss: Callable[..., Loss], of_maps: Any, maps: Any
) -> None:
    # A sum of 1280 x 7 x 7 squares of values up to 4 is 3.4e5; float16 ends at 65,504.
    student = maps(1, 4, 1280, 7, 7).abs().clamp(max=4).half().requires_grad_()
    teacher = (4 * torch.rand(4, 1280, 7, 7, generator=torch.Generator().manual_seed(2))).half()
    in_half = teacher.flatten(1) @ teacher.flatten(1).T
    assert in_half.isinf().any()
    loss = feature_loss(KIND, student, teacher)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        result = of_maps(loss, student, teacher)
    result.backward()
    assert student.grad is not None
    assert student.grad.isfinite().all()
    exact = of_maps(loss, student.detach().double(), teacher.double())
    torch.testing.assert_close(result.detach().double(), exact, rtol=1e-3, atol=1e-9)


def test_forward__maps_of_zeros_have_a_finite_gradient(
    feature_loss: Callable[..., Loss], of_maps: Any, maps: Any
) -> None:
    teacher: Tensor = maps(2, 3, 4, 3, 3)
    for student in (torch.zeros_like(teacher), maps(1, 3, 4, 3, 3)):
        student[1] = 0
        student.requires_grad_()
        of_maps(feature_loss(KIND, student, teacher), student, teacher).backward()
        assert student.grad is not None
        assert student.grad.isfinite().all()


def test_loss__is_of_the_whole_batch(feature_loss: Callable[..., Loss], of_maps: Any, maps: Any) -> None:
    student, teacher = maps(1, 1, 7, 4, 4), maps(2, 1, 3, 2, 2)
    loss = feature_loss(KIND, student, teacher)
    assert loss.depends_on_batch
    assert of_maps(loss, student, teacher).item() == 0


def oracle() -> Any:
    """torchdistill's SP; its registry needs these three modules to be loaded before."""
    import torchvision.datasets
    import torchvision.models
    import torchvision.transforms  # noqa: F401
    from torchdistill.losses.mid_level import SPKDLoss

    return SPKDLoss
