from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from pydantic import ValidationError
from torch.nn import functional as F

from edgeproof_configs.errors import UsageError
from edgeproof_configs.registry import component_class
from edgeproof_train.loss import Loss, LossContext

KIND = "simkd"


def test_forward__is_the_mean_square_to_the_teachers_map(
    feature_loss: Callable[..., Loss], of_maps: Any, maps: Any
) -> None:
    student, teacher = maps(1, 4, 6, 8, 8), maps(2, 4, 10, 4, 4).abs()
    loss: Any = feature_loss(KIND, student, teacher).eval()
    restored = loss.projector(student)
    assert restored.shape == teacher.shape
    torch.testing.assert_close(of_maps(loss, student, teacher), F.mse_loss(restored, teacher))
    assert restored.min() == 0


def test_projector__has_the_layers_of_the_paper(feature_loss: Callable[..., Loss], maps: Any) -> None:
    loss: Any = feature_loss(KIND, maps(1, 4, 6, 8, 8), maps(2, 4, 10, 4, 4))
    convolutions = [part for part in loss.projector.modules() if isinstance(part, torch.nn.Conv2d)]
    assert [part.weight.shape for part in convolutions] == [(5, 6, 1, 1), (5, 5, 3, 3), (10, 5, 1, 1)]
    assert all(part.bias is None for part in convolutions)
    assert sum(isinstance(part, torch.nn.BatchNorm2d) for part in loss.projector.modules()) == 3
    assert sum(isinstance(part, torch.nn.ReLU) for part in loss.projector.modules()) == 3


def test_projector__without_its_last_relu_goes_below_zero(
    feature_loss: Callable[..., Loss], maps: Any
) -> None:
    loss: Any = feature_loss(KIND, maps(1, 4, 6, 4, 4), maps(2, 4, 10, 4, 4), last_relu=False)
    assert loss.projector(maps(1, 4, 6, 4, 4)).min() < 0


def test_reused_head__the_loss_trains_what_the_student_then_owns(
    feature_loss: Callable[..., Loss], of_maps: Any, maps: Any
) -> None:
    student, teacher = maps(1, 4, 6, 8, 8), maps(2, 4, 10, 4, 4).abs()
    loss: Any = feature_loss(KIND, student, teacher)
    classifier = torch.nn.Linear(10, 3).requires_grad_(False)
    head = loss.reused_head(classifier)
    before = head(student)
    of_maps(loss, student, teacher).backward()
    trained = [parameter for parameter in head.parameters() if parameter.requires_grad]
    assert len(trained) == 9
    torch.optim.SGD(trained, lr=1.0).step()
    assert not torch.equal(head(student), before)
    assert loss.state_dict() == {}
    assert classifier.weight.grad is None


@pytest.mark.parametrize(
    ("classifier", "message"),
    [(None, "this teacher has none"), (torch.nn.Linear(12, 3), r"reads 12 values, 't' has 10\s+channels")],
)
def test_build__a_teacher_whose_classifier_does_not_fit_is_refused(
    classifier: Any, message: str, make_loss: Callable[..., Loss]
) -> None:
    context = LossContext(
        *(8, 8),
        student_features={"s": (6, 4, 4)},
        teacher_features={"t": (10, 4, 4)},
        teacher_head=classifier,
    )
    with pytest.raises(UsageError, match=message):
        make_loss(KIND, context, nodes=[{"student": "s", "teacher": "t"}])


def test_build__a_factor_that_does_not_divide_is_refused(
    feature_loss: Callable[..., Loss], maps: Any
) -> None:
    with pytest.raises(UsageError, match=r"divided by 4: student \(B, 6, 4, 4\).*teacher \(B, 10, 4, 4\)"):
        feature_loss(KIND, maps(1, 4, 6, 4, 4), maps(2, 4, 10, 4, 4), factor=4)


def test_config__one_pair_of_nodes() -> None:
    component: Any = component_class("loss", KIND)
    pairs = [{"student": "a", "teacher": "b"}, {"student": "c", "teacher": "d"}]
    with pytest.raises(ValidationError, match=r"expected one pair, .*, got 2"):
        component.Config(nodes=pairs)
