from __future__ import annotations

import math

import pytest
import torch

from edgeproof_train.label_text import LabelText, symmetric_kl_of_rows
from edgeproof_train.loss import LossContext


def test_label_text__rows_of_the_images_that_have_words() -> None:
    words = LabelText("term", LossContext(3, 3, 4, lambda spec: torch.eye(3), torch.tensor([2, 0, -1, 2])))
    chosen, row, text = words(torch.tensor([1, -1, 0, 2, 3]))
    assert chosen.tolist() == [True, False, True, False, True]
    assert row.tolist() == [0, 2, 2]
    assert torch.equal(text, torch.eye(3)[[0, 2, 2]])


def test_symmetric_kl_of_rows__by_hand() -> None:
    # Rows: (.75, .25) against (.5, .5), then equal. Columns: (.75, .25) against even, (.5, .5) against even.
    target = torch.tensor([[math.log(3), 0.0], [0.0, 0.0]])
    divergence = 0.75 * math.log(1.5) + 0.25 * math.log(0.5)
    result = symmetric_kl_of_rows(target, torch.zeros(2, 2))
    assert result.item() == pytest.approx((divergence / 2 + divergence / 2) / 2, rel=1e-6)


def test_symmetric_kl_of_rows__takes_columns_as_well() -> None:
    # Each row says the same on both sides; each column does not.
    shift = torch.tensor([[2.0], [0.0]])
    assert symmetric_kl_of_rows(shift.expand(2, 2), torch.zeros(2, 2)).item() > 0.1
