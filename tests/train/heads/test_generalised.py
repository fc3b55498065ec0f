from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from edgeproof_configs.errors import DataError
from edgeproof_configs.registry import component_class
from edgeproof_deploy.runtime.head import Head
from edgeproof_deploy.runtime.linear_head import LinearHead
from edgeproof_train.heads.evidence import Evidence, evidence_of
from edgeproof_train.heads.fitting import fit_kind
from edgeproof_train.heads.generalised import (
    Curve,
    choose_gamma,
    curve_of,
    fit_generalised,
    of_classes,
    played_curves,
)
from edgeproof_train.heads.joined import shifted
from edgeproof_train.heads.zero_shot import ZeroShotHead
from edgeproof_train.metrics import classifier_metrics

SEEN = np.array([True, True, False])


def random_case(seed: int, images: int = 40) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(seed)
    labels = random.integers(0, 3, images)
    labels[:3] = [0, 1, 2]
    return random.normal(size=(images, 3)) + 1.5 * np.eye(3)[labels] + [1.0, 1.0, 0.0], labels


def test_curve_of__by_hand() -> None:
    # Seen image right with a lead of 2; seen image of the other class wrong; unseen right from gamma 1 on.
    scores = np.array([[5.0, 0, 3], [4, 3, 0], [2, 0, 1]])
    curve = curve_of(scores, np.array([0, 1, 2]), SEEN)
    np.testing.assert_allclose(curve.gammas, [0, 1.5, 3, 5])
    np.testing.assert_allclose(curve.seen, [0.5, 0.5, 0, 0])
    np.testing.assert_allclose(curve.unseen, [0, 1, 1, 1])
    assert curve.area == pytest.approx(0.5)
    assert curve.at(1.5).harmonic_mean == pytest.approx(2 * 0.5 / 1.5)
    assert choose_gamma([curve]) == 1.5


@pytest.mark.parametrize("seed", range(4))
def test_curve_of__is_what_counting_gives_at_every_gamma(seed: int) -> None:
    scores, labels = random_case(seed)
    curve = curve_of(scores, labels, SEEN)
    for gamma in [*curve.gammas[::5], curve.gammas[-1], 0.123]:
        counted = classifier_metrics(scores - gamma * SEEN, labels, ("a", "b", "c"), {"c"})
        found = curve.at(gamma)
        assert found.seen == pytest.approx(counted["seen"])
        assert found.unseen == pytest.approx(counted["unseen"])
        assert found.harmonic_mean == pytest.approx(counted["harmonic_mean"])
    assert (np.diff(curve.seen) <= 1e-12).all()
    assert (np.diff(curve.unseen) >= -1e-12).all()
    assert 0 <= curve.area <= 1


def test_curve_of__area_does_not_know_a_shift_of_the_seen_scores() -> None:
    scores, labels = random_case(0)
    assert curve_of(scores + 7 * SEEN, labels, SEEN).area == pytest.approx(
        curve_of(scores, labels, SEEN).area
    )


@pytest.mark.parametrize("seen", [[True, True, True], [False, False, False]])
def test_curve_of__needs_both_kinds_of_classes(seen: list[bool]) -> None:
    scores, labels = random_case(0)
    with pytest.raises(ValueError, match="seen and unseen classes"):
        curve_of(scores, labels, np.array(seen))


def test_choose_gamma__nearest_to_0_of_those_that_the_curves_cannot_tell_apart() -> None:
    def curve(harmonic: list[float]) -> Curve:
        return Curve(np.arange(-1.0, 4.0), np.array(harmonic), np.array(harmonic))

    clear = [curve([0.0, 0.2, 0.4, 0.8, 0.7])] * 3
    assert choose_gamma(clear) == 2.0
    # Two curves prefer 2, one 0 by as much: the mean lag of 0 is .1, its standard error .2.
    noisy = [curve([0, 0.5, 0.5, 0.8, 0]), curve([0, 0.5, 0.5, 0.8, 0]), curve([0, 0.9, 0.5, 0.6, 0])]
    assert choose_gamma(noisy) == 0.0


