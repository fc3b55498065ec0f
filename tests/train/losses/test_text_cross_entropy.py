from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from pydantic import ValidationError
from torch import Tensor, nn

from edgeproof_configs.errors import UsageError
from edgeproof_configs.registry import component_class
from edgeproof_train.loss import Loss, LossContext
from edgeproof_train.outputs import Mix


def test_forward__by_hand(make_loss: Callable[..., Loss], value: Any) -> None:
    # Two words at right angles, the embedding on the first: logits (3, 0).
    context = LossContext(2, None, 2, lambda spec: torch.eye(2), torch.tensor([1, 0]))
    loss = make_loss("text_cross_entropy", context, logit_scale=3.0)
    image = torch.tensor([[4.0, 0.0], [4.0, 0.0]])
    expected = (math.log(1 + math.exp(3)) + math.log(1 + math.exp(-3))) / 2
    assert value(loss, image, label=torch.tensor([0, 1])).item() == pytest.approx(expected, rel=1e-6)


def test_forward__aligned_embeddings_cost_nothing(
    make_loss: Callable[..., Loss], value: Any, text: Tensor
) -> None:
    loss = make_loss("text_cross_entropy", logit_scale=500.0)
    assert value(loss, 17 * text[[2, 0, 4]], label=torch.tensor([0, 1, 3])).item() == pytest.approx(
        0, abs=1e-6
    )


def test_forward__images_without_label_or_words_are_left_out(
    make_loss: Callable[..., Loss], value: Any, student: Tensor
) -> None:
    loss = make_loss("text_cross_entropy", logit_scale=5.0)
    some = value(loss, student, label=torch.tensor([0, -1, 3, 2, -1, 1]))
    torch.testing.assert_close(some, value(loss, student[[0, 2, 5]], label=torch.tensor([0, 3, 1])))


def test_forward__nothing_left_is_zero_with_a_gradient(
    make_loss: Callable[..., Loss], value: Any, student: Tensor
) -> None:
    student.requires_grad_()
    loss = value(make_loss("text_cross_entropy"), student, label=torch.full((6,), -1))
    loss.backward()
    assert loss.item() == 0
    assert student.grad is not None
    assert not student.grad.any()


def test_forward__smoothing_matches_torch(
    make_loss: Callable[..., Loss], value: Any, student: Tensor, text: Tensor
) -> None:
    loss = make_loss("text_cross_entropy", logit_scale=5.0, label_smoothing=0.2)
    scores = 5 * nn.functional.normalize(student) @ text.T
    oracle = nn.CrossEntropyLoss(label_smoothing=0.2)(scores, torch.tensor([2, 0, 4, 2, 2, 0]))
    torch.testing.assert_close(value(loss, student, label=torch.tensor([0, 1, 3, 0, 0, 1])), oracle)


def test_scale__learnt_and_kept_below_a_hundred(
    make_loss: Callable[..., Loss], value: Any, student: Tensor
) -> None:
    loss: Any = make_loss("text_cross_entropy", learn_logit_scale=True, logit_scale=10.0)
    value(loss, student, label=torch.zeros(6, dtype=torch.long)).backward()
    assert loss.log_scale.grad.abs() > 0
    with torch.no_grad():
        loss.log_scale.fill_(9.0)
    assert loss.scale().item() == pytest.approx(100, rel=1e-5)
    assert set(loss.state_dict()) == {"log_scale"}


def test_config__a_learnt_scale_cannot_start_above_its_limit() -> None:
    component: Any = component_class("loss", "text_cross_entropy")
    with pytest.raises(ValidationError, match="starts at 100"):
        component.Config(learn_logit_scale=True, logit_scale=200)


def test_build__no_class_has_words(make_loss: Callable[..., Loss], text: Tensor) -> None:
    context = LossContext(8, 8, 2, lambda spec: text, torch.tensor([-1, -1]))
    with pytest.raises(UsageError, match="none of the training classes"):
        make_loss("text_cross_entropy", context)


def test_forward__mixed_images_are_shared_out_between_two_words(
    make_loss: Callable[..., Loss], value: Any, student: Tensor, text: Tensor
) -> None:
    loss = make_loss("text_cross_entropy", logit_scale=5.0, label_smoothing=0.2)
    label, partner = torch.tensor([0, 1, 3, 2, -1, 0]), torch.tensor([3, 0, 1, 0, 1, 2])
    share = torch.tensor([0.75, 0.25, 0.5, 0.5, 0.5, 1.0])
    found = value(loss, student, label=label, mix=Mix(partner, share))
    scores = 5 * nn.functional.normalize(student) @ text.T
    cost = nn.CrossEntropyLoss(label_smoothing=0.2, reduction="none")
    # Class 2 has no words, so that the fourth image has half a word; the last one is all its own.
    kept, own_word, other_word = [0, 1, 2, 5], torch.tensor([2, 0, 4, 2]), torch.tensor([4, 2, 0, 0])
    own, other = cost(scores[kept], own_word), cost(scores[kept], other_word)
    torch.testing.assert_close(found, (share[kept] * own + (1 - share[kept]) * other).mean())
