from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from edgeproof_configs.errors import UsageError
from edgeproof_train.loss import LossContext
from edgeproof_train.losses.cosine_embedding import CosineEmbedding
from edgeproof_train.losses.label_cross_entropy import LabelCrossEntropy
from edgeproof_train.losses.text_kl import TextKL
from edgeproof_train.task import DistillTask, loss_names


def batch(case: Any) -> Any:
    return next(case.MemoryLoader(4).epoch(0))


def test_forward__one_raw_scalar_for_each_term(case: Any) -> None:
    task = case.make_task([{"kind": "cosine_embedding", "weight": 100.0}, {"kind": "text_kl", "weight": 0.5}])
    losses = task.eval()(batch(case))
    assert list(losses) == ["cosine_embedding", "text_kl"]
    assert all(loss.shape == () and loss.dtype == torch.float32 for loss in losses.values())
    assert 0 < losses["cosine_embedding"] < 2
    expected = 100 * losses["cosine_embedding"] + 0.5 * losses["text_kl"]
    torch.testing.assert_close(task.total(losses), expected)


def test_loss_names__a_kind_that_is_there_again() -> None:
    configs = [CosineEmbedding.Config(), TextKL.Config(), TextKL.Config(labels="n.txt"), TextKL.Config()]
    assert loss_names(configs) == ["cosine_embedding", "text_kl", "text_kl_2", "text_kl_3"]


def test_build__no_loss() -> None:
    with pytest.raises(UsageError, match="there is no loss"):
        loss_names([])


def test_build__needs_are_checked_before_anything_is_read(case: Any) -> None:
    student = case.make_task().student
    with pytest.raises(UsageError, match="cosine_embedding needs teacher"):
        DistillTask(student, [CosineEmbedding.Config()], LossContext(case.DIM))
    with pytest.raises(UsageError, match="label_cross_entropy needs batch"):
        DistillTask(student, [LabelCrossEntropy.Config()], LossContext(case.DIM))


def test_build__context_student_and_teacher_must_be_of_one_width(case: Any) -> None:
    student, losses = case.make_task().student, [CosineEmbedding.Config()]
    with pytest.raises(ValueError, match="context is for 9, the student has 8"):
        DistillTask(student, losses, LossContext(9, 9), case.MemorySupervision())
    with pytest.raises(UsageError, match=r"\(B, 8\).*\(B, 9\)"):
        DistillTask(student, losses, LossContext(8, 9), case.MemorySupervision())
    with pytest.raises(ValueError, match="there is no supervision"):
        DistillTask(student, losses, LossContext(8, 8))


def test_build__a_teacher_that_would_be_trained_is_refused(case: Any) -> None:
    student = case.make_task().student
    supervision: Any = nn.Linear(3, 8)
    with pytest.raises(ValueError, match="must not be a module"):
        DistillTask(student, [CosineEmbedding.Config()], LossContext(8, 8), supervision)


def test_forward__labels_alone_ask_no_teacher(case: Any) -> None:
    task = case.make_task([{"kind": "label_cross_entropy"}])
    assert task.supervision is None
    task(batch(case))["label_cross_entropy"].backward()
    assert task.losses["label_cross_entropy"].classifier.weight.grad.abs().sum() > 0
    assert task.student.head.weight.grad.abs().sum() > 0


def test_batch_bound__names_the_losses(case: Any) -> None:
    task = case.make_task([{"kind": "cosine_embedding"}, {"kind": "relational"}])
    assert task.batch_bound() == ["relational"]


def test_loss_parameters__classifier_and_scale(case: Any) -> None:
    task = case.make_task([*case.TERMS, {"kind": "label_cross_entropy"}])
    assert {name for name, _ in task.loss_parameters()} == {
        "losses.text_cross_entropy.log_scale",
        "losses.label_cross_entropy.classifier.weight",
        "losses.label_cross_entropy.classifier.bias",
    }
