from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from edgeproof_configs.registry import component_class
from edgeproof_train.loss import Loss, LossContext
from edgeproof_train.outputs import ModelOutputs, StepOutputs, TopProbabilities
from edgeproof_train.top_targets import kl_from_top, largest


def scores(seed: int, *shape: int, scale: float = 3.0) -> Tensor:
    return scale * torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def top_of(logits: Tensor, k: int) -> TopProbabilities:
    return TopProbabilities(*largest(logits, k), logits.shape[1])


def spread(top: TopProbabilities) -> Tensor:
    """Write all K probabilities out."""
    whole = top.rest()[..., None].expand(len(top.values), top.num_classes).clone()
    return whole.scatter(1, top.ids, top.values)


def build(kind: str, classes: int, **settings: float) -> Loss:
    component: type[Loss] = component_class("loss", kind)
    config: Callable[..., object] = component.Config
    return component(config(kind=kind, **settings), LossContext(classes, classes))


def test_largest__first_and_at_temperature_one() -> None:
    values, ids = largest(torch.tensor([[0.0, math.log(3), -50.0]], dtype=torch.float16), 2)
    assert ids.tolist() == [[1, 0]]
    torch.testing.assert_close(values, torch.tensor([[0.75, 0.25]]), rtol=0, atol=1e-3)
    assert values.dtype == torch.float32


def test_rest__is_what_is_left_for_each_of_the_others() -> None:
    top = TopProbabilities(torch.tensor([[0.5, 0.2], [1.0, 0.0]]), torch.tensor([[3, 1], [0, 2]]), 5)
    torch.testing.assert_close(top.rest(), torch.tensor([0.1, 0.0]))
    torch.testing.assert_close(spread(top).sum(dim=1), torch.ones(2))
    assert top_of(scores(0, 3, 7), 7).rest() == 0


def test_kl__by_hand() -> None:
    # p = (.6, .2, .2) known as (.6), q uniform: .6 ln 1.8 + .4 ln .6.
    top = TopProbabilities(torch.tensor([[0.6]]), torch.tensor([[1]]), 3)
    expected = 0.6 * math.log(1.8) + 0.4 * math.log(0.6)
    assert kl_from_top(torch.zeros(1, 3), top).item() == pytest.approx(expected, abs=1e-7)


@pytest.mark.parametrize("k", [1, 4, 11])
def test_kl__is_that_of_the_spread_probabilities(k: int) -> None:
    student, top = scores(1, 6, 12), top_of(scores(2, 6, 12), k)
    expected = F.kl_div(F.log_softmax(student, 1), spread(top), reduction="batchmean")
    torch.testing.assert_close(kl_from_top(student, top), expected)


def test_soft_target__all_classes_equal_the_dense_loss_and_gradient() -> None:
    loss = build("soft_target", 12, temperature=1.0)
    teacher = scores(2, 6, 12)
    found = []
    for given in (ModelOutputs(logits=teacher), ModelOutputs(top=top_of(teacher, 12))):
        student = scores(1, 6, 12).requires_grad_()
        value = loss(StepOutputs(ModelOutputs(logits=student), given))
        value.backward()
        found.append((value.detach(), student.grad))
    torch.testing.assert_close(found[0], found[1], rtol=0, atol=1e-6)


def test_kl__gradcheck_and_no_gradient_to_the_teacher() -> None:
    student = scores(1, 4, 9).double().requires_grad_()
    values, ids = largest(scores(2, 4, 9), 3)
    top = TopProbabilities(values.double().requires_grad_(), ids, 9)
    assert torch.autograd.gradcheck(lambda z: kl_from_top(z, top), (student,))
    kl_from_top(student, top).backward()
    assert top.values.grad is None


def test_kl__properties() -> None:
    student, teacher = scores(1, 6, 12), scores(2, 6, 12)
    top = top_of(teacher, 4)
    value = kl_from_top(student, top)
    assert value > 0
    torch.testing.assert_close(kl_from_top(student + 50, top), value, rtol=1e-5, atol=1e-5)
    doubled = TopProbabilities(top.values.repeat(2, 1), top.ids.repeat(2, 1), 12)
    torch.testing.assert_close(kl_from_top(student.repeat(2, 1), doubled), value)
    assert kl_from_top(spread(top).log(), top).item() == pytest.approx(0, abs=1e-6)


def test_kl__sure_teacher_and_huge_scores() -> None:
    teacher = torch.zeros(2, 6)
    teacher[:, 0] = 1e4
    student = torch.zeros(2, 6, dtype=torch.float16)
    student[:, 1] = 6e4
    student.requires_grad_()
    loss = build("soft_target", 6, temperature=1.0)
    value = loss(StepOutputs(ModelOutputs(logits=student), ModelOutputs(top=top_of(teacher, 2))))
    value.backward()
    assert value.item() == pytest.approx(6e4, rel=1e-3)
    assert student.grad is not None
    assert student.grad.isfinite().all()


def test_kl__as_many_classes_as_landmarks() -> None:
    # The teacher's side stays (B, k), whatever the number of classes.
    classes = 252_903
    ids = torch.tensor([[252_902, 7, 70_000], [1, 2, 3]])
    top = TopProbabilities(torch.tensor([[0.7, 0.2, 0.05], [0.4, 0.3, 0.3]]), ids, classes)
    student = scores(3, 2, classes).requires_grad_()
    value = kl_from_top(student, top)
    value.backward()
    expected = F.kl_div(F.log_softmax(student.detach().double(), 1), spread(top).double(), reduction="none")
    assert value.item() == pytest.approx(expected.sum(dim=1).mean().item(), rel=1e-5)
    assert student.grad is not None
    torch.testing.assert_close(
        student.grad * 2, student.detach().softmax(1) - spread(top), rtol=1e-3, atol=1e-7
    )


def test_hard_distillation__takes_the_first() -> None:
    teacher, student = scores(2, 6, 12), scores(1, 6, 12)
    loss = build("hard_distillation", 12)
    dense, sparse = (
        loss(StepOutputs(ModelOutputs(logits=student), given))
        for given in (ModelOutputs(logits=teacher), ModelOutputs(top=top_of(teacher, 1)))
    )
    assert torch.equal(dense, sparse)


def test_forward__what_cannot_be_met_is_refused() -> None:
    top = ModelOutputs(top=top_of(scores(2, 6, 12), 3))
    outputs = StepOutputs(ModelOutputs(logits=scores(1, 6, 12)), top, torch.zeros(6, dtype=torch.long))
    with pytest.raises(ValueError, match=r"dkd: .* only the largest of them"):
        build("dkd", 12)(outputs)
    with pytest.raises(ValueError, match=r"student \(6, 9\) and teacher \(B, 12\) differ"):
        kl_from_top(scores(1, 6, 9), top.top)
