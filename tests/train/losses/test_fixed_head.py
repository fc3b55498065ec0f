from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn import functional as F

from edgeproof_configs.errors import UsageError
from edgeproof_train.loss import Loss, LossContext
from edgeproof_train.losses.fixed_head import FixedHeadLoss

LABEL = torch.tensor([0, 3, -1, 2, 1, -1])
PLAIN = LossContext(8, 8, 4)


@pytest.fixture
def weight() -> Tensor:
    return torch.randn(4, 8, generator=torch.Generator().manual_seed(4))


@pytest.fixture
def file(weight: Tensor, tmp_path: Path) -> str:
    np.save(tmp_path / "w.npy", weight.numpy())
    return str(tmp_path / "w.npy")


@pytest.mark.parametrize("chunk", [1, 3, None])
def test_forward__cosine_by_torch(
    chunk: int | None, make_loss: Callable[..., Loss], value: Any, student: Tensor, teacher: Tensor, file: str
) -> None:
    loss = make_loss("fixed_head", PLAIN, classifier=file, kl_weight=0.5, ce_weight=2.0, chunk=chunk)
    rows = F.normalize(torch.from_numpy(np.load(file)))
    said, told = (32 * F.normalize(e) @ rows.T for e in (student, teacher))
    margins = 3.2 * F.one_hot(LABEL.clamp_min(0), 4)
    entropy = F.cross_entropy(said - margins, LABEL, ignore_index=-1)
    said_log, told_log = (F.log_softmax(scores / 4, dim=1) for scores in (said, told))
    divergence = 16 * F.kl_div(said_log, told_log, reduction="batchmean", log_target=True)
    expected = 2 * entropy + 0.5 * divergence
    torch.testing.assert_close(value(loss, student, teacher, LABEL), expected, rtol=1e-5, atol=1e-5)


def test_forward__linear_with_bias(
    make_loss: Callable[..., Loss],
    value: Any,
    student: Tensor,
    teacher: Tensor,
    weight: Tensor,
    tmp_path: Path,
) -> None:
    place = tmp_path / "w.safetensors"
    bias = torch.arange(4.0)
    save_file({"weight": weight, "bias": bias}, place)
    settings: dict[str, Any] = {"classifier": str(place), "form": "linear"}
    found = value(make_loss("fixed_head", PLAIN, kl_weight=0, **settings), student, label=LABEL)
    expected = F.cross_entropy(student @ weight.T + bias, LABEL, ignore_index=-1)
    torch.testing.assert_close(found, expected)
    loss = make_loss("fixed_head", PLAIN, ce_weight=0, temperature=2, **settings)
    said, told = (F.log_softmax((e @ weight.T + bias) / 2, dim=1) for e in (student, teacher))
    expected = 4 * F.kl_div(said, told, reduction="batchmean", log_target=True)
    torch.testing.assert_close(value(loss, student, teacher), expected)


def test_forward__the_heads_words(
    make_loss: Callable[..., Loss], value: Any, student: Tensor, text: Tensor
) -> None:
    loss = make_loss("fixed_head", kl_weight=0, margin=0, scale=10)
    rows = torch.tensor([2, 0, -1, 4])[LABEL.clamp_min(0)].where(LABEL >= 0, -1)
    expected = F.cross_entropy(10 * F.normalize(student) @ text.T, rows, ignore_index=-1)
    torch.testing.assert_close(value(loss, student, label=LABEL), expected)
    assert value(loss, student, label=torch.full((6,), 2)).item() == 0


def test_forward__the_teachers_classifier(
    make_loss: Callable[..., Loss], value: Any, student: Tensor, teacher: Tensor
) -> None:
    head = nn.Linear(8, 4).requires_grad_(False)
    context = LossContext(8, 8, 4, teacher_head=head)
    loss = make_loss("fixed_head", context, classifier="teacher", form="linear", kl_weight=0)
    expected = F.cross_entropy(head(student), LABEL, ignore_index=-1)
    torch.testing.assert_close(value(loss, student, label=LABEL), expected)
    with pytest.raises(UsageError, match="a bias, which cosines have no use for"):
        make_loss("fixed_head", context, classifier="teacher")
    with pytest.raises(UsageError, match="no linear classifier"):
        make_loss("fixed_head", PLAIN, classifier="teacher")


def test_forward__gradcheck(
    make_loss: Callable[..., Loss], value: Any, student: Tensor, teacher: Tensor, file: str
) -> None:
    loss = make_loss("fixed_head", PLAIN, classifier=file, scale=5, chunk=3)
    wide = student.double().requires_grad_()
    assert torch.autograd.gradcheck(lambda e: value(loss, e, teacher.double(), LABEL), (wide,))


def test_forward__keeps_the_classifier_out_of_what_is_saved_and_trained(
    make_loss: Callable[..., Loss], value: Any, student: Tensor, teacher: Tensor, file: str
) -> None:
    loss = make_loss("fixed_head", PLAIN, classifier=file)
    value(loss, student.requires_grad_(), teacher, LABEL).backward()
    assert student.grad is not None
    assert not loss.state_dict()
    assert not list(loss.parameters())
    assert not list(loss.buffers())


def test_build__what_does_not_fit(make_loss: Callable[..., Loss], file: str) -> None:
    with pytest.raises(UsageError, match=r"classifier is \(4, 8\).*\(B, 6\)"):
        make_loss("fixed_head", LossContext(6, 6, 4), classifier=file)
    with pytest.raises(UsageError, match=r"\(B, 8\).*\(B, 6\)"):
        make_loss("fixed_head", LossContext(8, 6, 4), classifier=file)
    with pytest.raises(UsageError, match="4 classes apart, the data have 3"):
        make_loss("fixed_head", LossContext(8, 8, 3), classifier=file)
    make_loss("fixed_head", LossContext(8, 8, 3), classifier=file, ce_weight=0)
    none = torch.full((4,), -1)
    with pytest.raises(UsageError, match="none of the training classes"):
        make_loss("fixed_head", LossContext(8, 8, 4, lambda spec: torch.eye(8), none))


@pytest.mark.parametrize(
    ("settings", "needs"),
    [
        ({}, {"teacher.embedding", "batch.label", "text_embeddings"}),
        ({"classifier": "w.npy"}, {"teacher.embedding", "batch.label"}),
        ({"classifier": "w.npy", "kl_weight": 0}, {"batch.label"}),
        ({"ce_weight": 0}, {"teacher.embedding", "text_embeddings"}),
    ],
)
def test_needs_of__follows_the_settings(settings: dict[str, Any], needs: set[str]) -> None:
    config = FixedHeadLoss.Config(**settings)
    assert set(FixedHeadLoss.needs_of(config)) == needs | {"student.embedding"}


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"ce_weight": 0, "kl_weight": 0}, "nothing is left"),
        ({"form": "linear", "scale": 32}, "no effect on form: linear"),
        ({"ce_weight": 0, "margin": 0.1}, "no effect without ce_weight"),
        ({"kl_weight": 0, "temperature": 4}, "no effect without kl_weight"),
        ({"chunk": 0}, "greater than 0"),
    ],
)
def test_config__settings_without_effect(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        FixedHeadLoss.Config(**settings)
