from __future__ import annotations

import pytest
import torch

from edgeproof_configs.errors import EdgeproofError
from edgeproof_train.memory import explain_out_of_memory


def test_explain__a_real_allocation_that_fails() -> None:
    with (
        pytest.raises(EdgeproofError, match="batch_size 64") as caught,
        explain_out_of_memory(64, accumulate=3, batch_bound=[]),
    ):
        torch.empty(1 << 50, dtype=torch.uint8)
    assert str(caught.value.fix).startswith("--set train.batch_size=32 --set train.accumulate=6")


def test_explain__a_loss_that_compares_a_batch_is_not_split() -> None:
    with (
        pytest.raises(EdgeproofError) as caught,
        explain_out_of_memory(64, accumulate=1, batch_bound=["relational"]),
    ):
        raise MemoryError
    assert "accumulate" not in str(caught.value.fix)
    assert "--set train.batch_size=32 (relational" in str(caught.value.fix)


def test_explain__one_image_is_too_much() -> None:
    with pytest.raises(EdgeproofError) as caught, explain_out_of_memory(1, 1, []):
        raise torch.OutOfMemoryError("CUDA out of memory")
    assert "image_size" in str(caught.value.fix)


def test_explain__other_errors_pass_through() -> None:
    with pytest.raises(RuntimeError, match="sizes do not match"), explain_out_of_memory(4, 1, []):
        raise RuntimeError("sizes do not match")
