from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from tests.deploy.runtime.fitted_heads import FORMS, make_head
from tests.deploy.small_text import write_text_tower

from edgeproof_deploy.bundle import BundleParts, write_bundle
from edgeproof_deploy.head_words import head_words
from edgeproof_deploy.runtime.errors import BundleError
from edgeproof_train.heads.files import head_bytes, save_head


@pytest.fixture
def readme_of(parts: BundleParts, tmp_path: Path) -> Callable[[str], str]:
    """Return the README of a bundle with a head of a form, and with a text tower."""

    def make(form: str) -> str:
        save_head(make_head(form, 6, 16), tmp_path / "head")
        text = write_text_tower(tmp_path)
        write_bundle(tmp_path / "b", replace(parts, head=tmp_path / "head", text=text))
        return (tmp_path / "b/README.md").read_text(encoding="utf-8")

    return make


@pytest.mark.parametrize("form", FORMS)
def test_head_words__name_every_array_of_the_file(form: str) -> None:
    head = make_head(form)
    words = head_words(head_bytes(head))
    for name in head.arrays():
        first = name.split(".")[0]
        assert first in ("0", "1", "2", "base", "columns") or f"`{first}`" in words.holds, name
    assert words.open_vocabulary == head.open_vocabulary


@pytest.mark.parametrize(
    ("form", "formula"),
    [
        ("zero_shot", "5. `softmax(logit_scale * embedding @ weight.T)`"),
        ("linear", "5. `softmax(scale * embedding @ weight.T + bias)`"),
        ("tip", "5. `votes = exp(-beta * (1 - embedding @ keys.T)) @ values`"),
        ("ensemble", "Compute the logits of each member"),
        ("classifier", "5. `softmax(embedding)`"),
    ],
)
def test_bundle_readme__says_how_the_head_is_computed(
    readme_of: Callable[[str], str], form: str, formula: str
) -> None:
    readme = readme_of(form)
    assert formula in readme
    assert ("divide `embedding` by its length" in readme) == (form != "classifier")
    assert ("take any words" in readme) == (form == "zero_shot")


def test_head_words__no_head() -> None:
    with pytest.raises(BundleError, match=r"head\.safetensors: is cut"):
        head_words(b"")
