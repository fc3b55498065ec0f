from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from edgeproof_train.loss import Loss
from edgeproof_train.outputs import Mix


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


def test_forward__mixed_images_are_shared_out_between_two_labels(
    make_loss: Callable[..., Loss], value: Any, student: Tensor
) -> None:
    loss: Any = make_loss("label_cross_entropy", label_smoothing=0.1)
    label, partner = torch.tensor([0, 3, -1, 2, 1, 1]), torch.tensor([1, 0, 3, -1, 2, -1])
    share = torch.tensor([0.75, 0.25, 0.5, 0.5, 0.0, 1.0])
    found = value(loss, student, label=label, mix=Mix(partner, share))
    scores = loss.classifier(student)
    cost = nn.CrossEntropyLoss(label_smoothing=0.1, reduction="none")
    # Of the third and the fourth image only one half has a label; of the last the other half has no share.
    kept = [0, 1, 4, 5]
    own, other = (cost(scores[kept], labels[kept].clamp_min(0)) for labels in (label, partner))
    torch.testing.assert_close(found, (share[kept] * own + (1 - share[kept]) * other).mean())
