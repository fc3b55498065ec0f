from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from edgeproof_configs.errors import UsageError
from edgeproof_train.loss import Loss, LossContext

# Rows 2, 0, none and 4 of the text.
LABEL = torch.tensor([0, 1, 3, 3, 0, 1])


def test_forward__matches_numpy(
    make_loss: Callable[..., Loss], value: Any, student: Tensor, teacher: Tensor, text: Tensor
) -> None:
    def affinities(embedding: Tensor) -> tuple[Any, Any]:
        v, u = embedding.double().numpy(), text[[2, 0, 4, 4, 2, 0]].double().numpy()
        v = v / np.linalg.norm(v, axis=1, keepdims=True)
        powers = np.exp(50 * v @ u.T)
        return powers / powers.sum(axis=1, keepdims=True), (powers / powers.sum(axis=0)).T

    expected = 0.0
    for p, q in zip(affinities(teacher), affinities(student), strict=True):
        expected += (p * np.log(p / q)).sum(axis=1).mean() / 2
    loss = make_loss("clip_affinity", logit_scale=50.0)
    assert value(loss, student, teacher, LABEL).item() == pytest.approx(expected, rel=1e-4)


def test_forward__gradient_of_open_clips_affinity_mimicking(
    make_loss: Callable[..., Loss], value: Any, student: Tensor, teacher: Tensor, text: Tensor
) -> None:
    from open_clip.loss import DistillClipLoss

    u = text[[2, 0, 4, 4, 2, 0]]
    given = student.clone().requires_grad_()
    v_s, v_t = F.normalize(given, dim=1), F.normalize(teacher, dim=1)
    theirs = DistillClipLoss()(v_s, u, 20.0, v_t, u, 20.0)[1]
    theirs.backward()
    student.requires_grad_()
    ours = value(make_loss("clip_affinity", logit_scale=20.0), student, teacher, LABEL)
    ours.backward()
    torch.testing.assert_close(student.grad, given.grad, rtol=1e-4, atol=1e-6)
    # Cross entropy less the teacher's entropy.
    scores = 20 * v_t @ u.T
    entropy = sum(-(s.softmax(1) * s.log_softmax(1)).sum(1).mean() / 2 for s in (scores, scores.T))
    torch.testing.assert_close(ours, theirs - entropy, rtol=1e-4, atol=1e-5)


def test_forward__blind_to_length_and_to_the_order_of_images(
    make_loss: Callable[..., Loss], value: Any, student: Tensor, teacher: Tensor
) -> None:
    loss = make_loss("clip_affinity", logit_scale=5.0)
    expected = value(loss, student, teacher, LABEL)
    torch.testing.assert_close(value(loss, 300 * student, 0.01 * teacher, LABEL), expected)
    order = torch.tensor([3, 0, 5, 1, 4, 2])
    torch.testing.assert_close(value(loss, student[order], teacher[order], LABEL[order]), expected)


def test_forward__images_without_label_or_words_are_left_out(
    make_loss: Callable[..., Loss], value: Any, student: Tensor, teacher: Tensor
) -> None:
    loss = make_loss("clip_affinity", logit_scale=5.0)
    some = value(loss, student, teacher, torch.tensor([0, -1, 3, 2, 0, 1]))
    kept = [0, 2, 4, 5]
    torch.testing.assert_close(some, value(loss, student[kept], teacher[kept], LABEL[kept]))


def test_forward__nothing_left_is_zero_with_a_gradient(
    make_loss: Callable[..., Loss], value: Any, student: Tensor, teacher: Tensor
) -> None:
    student.requires_grad_()
    loss = value(make_loss("clip_affinity"), student, teacher, torch.full((6,), -1))
    loss.backward()
    assert loss.item() == 0
    assert student.grad is not None
    assert not student.grad.any()


def test_build__no_class_has_words(make_loss: Callable[..., Loss], text: Tensor) -> None:
    context = LossContext(8, 8, 2, lambda spec: text, torch.tensor([-1, -1]))
    with pytest.raises(UsageError, match="clip_affinity: none of the training classes"):
        make_loss("clip_affinity", context)


def test_build__widths_differ(make_loss: Callable[..., Loss], text: Tensor) -> None:
    rows = torch.tensor([2, 0, -1, 4])
    with pytest.raises(UsageError, match=r"\(B, 8\).*\(B, 16\)"):
        make_loss("clip_affinity", LossContext(8, 16, 4, lambda spec: text, rows))
    with pytest.raises(UsageError, match=r"\(5, 8\).*\(B, 16\)"):
        make_loss("clip_affinity", LossContext(16, 16, 4, lambda spec: text, rows))


def test_state__words_are_not_saved_with_the_student(make_loss: Callable[..., Loss]) -> None:
    loss = make_loss("clip_affinity")
    assert loss.state_dict() == {}
    assert loss.depends_on_batch
