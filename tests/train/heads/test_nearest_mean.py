from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.neighbors import NearestCentroid

from edgeproof_configs.errors import DataError
from edgeproof_train.heads.class_sums import class_means, class_sums
from edgeproof_train.heads.evidence import Rows, evidence_of
from edgeproof_train.heads.fitting import fit_kind
from edgeproof_train.heads.nearest_mean import LOGIT_SCALE, NearestMean
from edgeproof_train.metrics import unit_rows


def shots(seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(seed)
    labels = random.permutation(np.repeat(np.arange(5), [1, 2, 3, 4, 5]))
    return random.normal(size=(15, 6)) + labels[:, None] % 3, labels


def test_fit__the_nearest_of_unit_means() -> None:
    features, labels = shots()
    unit = unit_rows(features)
    means = unit_rows(np.stack([unit[labels == label].mean(axis=0) for label in range(5)]))
    queries = unit_rows(np.random.default_rng(1).normal(size=(300, 6)))
    fitted = fit_kind(NearestMean.Config(), evidence_of(list("abcde"), features=features, labels=labels))
    around = 0.1 * np.random.default_rng(2).normal(size=means.shape)
    oracle = NearestCentroid().fit(np.vstack([means + around, means - around]), np.tile(np.arange(5), 2))
    assert (fitted.head(queries).argmax(axis=1) == oracle.predict(queries)).all()
    np.testing.assert_allclose(fitted.head(queries), LOGIT_SCALE * queries @ means.T, rtol=1e-4, atol=1e-3)
    assert fitted.notes == ("logit_scale 70 by default: there is no validation",)


def test_fit__validation_sets_the_scale_and_no_answer() -> None:
    features, labels = shots()
    queries = np.random.default_rng(1).normal(size=(300, 6))
    plain = evidence_of(list("abcde"), features=features, labels=labels)
    with_val = evidence_of(
        list("abcde"),
        features=features,
        labels=labels,
        val_features=queries[:50],
        val_labels=np.arange(50) % 5,
    )
    first, second = (fit_kind(NearestMean.Config(), evidence) for evidence in (plain, with_val))
    assert second.chosen["logit_scale"] < first.chosen["logit_scale"]
    assert (first.head(queries).argmax(axis=1) == second.head(queries).argmax(axis=1)).all()


def test_fit__needs_shots_of_every_class() -> None:
    features, labels = shots()
    with pytest.raises(DataError, match="no shot: z"):
        fit_kind(NearestMean.Config(), evidence_of(list("abcdez"), features=features, labels=labels))
    with pytest.raises(DataError, match="needs labelled images"):
        fit_kind(NearestMean.Config(), evidence_of(list("ab"), text=np.eye(2)))


def test_class_sums__rows_in_any_order() -> None:
    rows = np.arange(8, dtype=np.float32).reshape(4, 2)
    np.testing.assert_array_equal(class_sums(rows, np.array([1, 0, 1, 0]), 2), [[8, 10], [4, 6]])
    np.testing.assert_array_equal(
        class_means(Rows(rows, np.array([1, 0, 1, 1])), 2), [[2, 3], [10 / 3, 13 / 3]]
    )


@pytest.mark.parametrize(
    ("name", "accuracy"), [("caltech101", 91.4), ("oxford_flowers", 92.3), ("oxford_pets", 75.0)]
)
def test_fit__real_features_of_three_sets(name: str, accuracy: float, real_data: Path) -> None:
    stored: Any = np.load(real_data / "fewshot_b32" / f"{name}.npz", allow_pickle=False)
    evidence = evidence_of(
        [str(one) for one in stored["classnames"]],
        features=stored["shots_16_features"],
        labels=stored["shots_16_labels"],
    )
    answers = fit_kind(NearestMean.Config(), evidence).head(stored["test_features"]).argmax(axis=1)
    assert 100 * float((answers == stored["test_labels"]).mean()) == pytest.approx(accuracy, abs=0.1)
