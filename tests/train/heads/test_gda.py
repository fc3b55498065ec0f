from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.base import BaseEstimator
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis

from edgeproof_configs.errors import DataError, UsageError
from edgeproof_train.heads.evidence import Evidence, evidence_of
from edgeproof_train.heads.fitting import fit_kind
from edgeproof_train.heads.gda import GDA, gaussians

ANCHORS = {
    "caltech101": (75.78, 84.10, 90.71, 91.60, 93.87),
    "oxford_flowers": (65.33, 79.37, 90.95, 94.60, 96.18),
    "oxford_pets": (35.68, 51.54, 76.21, 82.86, 86.62),
}


class Fixed(BaseEstimator):
    """A covariance that is what it is told to be."""

    def __init__(self, covariance: np.ndarray | None = None):
        self.covariance = covariance

    def fit(self, rows: np.ndarray) -> Fixed:
        del rows
        self.covariance_ = self.covariance
        return self


def make(shots: int = 6, *, text: bool = True, val: bool = True, seed: int = 0) -> Evidence:
    random = np.random.default_rng(seed)
    centres = random.normal(size=(4, 8))
    classes = np.repeat(np.arange(4), shots)
    return evidence_of(
        ["a", "b", "c", "d"],
        features=centres[classes] + 0.7 * random.normal(size=(len(classes), 8)),
        labels=classes,
        text=centres + random.normal(size=(4, 8)) if text else None,
        val_features=np.repeat(centres, 5, axis=0) + 0.7 * random.normal(size=(20, 8)) if val else None,
        val_labels=np.repeat(np.arange(4), 5) if val else None,
    )


def queries() -> np.ndarray:
    rows = np.random.default_rng(9).normal(size=(200, 8))
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def test_gaussians__equal_to_discriminant_analysis_with_the_same_covariance() -> None:
    shots = make().shots
    assert shots is not None
    found = gaussians(shots, 4)
    features = shots.features.astype(np.float64)
    means = np.stack([features[shots.labels == label].mean(axis=0) for label in range(4)])
    own = np.cov((features - means[shots.labels]).T)
    inflated = ((len(features) - 1) * own + np.trace(own) * np.eye(8)) / 8
    oracle = LinearDiscriminantAnalysis(
        solver="lsqr", priors=np.full(4, 0.25), covariance_estimator=Fixed(inflated)
    ).fit(features, shots.labels)
    ours = queries() @ found.weight.T + found.bias
    assert (ours.argmax(axis=1) == oracle.predict(queries())).all()
    theirs = oracle.decision_function(queries())
    centred = theirs - theirs.mean(axis=1, keepdims=True)
    np.testing.assert_allclose(ours - ours.mean(axis=1, keepdims=True), centred, rtol=1e-8, atol=1e-8)


def test_fit__images_only_answers_as_the_gaussians_do() -> None:
    evidence = make(text=False)
    assert evidence.shots is not None
    found = gaussians(evidence.shots, 4)
    expected = (queries() @ found.weight.T + found.bias).argmax(axis=1)
    for weight in (None, 3.0):
        fitted = fit_kind(GDA.Config(weight=weight), evidence)
        assert (fitted.head(queries()).argmax(axis=1) == expected).all()
    with pytest.raises(UsageError, match="weight 0"):
        fit_kind(GDA.Config(weight=0.0), evidence)


def test_fit__weight_0_is_zero_shot() -> None:
    evidence = make()
    assert evidence.text is not None
    fitted = fit_kind(GDA.Config(weight=0.0), evidence)
    expected = 100 * queries().astype(np.float32) @ evidence.text.T
    np.testing.assert_allclose(fitted.head(queries()), expected, rtol=1e-6, atol=1e-5)


def test_fit__logits_are_the_text_s_and_a_times_the_gaussians() -> None:
    evidence = make()
    assert evidence.text is not None
    assert evidence.shots is not None
    found = gaussians(evidence.shots, 4)
    expected = 100 * queries() @ evidence.text.T + 0.3 * (queries() @ found.weight.T + found.bias)
    fitted = fit_kind(GDA.Config(weight=0.3), evidence)
    np.testing.assert_allclose(fitted.head(queries()), expected, rtol=1e-4, atol=1e-3)
    assert fitted.notes == ("weight given",)


def test_fit__one_shot_a_class_keeps_what_the_text_knows() -> None:
    random = np.random.default_rng(1)
    text = np.eye(6, 40)
    classes = np.repeat(np.arange(6), 20)
    photos = text[classes] + 0.02 * random.normal(size=(120, 40))
    evidence = evidence_of(
        list("abcdef"),
        features=text + 1.5 * random.normal(size=(6, 40)),
        labels=np.arange(6),
        text=text,
        val_features=photos[::4],
        val_labels=classes[::4],
    )
    fitted = fit_kind(GDA.Config(), evidence)
    assert (fitted.head(photos).argmax(axis=1) == classes).all()
    assert "hardly vary" in fitted.notes[0]
    assert not np.isnan(fitted.head(photos)).any()


def test_fit__without_validation_says_so_and_trusts_more_shots_more() -> None:
    few, many = (fit_kind(GDA.Config(), make(shots, val=False)) for shots in (2, 40))
    assert few.notes[-1] == "weight by the spread of the logits: there is no validation"
    assert 0 < few.chosen["weight"] < many.chosen["weight"]


def test_fit__views_of_a_photo_are_rows() -> None:
    evidence = make(8, val=False)
    assert evidence.shots is not None
    views = evidence_of(
        evidence.names,
        features=evidence.shots.features,
        labels=evidence.shots.labels,
        views=4,
        text=evidence.text,
    )
    first, second = (fit_kind(GDA.Config(weight=0.1), one).head(queries()) for one in (evidence, views))
    assert np.array_equal(first, second)


def test_fit__shots_that_are_all_the_same() -> None:
    same = evidence_of(["a", "b"], features=np.ones((4, 8)), labels=np.array([0, 0, 1, 1]))
    with pytest.raises(DataError, match="all 4 shots are the same in 8 feature"):
        GDA.fit(GDA.Config(), same)


def test_fit__a_class_without_a_shot() -> None:
    shots = make(text=False, val=False).shots
    assert shots is not None
    evidence = evidence_of(list("abcdz"), features=shots.features, labels=shots.labels)
    with pytest.raises(DataError, match="1 of 5 classes have no shot: z"):
        fit_kind(GDA.Config(), evidence)


@pytest.mark.parametrize("name", sorted(ANCHORS))
def test_fit__real_features_of_three_sets(name: str, real_data: Path) -> None:
    stored: Any = np.load(real_data / "fewshot_b32" / f"{name}.npz", allow_pickle=False)
    found = []
    for shots in (1, 2, 4, 8, 16):
        evidence = evidence_of(
            [str(one) for one in stored["classnames"]],
            features=stored[f"shots_{shots}_features"],
            labels=stored[f"shots_{shots}_labels"],
        )
        answers = fit_kind(GDA.Config(), evidence).head(stored["test_features"]).argmax(axis=1)
        found.append(100 * float((answers == stored["test_labels"]).mean()))
    np.testing.assert_allclose(found, ANCHORS[name], atol=0.1)
