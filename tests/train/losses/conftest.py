"""Embeddings to compare, and a way to build any loss on them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from edgeproof_configs.registry import component_class
from edgeproof_train.loss import Loss, LossContext
from edgeproof_train.outputs import Mix, ModelOutputs, StepOutputs

BATCH, DIM, WORDS, CLASSES = 6, 8, 5, 4


def unit_rows(seed: int, *shape: int) -> Tensor:
    rows = torch.randn(*shape, generator=torch.Generator().manual_seed(seed))
    return torch.nn.functional.normalize(rows, dim=-1)


@pytest.fixture
def student() -> Tensor:
    return torch.randn(BATCH, DIM, generator=torch.Generator().manual_seed(1))


@pytest.fixture
def teacher() -> Tensor:
    return torch.randn(BATCH, DIM, generator=torch.Generator().manual_seed(2))


@pytest.fixture
def text() -> Tensor:
    return unit_rows(3, WORDS, DIM)


@pytest.fixture
def make_loss(text: Tensor) -> Callable[..., Loss]:
    """Return a builder: `make_loss(kind, **settings)`; `context=` overrides the one of this file."""
    standard = LossContext(DIM, DIM, CLASSES, lambda spec: text, torch.tensor([2, 0, -1, 4]))

    def make(kind: str, context: LossContext = standard, **settings: Any) -> Loss:
        component: Any = component_class("loss", kind)
        return component(component.Config(kind=kind, **settings), context)

    return make


@pytest.fixture
def value() -> Callable[..., Tensor]:
    """Return `value(loss, student, teacher, label)`; `second=` another pass, `mix=` what was mixed."""

    def evaluate(
        loss: Loss,
        student: Tensor,
        teacher: Tensor | None = None,
        label: Tensor | None = None,
        second: Tensor | None = None,
        mix: Mix | None = None,
    ) -> Tensor:
        # In the space of class scores an embedding is the scores themselves.
        known: dict[str, Any] = {} if teacher is None else {"teacher": ModelOutputs(teacher, teacher)}
        if label is not None:
            known["label"] = label
        if second is not None:
            known["second"] = ModelOutputs(second, second)
        if mix is not None:
            known["mix"] = mix
        return loss(StepOutputs(ModelOutputs(student, student), **known))

    return evaluate


@pytest.fixture
def feature_loss(make_loss: Callable[..., Loss]) -> Callable[..., Loss]:
    """Return a builder: `feature_loss(kind, student, teacher, **settings)`, for maps as these, one pair."""

    def make(kind: str, student: Tensor, teacher: Tensor, **settings: Any) -> Loss:
        context = LossContext(
            *(DIM, DIM, CLASSES),
            student_features={"s": tuple(student.shape[1:])},
            teacher_features={"t": tuple(teacher.shape[1:])},
            teacher_head=torch.nn.Linear(teacher.shape[1], CLASSES),
        )
        return make_loss(kind, context, nodes=[{"student": "s", "teacher": "t"}], **settings)

    return make


@pytest.fixture
def of_maps() -> Callable[[Loss, Tensor, Tensor], Tensor]:
    """Return `of_maps(loss, student, teacher)`, for a loss that `feature_loss` built."""

    def evaluate(loss: Loss, student: Tensor, teacher: Tensor) -> Tensor:
        return loss(StepOutputs(ModelOutputs(features={"s": student}), ModelOutputs(features={"t": teacher})))

    return evaluate


@pytest.fixture
def maps() -> Callable[..., Tensor]:
    """Return `maps(seed, *shape)`, random maps in float32."""
    return lambda seed, *shape: torch.randn(*shape, generator=torch.Generator().manual_seed(seed))
