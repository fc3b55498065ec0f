from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from edgeproof_train.loss import Loss


def test_forward__matches_torch(make_loss: Callable[..., Loss], value: Any, student: Tensor) -> None:
    loss: Any = make_loss("label_cross_entropy", label_smoothing=0.1)
    label = torch.tensor([0, 3, -1, 2, 1, -1])
    oracle = nn.CrossEntropyLoss(label_smoothing=0.1, ignore_index=-1)(loss.classifier(student), label)
    torch.testing.assert_close(value(loss, student, label=label), oracle)


def test_classifier__is_trained_and_saved(
    make_loss: Callable[..., Loss], value: Any, student: Tensor
) -> None:
    loss: Any = make_loss("label_cross_entropy")
    value(loss, student, label=torch.tensor([0, 1, 2, 3, 0, 1])).backward()
    assert loss.classifier.weight.grad.abs().sum() > 0
    assert loss.classifier.weight.shape == (4, 8)
    assert set(loss.state_dict()) == {"classifier.weight", "classifier.bias"}


def test_forward__nothing_labelled_is_zero(
    make_loss: Callable[..., Loss], value: Any, student: Tensor
) -> None:
    assert value(make_loss("label_cross_entropy"), student, label=torch.full((6,), -1)).item() == 0
