from __future__ import annotations

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from edgeproof_train.heads.evidence import Evidence, evidence_of
from edgeproof_train.heads.fitting import fit_kind
from edgeproof_train.heads.logistic import GRID, Logistic
from edgeproof_train.metrics import unit_rows


def make(classes: int, *, val: bool = False, noise: float = 0.5) -> Evidence:
    random = np.random.default_rng(0)
    centres, labels = random.normal(size=(classes, 8)), np.repeat(np.arange(classes), 12)
    rows, more = (centres[labels] + noise * random.normal(size=(len(labels), 8)) for _ in range(2))
    return evidence_of(
        [f"class {number}" for number in range(classes)],
        features=rows,
        labels=labels,
        val_features=more if val else None,
        val_labels=labels if val else None,
    )


@pytest.mark.parametrize("classes", [2, 4])
def test_fit__probabilities_of_scikit_learn(classes: int) -> None:
    evidence = make(classes)
    assert evidence.shots is not None
    queries = unit_rows(np.random.default_rng(1).normal(size=(50, 8)))
    oracle = LogisticRegression(C=10.0, max_iter=1000, tol=1e-6).fit(
        evidence.shots.features.astype(np.float64), evidence.shots.labels
    )
    fitted = fit_kind(Logistic.Config(c=10.0, max_iterations=1000), evidence)
    np.testing.assert_allclose(
        fitted.head.probabilities(queries), oracle.predict_proba(queries), rtol=0.02, atol=2e-3
    )
    assert fitted.notes == ("c given",)


def test_fit__noise_asks_for_a_smaller_c() -> None:
    clean, noisy = (fit_kind(Logistic.Config(), make(4, val=True, noise=noise)) for noise in (0.2, 4.0))
    assert {clean.chosen["c"], noisy.chosen["c"]} <= set(GRID)
    assert noisy.chosen["c"] < clean.chosen["c"]
    assert noisy.notes == ("c chosen on validation",)


def test_fit__says_where_the_solver_was_stopped() -> None:
    fitted = fit_kind(Logistic.Config(max_iterations=2), make(4))
    assert fitted.notes == ("c by default: there is no validation", "the solver stopped after 2 iterations")


def test_fit__one_shot_of_many_classes() -> None:
    rows = unit_rows(np.random.default_rng(0).normal(size=(40, 12)))
    names = [f"class {number}" for number in range(40)]
    fitted = fit_kind(Logistic.Config(), evidence_of(names, features=rows, labels=np.arange(40)))
    assert (fitted.head(rows).argmax(axis=1) == np.arange(40)).all()
