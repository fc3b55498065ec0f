from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError
from tests.train.heads.covered_classes import covered

from edgeproof_configs.errors import DataError
from edgeproof_deploy.runtime.head import ZeroShotHead
from edgeproof_train.heads.class_votes import ClassVotes
from edgeproof_train.heads.evidence import Evidence, Rows, evidence_of
from edgeproof_train.heads.fitting import fit_kind
from edgeproof_train.heads.tip_adapter import ALPHAS, BETAS, DOUBLINGS, TipAdapter
from edgeproof_train.metrics import unit_rows

NAMES = ("a", "b", "c", "d")


def make(*, val: bool = True, views: int = 1, noise: float = 1.0, seed: int = 0) -> Evidence:
    random = np.random.default_rng(seed)
    centres = unit_rows(random.normal(size=(4, 12)))
    labels = np.repeat([0, 0, 0, 1, 2, 2, 3, 3, 3, 3], views)
    seen = np.arange(4).repeat(20)
    return evidence_of(
        NAMES,
        features=centres[labels] + 0.2 * random.normal(size=(len(labels), 12)),
        labels=labels,
        views=views,
        text=centres + noise * random.normal(size=(4, 12)) / 3,
        val_features=centres[seen] + 0.25 * random.normal(size=(80, 12)) if val else None,
        val_labels=seen if val else None,
        logit_scale=10.0,
    )


def queries(count: int = 60) -> np.ndarray:
    return unit_rows(np.random.default_rng(8).normal(size=(count, 12)))


def test_fit__by_hand() -> None:
    evidence = evidence_of(
        ("x", "y"), features=np.eye(2), labels=np.array([0, 1]), text=np.eye(2), logit_scale=2.0
    )
    fitted = fit_kind(TipAdapter.Config(alpha=3.0, beta=0.5), evidence)
    near, far = 3 * np.exp(-0.5 * 0.4), 3 * np.exp(-0.5 * 0.2)
    np.testing.assert_allclose(fitted.head(np.array([[0.6, 0.8]])), [[1.2 + near, 1.6 + far]], rtol=1e-6)


def test_fit__alpha_0_is_zero_shot_exactly() -> None:
    evidence = make()
    assert evidence.text is not None
    fitted = fit_kind(TipAdapter.Config(alpha=0.0), evidence)
    zero_shot = ZeroShotHead(NAMES, evidence.text, evidence.logit_scale)
    assert np.array_equal(fitted.head(queries()), zero_shot(queries()))


def test_fit__the_pair_that_is_best_on_validation() -> None:
    evidence = make()
    fitted = fit_kind(TipAdapter.Config(), evidence)
    assert evidence.val is not None
    shots = evidence.photos()
    affinity = evidence.val.features @ shots.features.T
    one_hot = np.eye(4)[shots.labels]
    assert evidence.text is not None
    base = 10.0 * evidence.val.features @ evidence.text.T
    shares = {
        (alpha, start * 2**number): (
            (base + alpha * np.exp(-start * 2**number * (1 - affinity)) @ one_hot).argmax(axis=1)
            == evidence.val.labels
        ).mean()
        for alpha in ALPHAS
        for start in BETAS
        for number in range(DOUBLINGS)
    }
    found = (fitted.head(evidence.val.features).argmax(axis=1) == evidence.val.labels).mean()
    assert found == max(shares.values())
    assert shares[fitted.chosen["alpha"], fitted.chosen["beta"]] == found
    assert len(set(shares.values())) > 3
    assert fitted.notes == ("alpha and beta chosen on validation",)


def test_fit__one_of_the_two_is_given() -> None:
    assert fit_kind(TipAdapter.Config(alpha=2.0), make()).chosen["alpha"] == 2.0
    assert fit_kind(TipAdapter.Config(beta=3.0), make()).chosen["beta"] == 3.0


def test_fit__defaults_without_validation_are_said() -> None:
    fitted = fit_kind(TipAdapter.Config(), make(val=False))
    assert fitted.chosen == {"alpha": 1.17, "beta": 1.0}
    assert fitted.notes == ("alpha and beta by default where not given: there is no validation",)


