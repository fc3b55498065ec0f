from __future__ import annotations

import pytest
import torch
from torch import Tensor

from edgeproof_configs.errors import UsageError
from edgeproof_train.logit_pair import check_classes, standardised
from edgeproof_train.loss import LossContext


@pytest.fixture
def student() -> Tensor:
    return torch.randn(6, 8, generator=torch.Generator().manual_seed(1))


def test_check_classes__names_both_shapes() -> None:
    with pytest.raises(UsageError, match=r"my_term: .*\(B, 8\).*\(B, 10\)"):
        check_classes("my_term", LossContext(8, 10))
    check_classes("my_term", LossContext(8, 8))


def test_standardised__gradcheck(student: Tensor) -> None:
    assert torch.autograd.gradcheck(standardised, (student.double().requires_grad_(),))


def test_standardised__mean_zero_and_unbiased_deviation_one(student: Tensor) -> None:
    rows = standardised(50 * student - 7)
    torch.testing.assert_close(rows.mean(dim=1), torch.zeros(6), rtol=0, atol=1e-6)
    torch.testing.assert_close(rows.std(dim=1), torch.ones(6))


@pytest.mark.parametrize("level", [0.0, 0.1, 1e4])
def test_standardised__a_flat_row_gives_zeros_and_a_finite_gradient(level: float) -> None:
    rows = torch.full((2, 11), level, requires_grad=True)
    result = standardised(rows)
    result.square().sum().backward()
    assert not result.any()
    assert rows.grad is not None
    assert rows.grad.isfinite().all()
