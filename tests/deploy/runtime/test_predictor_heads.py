"""A bundle with each form of a head: what is predicted, other labels, and what is refused."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from tests.deploy.runtime.fitted_heads import make_head
from tests.deploy.small_text import write_text_tower

from edgeproof_deploy.bundle import BundleParts, write_bundle
from edgeproof_deploy.runtime.errors import BundleError, LabelError
from edgeproof_deploy.runtime.predictor import Predictor
from edgeproof_train.heads.files import save_head

FITTED = ["linear", "tip", "proker", "ensemble", "logit_ensemble", "nested"]
WIDTH = 16


@pytest.fixture
def with_head(parts: BundleParts, tmp_path: Path) -> Callable[..., Path]:
    """Return a bundle with a head of a form, and with a text tower."""

    def make(form: str, dim: int = WIDTH) -> Path:
        save_head(make_head(form, 6, dim), tmp_path / "head")
        text = write_text_tower(tmp_path)
        write_bundle(tmp_path / "b", replace(parts, head=tmp_path / "head", text=text))
        return tmp_path / "b"

    return make


@pytest.mark.parametrize("form", FITTED)
def test_predict__what_the_head_says_of_the_embedding(
    with_head: Callable[..., Path], photos: list[Path], form: str
) -> None:
    head = make_head(form, 6, WIDTH)
    with Predictor.open(with_head(form), threads=1) as opened:
        assert opened.labels == head.labels
        embeddings = opened.embed(photos[:3])
        found = opened.predict(photos[:3], top_k=6)
    for shares, prediction in zip(head.probabilities(embeddings), found, strict=True):
        order = np.argsort(-shares, kind="stable")
        assert [label for label, _ in prediction.labels] == [head.labels[row] for row in order]
        np.testing.assert_allclose([share for _, share in prediction.labels], shares[order], atol=1e-5)


@pytest.mark.parametrize("form", FITTED)
def test_set_labels__some_of_its_own(with_head: Callable[..., Path], photos: list[Path], form: str) -> None:
    some = ["label 3", "label 1"]
    expected = make_head(form, 6, WIDTH).only(some)
    with Predictor.open(with_head(form), threads=1) as opened:
        opened.set_labels(some)
        found = dict(opened.predict(photos[0])[0].labels)
        shares = expected.probabilities(opened.embed(photos[0]))[0]
        assert found == pytest.approx(dict(zip(some, shares.tolist(), strict=True)), abs=1e-5)
        assert dict(opened.predict(photos[0], labels=["label 1"])[0].labels) == {"label 1": 1.0}
        opened.reset_labels()
        assert len(opened.labels) == 6


@pytest.mark.parametrize("form", ["linear", "tip", "proker", "ensemble"])
def test_set_labels__new_words_are_refused_though_there_is_a_text_tower(
    with_head: Callable[..., Path], photos: list[Path], form: str
) -> None:
    with Predictor.open(with_head(form), threads=1) as opened:
        assert opened.has_text_encoder
        words = "fitted on its labels and takes no other words; one of kind zero_shot does"
        for ask in (
            lambda: opened.set_labels(["label 1", "zebra"]),
            lambda: opened.predict(photos[0], labels=["zebra"]),
            lambda: opened.set_text_embeddings(["a", "b"], np.eye(2, WIDTH)),
        ):
            with pytest.raises(LabelError, match=words) as caught:
                ask()
            assert caught.value.exit_code == 2
        assert len(opened.labels) == 6


@pytest.mark.parametrize("form", ["linear", "tip", "ensemble"])
def test_open__a_head_of_another_width(with_head: Callable[..., Path], form: str) -> None:
    with pytest.raises(BundleError, match=r"head\.safetensors: takes embeddings of 20 numbers"):
        Predictor.open(with_head(form, 20))