def biased_evidence(val: bool = True, classes: int = 12, dim: int = 32) -> Evidence:
    """Classes in a joint space, of which the second half have no shots."""
    random = np.random.default_rng(0)
    centres = random.normal(size=(classes, dim)) + 2.0
    text = centres + 0.8 * random.normal(size=centres.shape)

    def images(each: int, of: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        labels = np.repeat(of, each)
        return centres[labels] + 1.3 * random.normal(size=(len(labels), dim)), labels

    features, labels = images(4, np.arange(classes // 2))
    val_features, val_labels = images(8, np.arange(classes)) if val else (None, None)
    return evidence_of(
        [f"class {number}" for number in range(classes)],
        features=features,
        labels=labels,
        text=text,
        val_features=val_features,
        val_labels=val_labels,
        logit_scale=20.0,
    )


def half_text_head(evidence: Evidence, seen: np.ndarray) -> Head:
    """Return text of all classes, with 3 added to the scores of the seen ones."""
    return shifted(fit_kind(ZeroShotHead.Config(), evidence).head, 3.0 * seen)


def test_played_curves__find_the_bias_towards_seen_classes() -> None:
    curves = played_curves(half_text_head, biased_evidence())
    assert len(curves) == 6
    gamma = choose_gamma(curves)
    assert 1.0 < gamma <= 5.0
    better = np.mean([curve.at(gamma).harmonic_mean - curve.at(0).harmonic_mean for curve in curves])
    assert better > 0.1


def test_played_curves__never_look_at_unseen_classes() -> None:
    asked: list[Evidence] = []

    def fit(part: Evidence, mask: np.ndarray) -> Head:
        asked.append(part)
        return half_text_head(part, mask)

    played_curves(fit, biased_evidence())
    assert {len(part.names) for part in asked} == {6}
    for part in asked:
        assert part.shots is not None
        assert part.val is not None
        assert set(part.shots.labels) == set(part.val.labels) < set(range(6))


def test_fit_generalised__gamma_is_in_the_head() -> None:
    evidence = biased_evidence()
    config: Any = component_class("head", "nearest_mean").__dict__["Config"]()
    free, plain = fit_generalised(config, evidence), fit_generalised(config, evidence, gamma=0.0)
    given = fit_generalised(config, evidence, gamma=1.5)
    images = np.random.default_rng(1).normal(size=(5, 32))
    expected = plain.head(images) - 1.5 * (np.arange(12) < 6)
    np.testing.assert_allclose(given.head(images), expected, rtol=1e-4, atol=1e-4)
    assert isinstance(given.head, LinearHead)
    assert given.chosen["gamma"] == 1.5
    assert "seen classes played unseen" in free.notes[-1]


def test_fit_generalised__a_head_of_images_and_text_of_other_classes_know_all() -> None:
    evidence = biased_evidence()
    config: Any = component_class("head", "nearest_mean").__dict__["Config"](logit_scale=None)
    head = fit_generalised(config, evidence).head
    assert head.labels == evidence.names
    assert evidence.val is not None
    found = classifier_metrics(head(evidence.val.features), evidence.val.labels, head.labels, head.labels[6:])
    assert found["harmonic_mean"] > 0.6


def test_fit_generalised__without_validation_gamma_is_0_and_said() -> None:
    fitted = fit_generalised(ZeroShotHead.Config(), biased_evidence(val=False))
    assert fitted.chosen["gamma"] == 0
    assert "no validation" in fitted.notes[-1]


def test_fit_generalised__refuses_what_has_no_unseen_class() -> None:
    whole = biased_evidence()
    with pytest.raises(DataError, match="no unseen class"):
        fit_generalised(ZeroShotHead.Config(), of_classes(whole, np.arange(12) < 6))
    with pytest.raises(DataError, match="3 classes have shots: at least 4"):
        fit_generalised(ZeroShotHead.Config(), of_classes(whole, np.isin(np.arange(12), [0, 1, 2, 9])))


def test_of_classes__keeps_rows_and_renames_labels() -> None:
    kept = np.isin(np.arange(12), [1, 4, 9])
    part = of_classes(biased_evidence(), kept)
    assert part.names == ("class 1", "class 4", "class 9")
    assert part.shots is not None
    assert part.shots.labels.tolist() == [0] * 4 + [1] * 4
    assert part.val is not None
    assert np.bincount(part.val.labels).tolist() == [8, 8, 8]
