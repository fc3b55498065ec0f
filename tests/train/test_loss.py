from __future__ import annotations

from typing import ClassVar, Literal

import pytest
import torch
from torch import Tensor

from edgeproof_configs.errors import UsageError
from edgeproof_configs.schema import LossConfig
from edgeproof_train.loss import Loss, LossContext, check_needs, embeddings_of, fp32_island
from edgeproof_train.outputs import ModelOutputs, StepOutputs


class Sum(Loss):
    """Sums the student's embedding and notes what it was given."""

    class Config(LossConfig):
        kind: Literal["sum"] = "sum"

    needs: ClassVar[tuple[str, ...]] = ("student.embedding",)

    @fp32_island
    def forward(self, outputs: StepOutputs) -> Tensor:
        """Return the sum."""
        self.seen = outputs
        self.autocast = torch.is_autocast_enabled("cpu")
        return outputs.student.embedding.sum()


def outputs(dtype: torch.dtype) -> StepOutputs:
    tensor = torch.ones(2, 3, dtype=dtype)
    features = {"layer4": torch.ones(2, 3, 4, 4, dtype=dtype)}
    return StepOutputs(
        ModelOutputs(tensor, features=features), ModelOutputs(tensor), torch.zeros(2).long(), 7
    )


@pytest.mark.parametrize(
    ("given", "seen"),
    [
        (torch.float16, torch.float32),
        (torch.bfloat16, torch.float32),
        (torch.float32, torch.float32),
        (torch.float64, torch.float64),
    ],
)
def test_fp32_island__what_a_loss_is_given(given: torch.dtype, seen: torch.dtype) -> None:
    loss = Sum(Sum.Config(), LossContext(3))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss(outputs(given))
        assert torch.is_autocast_enabled("cpu")
    assert not loss.autocast
    assert loss.seen.student.embedding.dtype == seen
    assert loss.seen.student.features["layer4"].dtype == seen
    assert loss.seen.teacher.embedding.dtype == seen
    assert loss.seen.label.dtype == torch.int64
    assert loss.seen.step == 7
    assert loss.seen.student.tokens is None


def test_loss__a_forward_without_its_island_is_refused() -> None:
    with pytest.raises(TypeError, match=r"Bare\.forward must be decorated"):

        class Bare(Loss):
            needs: ClassVar[tuple[str, ...]] = ()

            def forward(self, outputs: StepOutputs) -> Tensor:
                return torch.zeros(())


@pytest.mark.parametrize(
    ("need", "context", "reason"),
    [
        ("teacher.embedding", LossContext(3), "there is no teacher"),
        ("batch.label", LossContext(3, 3), "no labels"),
        ("text_embeddings", LossContext(3, 3, 5), "no text embeddings"),
        ("student.tokens", LossContext(3, 3, teacher_tokens=(5, 3)), "multi_view with tokens: true"),
        ("teacher.tokens", LossContext(3, 3, student_tokens=(5, 3)), "this teacher gives none"),
        ("teacher.hidden", LossContext(3, 3, 5), "this recipe supplies batch.label, student.embedding"),
    ],
)
def test_check_needs__says_what_is_missing(need: str, context: LossContext, reason: str) -> None:
    class Wanting(Sum):
        needs: ClassVar[tuple[str, ...]] = ("student.embedding", need)

    with pytest.raises(UsageError, match=f"my_term needs {need}: .*{reason}"):
        check_needs({"my_term": Wanting.needs}, context)


def test_check_needs__all_met() -> None:
    context = LossContext(3, 3, 5, lambda spec: torch.eye(3))
    for need in ("student.embedding", "teacher.embedding", "batch.label", "text_embeddings"):
        check_needs({"term": (need,)}, context)
    tokens = LossContext(3, 3, student_tokens=(5, 3), teacher_tokens=(50, 3))
    check_needs({"term": ("student.tokens", "teacher.tokens")}, tokens)


def test_embeddings_of__names_both_shapes() -> None:
    unequal = StepOutputs(ModelOutputs(torch.ones(2, 3)), ModelOutputs(torch.ones(2, 5)))
    with pytest.raises(ValueError, match=r"student \(2, 3\) and teacher \(2, 5\).*5 outputs"):
        embeddings_of("term", unequal)
