from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from edgeproof_configs.errors import UsageError
from edgeproof_train.loss import Loss
from edgeproof_train.losses.attention_transfer import attention

KIND = "attention_transfer"


def test_forward__by_hand(feature_loss: Callable[..., Loss], of_maps: Any) -> None:
    # Two places, one channel: squares (9, 16) of length sqrt 337 against (1, 0) of length 1.
    student, teacher = torch.tensor([[[[3.0, 4.0]]]]), torch.tensor([[[[2.0, 0.0]]]])
    a, b = 9 / 337**0.5 - 1, 16 / 337**0.5
    code = of_maps(feature_loss(KIND, student, teacher), student, teacher)
    paper = of_maps(feature_loss(KIND, student, teacher, form="paper"), student, teacher)
    assert code.item() == pytest.approx((a**2 + b**2) / 2, rel=1e-6)
    assert paper.item() == pytest.approx((a**2 + b**2) ** 0.5 / 2, rel=1e-6)


@pytest.mark.parametrize(("form", "factor"), [("code", 1.0), ("paper", 0.5)])
def test_forward__matches_torchdistill(
    form: str, factor: float, feature_loss: Callable[..., Loss], of_maps: Any, maps: Any
) -> None:
    student, teacher = maps(1, 5, 7, 4, 4), maps(2, 5, 3, 4, 4)
    pair = {"student": {"io": "output", "path": "s"}, "teacher": {"io": "output", "path": "t"}}
    theirs = oracle()({"pair": pair}, mode=form)({"s": {"output": student}}, {"t": {"output": teacher}})
    ours = of_maps(feature_loss(KIND, student, teacher, form=form), student, teacher)
    torch.testing.assert_close(ours, factor * theirs, rtol=1e-5, atol=1e-8)


@pytest.mark.parametrize("p", [1.0, 2.0, 3.5])
@pytest.mark.parametrize("form", ["code", "paper"])
def test_forward__blind_to_scale_and_order_of_channels(
    p: float, form: str, feature_loss: Callable[..., Loss], of_maps: Any, maps: Any
) -> None:
    student, teacher = maps(1, 4, 6, 3, 3), maps(2, 4, 6, 3, 3)
    loss = feature_loss(KIND, student, teacher, p=p, form=form)
    expected = of_maps(loss, student, teacher)
    torch.testing.assert_close(of_maps(loss, 1e-6 * student, 1e9 * teacher), expected)
    torch.testing.assert_close(of_maps(loss, -student.flip(1), teacher.roll(2, 1)), expected)
    assert of_maps(loss, teacher.flip(1), teacher).item() == pytest.approx(0, abs=1e-6)


def test_forward__the_exponent_changes_it(feature_loss: Callable[..., Loss], of_maps: Any, maps: Any) -> None:
    student, teacher = maps(1, 4, 6, 3, 3), maps(2, 4, 6, 3, 3)
    values = {
        p: of_maps(feature_loss(KIND, student, teacher, p=p), student, teacher) for p in (1.0, 2.0, 4.0)
    }
    attention = [features.abs().pow(4).mean(1).flatten(1) for features in (student, teacher)]
    a, b = (rows / rows.norm(dim=1, keepdim=True) for rows in attention)
    torch.testing.assert_close(values[4.0], (a - b).square().mean())
    assert len({round(value.item(), 6) for value in values.values()}) == 3


@pytest.mark.parametrize("form", ["code", "paper"])
@pytest.mark.parametrize("p", [1.0, 2.0])
def test_forward__maps_of_zeros_and_equal_maps_have_a_finite_gradient(
    form: str, p: float, feature_loss: Callable[..., Loss], of_maps: Any, maps: Any
) -> None:
    teacher = maps(2, 3, 4, 3, 3)
    teacher[0] = 0
    for student in (torch.zeros_like(teacher), teacher.clone(), maps(1, 3, 4, 3, 3)):
        student.requires_grad_()
        loss = of_maps(feature_loss(KIND, student, teacher, form=form, p=p), student, teacher)
        loss.backward()
        assert loss.isfinite()
        assert student.grad is not None
        assert student.grad.isfinite().all()


def test_forward__the_largest_values_of_float16(
    feature_loss: Callable[..., Loss], of_maps: Any, maps: Any
) -> None:
    student = (65504 * maps(1, 2, 8, 7, 7).tanh()).half()
    teacher = (65504 * maps(2, 2, 8, 7, 7).tanh()).half()
    loss = feature_loss(KIND, student, teacher, p=8.0)
    result, exact = of_maps(loss, student, teacher), of_maps(loss, student.double(), teacher.double())
    torch.testing.assert_close(result.double(), exact, rtol=1e-5, atol=0)


@pytest.mark.parametrize("side", [(1, 4), (4, 1)])
def test_build__a_map_of_one_place_is_refused(
    side: tuple[int, int], feature_loss: Callable[..., Loss]
) -> None:
    student, teacher = torch.zeros(2, 3, side[0], side[0]), torch.zeros(2, 5, side[1], side[1])
    with pytest.raises(UsageError, match=rf"\(B, 3, {side[0]}, {side[0]}\) at 's'.*\(B, 5, {side[1]}"):
        feature_loss(KIND, student, teacher)


def test_attention__is_of_length_one(maps: Any) -> None:
    rows: Tensor = attention(maps(1, 3, 4, 5, 5), 2.0)
    torch.testing.assert_close(rows.norm(dim=1), torch.ones(3))


def oracle() -> Any:
    """torchdistill's AT; its registry needs these three modules to be loaded before."""
    import torchvision.datasets
    import torchvision.models
    import torchvision.transforms  # noqa: F401
    from torchdistill.losses.mid_level import ATLoss

    return ATLoss
