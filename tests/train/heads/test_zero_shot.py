from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError
from safetensors.numpy import load_file

from edgeproof_configs.errors import EdgeproofError
from edgeproof_configs.registry import component_class
from edgeproof_train.heads.zero_shot import ZeroShotHead
from edgeproof_train.text import TextBank, TextSpec

LABELS = ("red cube", "Grünspecht", "cat")


def text() -> np.ndarray:
    return np.random.default_rng(0).normal(size=(3, 6)).astype(np.float32)


def make(**settings: Any) -> ZeroShotHead:
    return ZeroShotHead(ZeroShotHead.Config(**settings), LABELS, text(), logit_scale=20.0)


def test_logits__scaled_cosines_of_any_length() -> None:
    head = make()
    images = np.random.default_rng(1).normal(size=(4, 6))
    t = text() / np.linalg.norm(text(), axis=1, keepdims=True)
    expected = 20 * (images / np.linalg.norm(images, axis=1, keepdims=True)) @ t.T
    np.testing.assert_allclose(head.logits(images), expected, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(head.logits(30 * images), head.logits(images), rtol=1e-5, atol=1e-5)


def test_logits__a_zero_embedding_prefers_nothing() -> None:
    assert not make().logits(np.zeros((1, 6))).any()


def test_save__load_gives_the_same_head(tmp_path: Path) -> None:
    head = make()
    head.save(tmp_path)
    again = ZeroShotHead.load(tmp_path)
    assert again.labels == LABELS
    assert again.logit_scale == 20.0
    assert np.array_equal(again.weight, head.weight)


def test_save__tensors_that_the_runtime_reads(tmp_path: Path) -> None:
    make().save(tmp_path)
    tensors = load_file(tmp_path / "head.safetensors")
    assert tensors["weight"].dtype == np.float32
    assert tensors["weight"].shape == (3, 6)
    np.testing.assert_allclose(np.linalg.norm(tensors["weight"], axis=1), 1, rtol=1e-6)
    assert tensors["logit_scale"].shape == ()
    assert (tmp_path / "labels.txt").read_text(encoding="utf-8") == "red cube\nGrünspecht\ncat\n"


@pytest.mark.parametrize("spoil", ["cut", "label", "absent"])
def test_load__damaged(spoil: str, tmp_path: Path) -> None:
    tensors, labels = make().save(tmp_path)
    if spoil == "cut":
        tensors.write_bytes(tensors.read_bytes()[:40])
    elif spoil == "label":
        labels.write_text("red cube\n")
    else:
        labels.unlink()
    with pytest.raises(EdgeproofError, match="the head cannot be read"):
        ZeroShotHead.load(tmp_path)


def test_from_bank__the_config_scale_wins_over_the_teacher() -> None:
    bank = TextBank(LABELS, text(), ())
    assert ZeroShotHead.from_bank(ZeroShotHead.Config(), bank, 37.0).logit_scale == 37.0
    assert ZeroShotHead.from_bank(ZeroShotHead.Config(logit_scale=5), bank, 37.0).logit_scale == 5.0


@pytest.mark.parametrize("spoil", [0.0, np.nan])
def test_build__a_word_without_direction(spoil: float) -> None:
    weight = text()
    weight[1] = spoil
    with pytest.raises(ValueError, match="zero or not finite"):
        ZeroShotHead(ZeroShotHead.Config(), LABELS, weight)


def test_build__labels_and_rows_must_fit() -> None:
    with pytest.raises(ValueError, match="each of 2 labels"):
        ZeroShotHead(ZeroShotHead.Config(), LABELS[:2], text())
    with pytest.raises(ValueError, match="line break"):
        ZeroShotHead(ZeroShotHead.Config(), ("a", "b\nc", "d"), text())


def test_config__found_by_kind_and_checked() -> None:
    head: Any = component_class("head", "zero_shot")
    assert head.Config(labels="l.txt").text_spec() == TextSpec(labels="l.txt")
    with pytest.raises(ValidationError, match="logit_scale"):
        head.Config(logit_scale=0)