def test_fit__keys_are_the_means_of_views() -> None:
    evidence = make(val=False, views=5)
    head: Any = fit_kind(TipAdapter.Config(), evidence).head
    assert head.keys.shape == (10, 12)
    np.testing.assert_allclose(np.linalg.norm(head.keys, axis=1), 1, rtol=1e-6)


def test_fit__needs_text_and_says_so() -> None:
    with pytest.raises(DataError, match="needs text embeddings"):
        fit_kind(TipAdapter.Config(use_text=False), make())


def test_fit__fine_tuning_lowers_the_loss_on_the_shots() -> None:
    evidence = make(val=False, noise=3.0, views=3)
    assert evidence.shots is not None
    rows = np.arange(len(evidence.shots.labels))
    losses = [
        -np.log(fit_kind(config, evidence).head.probabilities(evidence.shots.features))[
            rows, evidence.shots.labels
        ].mean()
        for config in (
            TipAdapter.Config(),
            TipAdapter.Config(fine_tune=True, epochs=5, learning_rate=0.02, batch_size=8),
        )
    ]
    assert losses[1] < losses[0]


def test_fit__fine_tuning_is_repeatable_and_never_below_on_validation() -> None:
    evidence = make(noise=3.0, views=3)
    assert evidence.val is not None
    config = TipAdapter.Config(fine_tune=True, epochs=4, learning_rate=0.02, batch_size=8)
    plain, first, second = (fit_kind(one, evidence) for one in (TipAdapter.Config(), config, config))
    assert np.array_equal(first.head(queries()), second.head(queries()))
    assert 0 <= first.chosen["epoch"] <= 4
    labels = evidence.val.labels
    shares = [(one.head(evidence.val.features).argmax(axis=1) == labels).mean() for one in (plain, first)]
    assert shares[1] >= shares[0] - 0.05
    assert first.notes == ("epoch chosen on validation", "alpha and beta chosen on validation")


def test_config__settings_without_effect_are_refused() -> None:
    with pytest.raises(ValidationError, match="epochs has no effect without fine_tune"):
        TipAdapter.Config(epochs=3)
    with pytest.raises(ValidationError, match="fine_tune has no effect where alpha is 0"):
        TipAdapter.Config(fine_tune=True, alpha=0.0)


def test_class_votes__classes_of_different_sizes_and_every_doubling() -> None:
    random = np.random.default_rng(0)
    labels = random.permutation(np.repeat(np.arange(4), [1, 5, 2, 3]))
    keys = Rows(unit_rows(random.normal(size=(11, 12))).astype(np.float32), labels)
    images = queries(7).astype(np.float32)
    ((part, blocks),) = ClassVotes(keys, 4).on_grid(images, (0.5, 0.7), 3)
    assert part == slice(0, 7)
    for votes, beta in zip(blocks, (0.5, 1.0, 2.0, 0.7, 1.4, 2.8), strict=True):
        expected = np.exp(-beta * (1 - images @ keys.features.T)) @ np.eye(4)[labels]
        np.testing.assert_allclose(votes, expected, rtol=1e-5)


@pytest.mark.parametrize("raised", [70, 30])
def test_class_votes__blocks_cover_all_images(monkeypatch: pytest.MonkeyPatch, raised: int) -> None:
    images = queries(60).astype(np.float32)
    whole = ClassVotes(make().photos(), 4).of_each(images, (2.0, 3.0))
    monkeypatch.setattr("edgeproof_train.heads.class_votes.BLOCK_AFFINITIES", 70)
    monkeypatch.setattr("edgeproof_train.heads.class_votes.RAISED_AFFINITIES", raised)
    cache = ClassVotes(make().photos(), 4)
    np.testing.assert_allclose(cache.of_each(images, (2.0, 3.0)), whole, rtol=1e-6)
    np.testing.assert_allclose(cache.of(images, 3.0), whole[1], rtol=1e-6)


def test_fit__real_features_with_text(real_data: Path) -> None:
    evidence, images, labels = covered(real_data)
    assert evidence.text is not None
    zero = 100 * float(((images @ evidence.text.T).argmax(axis=1) == labels).mean())
    found = 100 * float(
        (fit_kind(TipAdapter.Config(), evidence).head(images).argmax(axis=1) == labels).mean()
    )
    assert zero == pytest.approx(96.98, abs=0.01)
    assert found >= 97.7
