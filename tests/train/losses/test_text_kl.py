from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from pydantic import ValidationError
from torch import Tensor

from edgeproof_configs.errors import UsageError
from edgeproof_configs.registry import component_class
from edgeproof_train.loss import Loss, LossContext
from edgeproof_train.text import TextSpec


def test_forward__by_hand(make_loss: Callable[..., Loss], value: Any) -> None:
    # Teacher logits (2 ln 3, 0), student logits (0, 0), T = 2: 4 (.75 ln 1.5 + .25 ln .5).
    scale = 2 * math.log(3)
    context = LossContext(2, 2, text=lambda spec: torch.eye(2))
    loss = make_loss("text_kl", context, logit_scale=scale, temperature=2.0)
    even = torch.tensor([[1.0, 1.0]])
    assert value(loss, even, torch.tensor([[5.0, 0.0]])).item() == pytest.approx(0.523249, abs=1e-6)


def test_forward__matches_scipy(
    make_loss: Callable[..., Loss], value: Any, student: Tensor, teacher: Tensor, text: Tensor
) -> None:
    from scipy.special import rel_entr, softmax

    def probabilities(embedding: Tensor):
        unit = embedding / embedding.norm(dim=1, keepdim=True)
        return softmax((7.0 / 3.0) * (unit @ text.T).double().numpy(), axis=1)

    expected = rel_entr(probabilities(teacher), probabilities(student)).sum(axis=1).mean() * 9
    loss = make_loss("text_kl", logit_scale=7.0, temperature=3.0)
    assert value(loss, student, teacher).item() == pytest.approx(expected, rel=1e-5)


def test_forward__blind_to_length(
    make_loss: Callable[..., Loss], value: Any, student: Tensor, teacher: Tensor
) -> None:
    loss = make_loss("text_kl", logit_scale=5.0)
    torch.testing.assert_close(value(loss, 80 * student, 0.1 * teacher), value(loss, student, teacher))


def test_build__own_words_are_asked_for(make_loss: Callable[..., Loss]) -> None:
    asked: list[TextSpec | None] = []

    def rows(spec: TextSpec | None) -> Tensor:
        asked.append(spec)
        return torch.eye(8)

    make_loss("text_kl", LossContext(8, 8, text=rows), labels="nouns.txt", templates="imagenet7")
    make_loss("text_kl", LossContext(8, 8, text=rows))
    assert asked == [TextSpec(labels="nouns.txt", templates="imagenet7"), None]


def test_build__text_of_another_width_is_refused(make_loss: Callable[..., Loss]) -> None:
    with pytest.raises(UsageError, match=r"\(3, 9\).*\(B, 8\)"):
        make_loss("text_kl", LossContext(8, 8, text=lambda spec: torch.zeros(3, 9)))


def test_config__templates_alone_have_no_effect() -> None:
    component: Any = component_class("loss", "text_kl")
    with pytest.raises(ValidationError, match="no effect"):
        component.Config(templates="plain")


def test_state__words_are_not_saved_with_the_student(make_loss: Callable[..., Loss]) -> None:
    assert make_loss("text_kl").state_dict() == {}
