from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.kernel_ridge import KernelRidge
from tests.train.heads.covered_classes import covered
from tests.train.heads.few_shot_case import few_shot_case

from edgeproof_configs.errors import DataError, UsageError
from edgeproof_deploy.runtime.head import parse_head
from edgeproof_train.calibration import probabilities
from edgeproof_train.heads.evidence import Evidence, Rows, evidence_of
from edgeproof_train.heads.files import labels_text, packed
from edgeproof_train.heads.fitting import fit_kind
from edgeproof_train.heads.kernel_ridge import centres_of, exact_system, kernel, reduced_system
from edgeproof_train.heads.proker import SHARPNESS, ProKeR, max_keys
from edgeproof_train.metrics import unit_rows


def queries(count: int = 80) -> np.ndarray:
    return unit_rows(np.random.default_rng(5).normal(size=(count, 16)))


def zero_shot(evidence: Evidence, rows: np.ndarray) -> np.ndarray:
    assert evidence.text is not None
    return probabilities(evidence.logit_scale * rows @ evidence.text.astype(np.float64).T)


@pytest.mark.parametrize(("beta", "ridge"), [(1.0, 0.03), (4.0, 1.0)])
def test_fit__kernel_ridge_regression_of_the_residual(beta: float, ridge: float) -> None:
    evidence = few_shot_case(val=None)
    assert evidence.shots is not None
    features, labels = evidence.shots.features.astype(np.float64), evidence.shots.labels
    regression: Any = KernelRidge
    oracle = regression(alpha=ridge, kernel="precomputed").fit(
        np.exp(-beta * (1 - features @ features.T)), np.eye(5)[labels] - zero_shot(evidence, features)
    )
    votes = oracle.predict(np.exp(-beta * (1 - queries() @ features.T)))
    head = fit_kind(ProKeR.Config(beta=beta, ridge=ridge, weight=1.5), evidence).head
    expected = SHARPNESS * (zero_shot(evidence, queries()) + 1.5 * votes)
    np.testing.assert_allclose(head(queries()), expected, rtol=1e-3, atol=2e-3)


@pytest.mark.parametrize("settings", [{"ridge": 1e9}, {"weight": 0.0}])
def test_fit__a_large_ridge_or_no_weight_is_zero_shot(settings: dict[str, float]) -> None:
    evidence = few_shot_case()
    head: Any = fit_kind(ProKeR.Config.model_validate(settings), evidence).head
    votes = head(queries()) - head.scale * zero_shot(evidence, queries())
    assert np.abs(votes).max() < 1e-4 * head.scale
    assert (head(queries()).argmax(axis=1) == zero_shot(evidence, queries()).argmax(axis=1)).all()


def test_fit__not_below_zero_shot_on_validation() -> None:
    evidence = few_shot_case(shots=1, noise=2.0)
    assert evidence.val is not None
    fitted = fit_kind(ProKeR.Config(), evidence)
    ours, theirs = fitted.head(evidence.val.features), zero_shot(evidence, evidence.val.features)
    shares = [(scores.argmax(axis=1) == evidence.val.labels).mean() for scores in (ours, theirs)]
    assert shares[0] >= shares[1]
    assert fitted.notes == ("beta, ridge and weight chosen on validation where not given",)


def test_fit__defaults_without_validation_are_said() -> None:
    fitted = fit_kind(ProKeR.Config(), few_shot_case(val=None))
    assert fitted.chosen == {"beta": 1.0, "ridge": 0.03, "weight": 1.0, "scale": SHARPNESS, "keys": 20}
    assert fitted.notes == (
        "beta, ridge and weight given where set, else by default: there is no validation",
    )


def test_fit__needs_text() -> None:
    with pytest.raises(DataError, match="needs text embeddings"):
        fit_kind(ProKeR.Config(), few_shot_case(text=False))


def test_fit__fewer_keys_than_shots() -> None:
    evidence = few_shot_case(shots=12)
    whole, small = (fit_kind(ProKeR.Config(max_keys=most), evidence) for most in (60, 20))
    assert (whole.chosen["keys"], small.chosen["keys"]) == (60, 20)
    assert small.notes[0] == "20 centres stand for 60 shots, all of which are fitted"
    same = (whole.head(queries()).argmax(axis=1) == small.head(queries()).argmax(axis=1)).mean()
    assert 0.7 < same < 1
    with pytest.raises(UsageError, match="max_keys 4 for 5 classes"):
        fit_kind(ProKeR.Config(max_keys=4), evidence)


