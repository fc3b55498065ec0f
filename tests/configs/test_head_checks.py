from __future__ import annotations

from pathlib import Path

import pytest

from edgeproof_configs.errors import RecipeError
from edgeproof_configs.loader import load_recipe

UNLABELLED = "data={kind: image_folder, root: photos, labels: none}"


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (("head={kind: nearest_mean, use_text: false}",), "head.use_text: has no effect: nearest_mean"),
        (("head={kind: gda}", UNLABELLED), "head: gda needs labelled images, and data.labels is 'none'"),
        (
            ("head={kind: gda, fit_on: teacher, views: 3}",),
            "head.views: the teacher has stored embeddings of the plain photos only",
        ),
        (("head={kind: gda, shots: 0}",), "head.shots"),
        (("head={kind: gda, half: true}",), "head.half: is for the keys of a cache, and gda keeps none"),
        (
            ("head={kind: ensemble, half: true, members: [{kind: zero_shot}, {kind: gda}]}",),
            "head.half: is for the keys of a cache, and ensemble keeps none",
        ),
        (
            ("head={kind: gda, labels: words.csv, templates: imagenet7}",),
            "head.templates: has no effect beside labels in csv",
        ),
        (
            ("head={kind: zero_shot, text_embeddings: text.npy, templates: imagenet7}",),
            "head.templates: has no effect beside text_embeddings",
        ),
        (("head={kind: gda, unknown: 1}",), "head.unknown"),
    ],
)
def test_fitted_head__refused_in_words(overrides: tuple[str, ...], message: str, small: Path) -> None:
    with pytest.raises(RecipeError) as caught:
        load_recipe(str(small), overrides)
    assert message in str(caught.value)


def test_fitted_head__settings_with_an_effect_pass(small: Path) -> None:
    head = "head={kind: gda, shots: 4, val_shots: 2, views: 3, seed: 1, use_text: false}"
    assert load_recipe(str(small), (head,)).recipe.head.kind == "gda"


def test_fitted_head__half_precision_is_for_heads_with_keys(small: Path) -> None:
    members = "members: [{kind: gda}, {kind: tip_adapter}]"
    for head in ("kind: tip_adapter", f"kind: ensemble, {members}", "kind: auto"):
        assert load_recipe(str(small), (f"head={{{head}, half: true}}",)).recipe.head.model_dump()["half"]
