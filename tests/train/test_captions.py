from __future__ import annotations

import pytest
import torch

from edgeproof_configs.errors import DataError
from edgeproof_train.captions import CaptionBank


def test_of__knows_which_caption_is_true_of_which_image() -> None:
    bank = CaptionBank.of([["a cube", "a red cube"], ["a cube"]])
    assert bank.texts == ("a cube", "a red cube")
    assert torch.equal(bank.member, torch.tensor([[True, True], [True, False]]))


def test_of__an_image_without_a_caption_is_refused() -> None:
    with pytest.raises(DataError, match="1 of 2 training images have no caption"):
        CaptionBank.of([["a cube"], []])


def test_without__marks_captions_that_avoid_the_words() -> None:
    bank = CaptionBank.of([["a cube", "a red cube"], ["a cone"]])
    assert bank.without(["red"]).tolist() == [True, True, False]
    assert bank.without([]).all()


def test_without__every_image_needs_such_a_caption() -> None:
    bank = CaptionBank.of([["a red cube"], ["a cone"]])
    with pytest.raises(DataError, match="no caption without red") as caught:
        bank.without(["red"])
    assert "teacher.recolour: 0" in str(caught.value)