def test_fit__many_classes_choose_settings_on_a_part_of_them() -> None:
    random = np.random.default_rng(0)
    centres, labels = random.normal(size=(120, 16)), np.repeat(np.arange(120), 12)
    evidence = evidence_of(
        [f"class {number}" for number in range(120)],
        features=centres[labels] + random.normal(size=(1440, 16)),
        labels=labels,
        text=centres + random.normal(size=(120, 16)),
        val_features=np.repeat(centres, 2, axis=0) + random.normal(size=(240, 16)),
        val_labels=np.repeat(np.arange(120), 2),
        logit_scale=20.0,
    )
    assert evidence.val is not None
    fitted = fit_kind(ProKeR.Config(max_keys=300), evidence)
    assert fitted.chosen["keys"] == 300
    ours, theirs = fitted.head(evidence.val.features), zero_shot(evidence, evidence.val.features)
    shares = [(scores.argmax(axis=1) == evidence.val.labels).mean() for scores in (ours, theirs)]
    assert shares[0] > shares[1] + 0.05


@pytest.mark.parametrize("most", [None, 20])
def test_fit__keys_of_half_precision_are_regressed_on_as_they_are_kept(most: int | None) -> None:
    """With so small a ridge and so wide a kernel coefficients are large and cancel each other."""
    config = ProKeR.Config(half=True, beta=0.5, ridge=1e-3, max_keys=most)
    fitted = fit_kind(config, few_shot_case(shots=12))
    head: Any = fitted.head
    np.testing.assert_array_equal(head.keys, head.keys.astype(np.float16))
    found = packed(head, half=True)
    again = parse_head(found.data, labels_text(head).encode())
    whole: Any = fit_kind(config.model_copy(update={"half": False}), few_shot_case(shots=12)).head
    spread = np.ptp(whole(queries()), axis=1).max()
    assert np.abs(again(queries()) - whole(queries())).max() < 0.02 * spread


def test_max_keys__shots_as_they_are_or_a_thousand_centres() -> None:
    evidence = few_shot_case()
    assert [max_keys(ProKeR.Config(), evidence, shots) for shots in (1600, 16000)] == [1600, 1024]
    assert max_keys(ProKeR.Config(max_keys=4000), evidence, 16000) == 4000


@pytest.mark.parametrize("ridge", [1.0, 0.01])
def test_reduced_system__the_keys_as_centres_are_exact(ridge: float, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edgeproof_train.heads.kernel_ridge.BLOCK_NUMBERS", 70)
    rows = queries(20).astype(np.float32)
    residual = np.random.default_rng(1).normal(size=(20, 3)).astype(np.float32)
    exact = exact_system(rows, residual, 4.0).solved(ridge)
    reduced = reduced_system(rows, residual, rows, 4.0).solved(ridge)
    near = kernel(queries(50).astype(np.float32), rows, 4.0)
    np.testing.assert_allclose(near @ reduced, near @ exact, rtol=1e-2, atol=1e-3)


def test_centres_of__some_for_each_class() -> None:
    rows = Rows(queries(30).astype(np.float32), np.repeat([2, 0, 1], [20, 6, 4]))
    centres = centres_of(rows, 12)
    assert centres.shape == (12, 16)
    np.testing.assert_allclose(np.linalg.norm(centres, axis=1), 1, rtol=1e-5)
    one = centres_of(rows, 3)
    means = unit_rows(np.stack([rows.features[rows.labels == label].mean(axis=0) for label in range(3)]))
    np.testing.assert_allclose(one, means, rtol=1e-5, atol=1e-6)


def test_fit__real_features_with_text(real_data: Path) -> None:
    evidence, images, labels = covered(real_data)
    found = 100 * float((fit_kind(ProKeR.Config(), evidence).head(images).argmax(axis=1) == labels).mean())
    assert found >= 98.4
