from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from pydantic import ValidationError
from torch import Tensor
from torch.nn import functional as F

from edgeproof_configs.errors import UsageError
from edgeproof_configs.registry import component_class
from edgeproof_train.loss import Loss, LossContext

# Rows 2, 0 and 4 of the text; class 2 has no words.
LABEL = torch.tensor([0, 1, 3])


def test_forward__matches_open_clip_where_all_texts_differ(
    make_loss: Callable[..., Loss], value: Any, student: Tensor, text: Tensor
) -> None:
    from open_clip.loss import ClipLoss

    theirs = ClipLoss()(F.normalize(student[:3], dim=1), text[[2, 0, 4]], torch.tensor(20.0))
    loss = make_loss("clip_contrastive", logit_scale=20.0)
    torch.testing.assert_close(value(loss, student[:3], label=LABEL), theirs, rtol=1e-5, atol=1e-6)


def test_forward__by_hand(make_loss: Callable[..., Loss], value: Any) -> None:
    # Two texts at right angles, each image on its own: -log(e^3 / (e^3 + 1)) in all rows and columns.
    context = LossContext(2, 2, 2, lambda spec: torch.eye(2), torch.tensor([1, 0]))
    loss = make_loss("clip_contrastive", context, logit_scale=3.0)
    result = value(loss, torch.tensor([[0.0, 5.0], [7.0, 0.0]]), label=torch.tensor([0, 1]))
    assert result.item() == pytest.approx(math.log(1 + math.exp(-3)), rel=1e-5)


def test_forward__images_of_one_class_are_no_negatives(
    make_loss: Callable[..., Loss], value: Any, student: Tensor, text: Tensor
) -> None:
    loss = make_loss("clip_contrastive", logit_scale=4.0)
    label = torch.tensor([0, 0, 1, 3, 1, 0])
    rows = torch.tensor([2, 2, 0, 4, 0, 2])
    scores = 4 * F.normalize(student, dim=1) @ text[rows].T
    pairs = (rows[:, None] == rows[None, :]).float()
    expected = torch.zeros(())
    for z, same in ((scores, pairs), (scores.T, pairs.T)):
        target = same / same.sum(dim=1, keepdim=True)
        entropy = -torch.xlogy(target, target).sum(dim=1)
        expected = expected + (F.cross_entropy(z, target, reduction="none") - entropy).mean() / 2
    torch.testing.assert_close(value(loss, student, label=label), expected)
    alone = value(loss, student[:1].repeat(3, 1), label=torch.zeros(3, dtype=torch.long))
    assert alone.item() == pytest.approx(0, abs=1e-6)


def test_forward__images_without_label_or_words_are_left_out(
    make_loss: Callable[..., Loss], value: Any, student: Tensor
) -> None:
    loss = make_loss("clip_contrastive", logit_scale=5.0)
    some = value(loss, student, label=torch.tensor([0, -1, 3, 2, -1, 1]))
    torch.testing.assert_close(some, value(loss, student[[0, 2, 5]], label=torch.tensor([0, 3, 1])))


def test_forward__nothing_left_is_zero_with_a_gradient(
    make_loss: Callable[..., Loss], value: Any, student: Tensor
) -> None:
    student.requires_grad_()
    loss: Any = make_loss("clip_contrastive")
    result = value(loss, student, label=torch.full((6,), -1))
    result.backward()
    assert result.item() == 0
    assert student.grad is not None
    assert not student.grad.any()
    assert loss.log_scale.grad == 0


def test_scale__learnt_and_kept_below_a_hundred(
    make_loss: Callable[..., Loss], value: Any, student: Tensor
) -> None:
    loss: Any = make_loss("clip_contrastive")
    assert loss.scale().item() == pytest.approx(1 / 0.07, rel=1e-5)
    value(loss, student[:3], label=LABEL).backward()
    assert loss.log_scale.grad.abs() > 0
    with torch.no_grad():
        loss.log_scale.fill_(9.0)
    assert loss.scale().item() == pytest.approx(100, rel=1e-5)
    assert set(loss.state_dict()) == {"log_scale"}


def test_scale__fixed(make_loss: Callable[..., Loss]) -> None:
    loss: Any = make_loss("clip_contrastive", learn_logit_scale=False, logit_scale=50.0)
    assert loss.scale() == 50
    assert loss.state_dict() == {}


def test_config__a_scale_above_its_limit() -> None:
    component: Any = component_class("loss", "clip_contrastive")
    with pytest.raises(ValidationError, match="less than or equal to 100"):
        component.Config(logit_scale=200)


def test_build__no_class_has_words(make_loss: Callable[..., Loss], text: Tensor) -> None:
    context = LossContext(8, 8, 2, lambda spec: text, torch.tensor([-1, -1]))
    with pytest.raises(UsageError, match="clip_contrastive: none of the training classes"):
        make_loss("clip_contrastive", context)


def test_class__pairs_within_a_batch(make_loss: Callable[..., Loss]) -> None:
    loss = make_loss("clip_contrastive")
    assert loss.depends_on_batch
    assert loss.one_label
