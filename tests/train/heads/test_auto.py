from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError
from tests.train.heads.few_shot_case import few_shot_case, images_of

from edgeproof_configs.errors import DataError
from edgeproof_configs.registry import component_class
from edgeproof_configs.schema import HeadConfig
from edgeproof_train.heads.auto import ORDER, Auto, choose, default_candidates, in_order
from edgeproof_train.heads.evidence import Evidence, Rows, evidence_of
from edgeproof_train.heads.fitted import Fitted
from edgeproof_train.heads.fitting import fit_kind


def config_of(kind: str, **settings: Any) -> HeadConfig:
    return component_class("head", kind).__dict__["Config"](**settings)


SMALL = (config_of("gda"), config_of("nearest_mean"), config_of("zero_shot"))


def auto(evidence: Evidence, **settings: Any) -> Fitted:
    return Auto.fit(Auto.Config(**{"candidates": SMALL, **settings}), evidence)


def answers(*shares: float, images: int = 400) -> np.ndarray:
    """Return candidates that are right on the first so many images."""
    return np.stack([np.arange(images) < share * images for share in shares])


def test_choose__the_first_within_one_standard_error() -> None:
    # The best is ahead by 3 of 400 images: 0.0075, with a standard error of 0.0043; then by 1, 0.0025.
    assert choose(answers(0.90, 0.9075)) == 1
    assert choose(answers(0.90, 0.9025)) == 0
    assert choose(answers(0.5, 0.9, 0.9)) == 1
    assert choose(answers(0.9, 0.9)) == 0


def test_choose__one_image_tells_nothing_but_right_from_wrong() -> None:
    assert choose(np.array([[False], [True]])) == 1


def test_fit__takes_text_where_shots_are_poor_and_the_other_way_round() -> None:
    labels = np.repeat(np.arange(5), 30)
    poor = evidence_of(
        [str(number) for number in range(5)],
        features=images_of(np.arange(5), 4.0, 0),
        labels=np.arange(5),
        text=images_of(np.arange(5), 0.2, 1),
        val_features=images_of(labels, 1.5, 2),
        val_labels=labels,
    )
    pair = (config_of("nearest_mean"), config_of("zero_shot"))
    taken = auto(poor, candidates=pair)
    assert taken.chosen["kind"] == "zero_shot"
    share = taken.chosen["held_out_accuracy"]
    assert share["zero_shot"] > share["nearest_mean"] + 0.1
    assert poor.val is not None
    rows = poor.val.features
    np.testing.assert_array_equal(taken.head(rows), fit_kind(pair[1], poor).head(rows))
    assert auto(few_shot_case(shots=16, text=False)).chosen["kind"] in ("gda", "nearest_mean")


def test_fit__what_cannot_be_fitted_is_no_candidate_and_said() -> None:
    taken = auto(few_shot_case(text=False))
    assert "zero_shot" not in taken.chosen["held_out_accuracy"]
    assert "zero_shot needs text embeddings" in taken.notes


def test_fit__without_validation_shots_are_held_out() -> None:
    taken = auto(few_shot_case(val=None))
    assert any("20 images of shots held out" in note for note in taken.notes)


def test_fit__one_shot_without_validation_takes_the_first() -> None:
    taken = auto(few_shot_case(shots=1, val=None))
    assert taken.chosen["kind"] == "gda"
    assert any("taken unchosen" in note for note in taken.notes)


def test_fit__every_kind_with_its_defaults() -> None:
    taken = Auto.fit(Auto.Config(folds=2), few_shot_case(shots=2, val=4))
    stands = {one.kind for one in default_candidates(transductive=False)}
    assert set(taken.chosen["held_out_accuracy"]) == stands
    assert taken.chosen["kind"] in stands
    more = few_shot_case().val
    assert more is not None
    assert (taken.head(more.features).argmax(axis=1) == more.labels).mean() > 0.7


def test_default_candidates__known_order_first_and_none_that_looks_at_test_images() -> None:
    kinds = [one.kind for one in default_candidates(transductive=False)]
    known = [kind for kind in ORDER if kind in kinds]
    assert kinds[: len(known)] == known
    assert not {"inmap", "transclip", "auto", "ensemble", "cascade", "classifier"} & set(kinds)
    assert "inmap" in [one.kind for one in default_candidates(transductive=True)]


def test_in_order__one_row_a_class_says_nothing_of_how_classes_vary() -> None:
    kinds = default_candidates(transductive=False)
    assert in_order(kinds, few_shot_case(shots=2)) == kinds
    one = in_order(kinds, few_shot_case(shots=1))
    assert one[0].kind == "lp_plus_plus"
    assert [each.kind for each in one[1:]] == [each.kind for each in kinds if each.kind != "lp_plus_plus"]


def test_asked__test_images_only_where_they_are_asked_for() -> None:
    plain = Auto.asked(Auto.Config())
    assert plain.needs == {"shots"}
    assert "unlabelled" not in plain.uses
    assert not plain.transductive
    for config in (Auto.Config(transductive=True), Auto.Config(candidates=(*SMALL, config_of("inmap")))):
        assert "unlabelled" in Auto.asked(config).uses
        assert Auto.asked(config).transductive


def test_fit__nothing_can_be_fitted() -> None:
    with pytest.raises(DataError, match="none of the candidates"):
        auto(few_shot_case(text=False), candidates=(config_of("zero_shot"), config_of("inmap")))


def test_fit__a_class_without_a_shot() -> None:
    given = few_shot_case()
    assert given.shots is not None
    kept = given.shots.labels != 2
    lacking = replace(given, shots=Rows(given.shots.features[kept], given.shots.labels[kept]))
    with pytest.raises(DataError, match="head auto: 1 of 5 classes have no shot: class 2"):
        auto(lacking, candidates=None)
    assert auto(lacking).chosen["kind"] == "zero_shot"


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"candidates": SMALL[:1]}, "two or more"),
        ({"candidates": (SMALL[0], Auto.Config())}, "'auto' is no candidate"),
        ({"candidates": SMALL, "transductive": True}, "only without candidates"),
        ({"folds": 1}, "greater than or equal to 2"),
    ],
)
def test_config__refuses(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        Auto.Config(**settings)
