from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import Normalizer
from sklearn.utils.estimator_checks import estimator_checks_generator

from edgeproof_configs.errors import DataError
from edgeproof_configs.registry import component_class
from edgeproof_deploy.runtime.head import ZeroShotHead
from edgeproof_train.heads.estimator import HeadClassifier, fit_head

WORDS = np.array(["pear", "apple", "fig"])


def clusters(each: int = 8, dim: int = 10, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return features, integer labels and a direction for each of three classes."""
    centres = np.random.default_rng(7).normal(size=(3, dim))
    labels = np.repeat(np.arange(3), each)
    noise = np.random.default_rng(seed).normal(size=(len(labels), dim))
    return centres[labels] + 0.3 * noise, labels, centres


def test_fit_head__a_name_and_arrays() -> None:
    features, labels, _ = clusters()
    head = fit_head("gda", features, labels)
    assert head.labels == ("0", "1", "2")
    more, expected, _ = clusters(seed=1)
    assert (head(more).argmax(axis=1) == expected).all()
    np.testing.assert_allclose(head.probabilities(more).sum(axis=1), 1, rtol=1e-5)


def test_fit_head__members_as_a_recipe_writes_them() -> None:
    features, labels, _ = clusters()
    given = [{"kind": "gda", "weight": 2.0}, {"kind": "nearest_mean"}]
    head = fit_head("ensemble", features, labels, members=given, calibrate=False)
    members = [fit_head("gda", features, labels, weight=2.0), fit_head("nearest_mean", features, labels)]
    mean = np.mean([member.probabilities(features) for member in members], axis=0)
    np.testing.assert_allclose(head.probabilities(features), mean, atol=1e-6)
    with pytest.raises(ValidationError, match="weigth"):
        fit_head("ensemble", features, labels, members=[{"kind": "gda", "weigth": 2.0}, given[1]])


def test_fit_head__an_ensemble_of_z_scores() -> None:
    features, labels, _ = clusters()
    members = [{"kind": "gda"}, {"kind": "nearest_mean"}]
    head = fit_head("ensemble", features, labels, of="z_scores", members=members)
    assert (head(features).argmax(axis=1) == labels).mean() > 0.9
    with pytest.raises(ValueError, match="of is for recipes"):
        fit_head("gallery", features, labels, of="test")


def test_fit_head__zero_shot_needs_text_alone() -> None:
    features, labels, centres = clusters()
    head = fit_head("zero_shot", text=centres, names=WORDS.tolist(), logit_scale=30.0)
    assert isinstance(head, ZeroShotHead)
    assert head.labels == tuple(WORDS)
    unit = features / np.linalg.norm(features, axis=1, keepdims=True)
    rows = centres / np.linalg.norm(centres, axis=1, keepdims=True)
    np.testing.assert_allclose(head(features), 30 * unit @ rows.T, rtol=1e-4, atol=1e-4)
    assert (head(features).argmax(axis=1) == labels).all()


def test_fit_head__text_is_withheld_where_it_is_not_to_be_used() -> None:
    features, labels, centres = clusters()
    images_only = fit_head("gda", features, labels)
    told = fit_head("gda", features, labels, text=-centres, use_text=False)
    np.testing.assert_array_equal(images_only(features), told(features))


def test_fit_head__a_config_is_taken_as_it_is() -> None:
    features, labels, _ = clusters()
    gda: Any = component_class("head", "gda")
    by_config = fit_head(gda.Config(), features, labels)
    np.testing.assert_array_equal(by_config(features), fit_head("gda", features, labels)(features))
    with pytest.raises(ValueError, match="has its settings already"):
        fit_head(gda.Config(), features, labels, seed=3)


@pytest.mark.parametrize(
    "moved", [{"shots": 4}, {"max_bytes": 9000}, {"templates": "imagenet"}, {"fit_on": "teacher"}]
)
def test_fit_head__a_setting_of_recipes_has_no_effect_on_arrays(moved: dict[str, Any]) -> None:
    features, labels, _ = clusters()
    with pytest.raises(ValueError, match=f"{next(iter(moved))} is for recipes"):
        fit_head("gda", features, labels, **moved)


def test_fit_head__refuses_in_words() -> None:
    features, labels, centres = clusters()
    with pytest.raises(DataError, match="label 2 is outside of the 2 classes"):
        fit_head("gda", features, labels, names=["a", "b"])
    with pytest.raises(DataError, match="different widths"):
        fit_head("gda", features, labels, text=centres[:, :4])
    with pytest.raises(DataError, match="how many classes there are is not known"):
        fit_head("zero_shot")
    with pytest.raises(DataError, match="not fitted on features"):
        fit_head("classifier", features, labels)


def test_classifier__labels_of_any_type_come_back() -> None:
    features, labels, _ = clusters()
    fitted = HeadClassifier("nearest_mean").fit(features, WORDS[labels])
    assert fitted.classes_.tolist() == sorted(WORDS)
    assert (fitted.predict(features) == WORDS[labels]).all()
    assert fitted.score(features, WORDS[labels]) == 1.0
    shares = fitted.predict_proba(features)
    np.testing.assert_allclose(shares.sum(axis=1), 1, rtol=1e-5)
    assert (fitted.classes_[shares.argmax(axis=1)] == WORDS[labels]).all()


def test_classifier__text_is_in_the_order_of_the_classes_given() -> None:
    features, labels, centres = clusters()
    fitted = HeadClassifier("zero_shot", text=centres, classes=WORDS.tolist()).fit(features, WORDS[labels])
    assert (fitted.predict(features) == WORDS[labels]).all()


def test_classifier__two_classes_have_one_decision() -> None:
    features, labels, _ = clusters()
    two = labels < 2
    fitted = HeadClassifier("gda").fit(features[two], labels[two])
    decision = fitted.decision_function(features[two])
    assert decision.shape == (16,)
    assert ((decision > 0) == (labels[two] == 1)).all()


def test_classifier__cloned_searched_and_in_a_pipeline() -> None:
    features, labels, _ = clusters()
    plain = HeadClassifier("gda", settings={"seed": 2}, logit_scale=50.0)
    copied: Any = clone(plain)
    assert copied.get_params() == plain.get_params()
    pipeline = make_pipeline(Normalizer(), HeadClassifier("nearest_mean"))
    assert cross_val_score(pipeline, features, labels, cv=3).mean() == 1.0
    search = GridSearchCV(HeadClassifier(), {"kind": ["gda", "nearest_mean"]}, cv=2).fit(features, labels)
    assert search.best_score_ == 1.0


def test_classifier__validation_chooses_and_is_told() -> None:
    features, labels, centres = clusters()
    more, expected, _ = clusters(seed=1)
    fitted = HeadClassifier("gda", text=centres, val=(more, expected)).fit(features, labels)
    assert fitted.chosen_
    assert any("normalised" in note for note in fitted.notes_)


def test_classifier__errors_are_value_errors() -> None:
    features, labels, _ = clusters()
    with pytest.raises(NotFittedError):
        HeadClassifier().predict(features)
    with pytest.raises(ValueError, match="needs text embeddings"):
        HeadClassifier("zero_shot").fit(features, labels)
    with pytest.raises(ValueError, match="label fig is not among the 2 classes"):
        HeadClassifier(classes=["apple", "pear"]).fit(features, WORDS[labels])
    fitted = HeadClassifier().fit(features, labels)
    with pytest.raises(ValueError, match="features"):
        fitted.predict(features[:, :4])


NOT_MET = {"check_estimators_dtypes": "rows of zeros, which have no direction, are refused"}


def checks() -> list[Any]:
    found = []
    every: Any = estimator_checks_generator(HeadClassifier("gda"))
    for estimator, check in every:
        name = getattr(check, "func", check).__name__
        marks = [pytest.mark.xfail(reason=NOT_MET[name], strict=True)] if name in NOT_MET else []
        found.append(pytest.param(estimator, check, id=name, marks=marks))
    return found


@pytest.mark.parametrize(("estimator", "check"), checks())
def test_classifier__keeps_the_conventions_of_scikit_learn(estimator: Any, check: Any) -> None:
    check(estimator)


@pytest.mark.parametrize("way", ["predict", "predict_proba", "decision_function"])
@pytest.mark.parametrize(
    ("row", "words"),
    [(np.zeros(10), "row 1 is zero"), (np.full(10, np.nan), "NaN"), (np.full(10, np.inf), "infinity")],
)
def test_classifier__a_row_without_a_direction(row: np.ndarray, words: str, way: str) -> None:
    features, labels, _ = clusters()
    model = HeadClassifier("gda").fit(features, labels)
    with pytest.raises(ValueError, match=words):
        getattr(model, way)(np.stack([features[0], row]))


@pytest.mark.parametrize("kind", ["gda", "nearest_mean", "logistic"])
def test_fit_head__a_row_of_nan_is_refused(kind: str) -> None:
    features, labels, _ = clusters()
    head = fit_head(kind, features, labels)
    with pytest.raises(ValueError, match="embedding 0 is NaN or infinite"):
        head(np.full((1, 10), np.nan, np.float32))
