from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from edgeproof_benchmarks.head_sets import read_set
from edgeproof_configs.errors import DataError
from edgeproof_train.heads import lp_plus_plus
from edgeproof_train.heads.evidence import Evidence, Rows, evidence_of
from edgeproof_train.heads.lp_plus_plus import (
    LPPlusPlus,
    Training,
    class_mean,
    largest_eigenvalue,
    second_moments,
)
from edgeproof_train.heads.proxies import unit

CLASSES, SHOTS, DIM = 5, 4, 24


def made(seed: int = 0, noise: float = 0.2) -> tuple[Rows, np.ndarray, Rows]:
    """Return shots, text and validation rows about the same means."""
    rng = np.random.default_rng(seed)
    means = unit(rng.normal(size=(CLASSES, DIM)))

    def rows(each: int) -> Rows:
        labels = np.repeat(np.arange(CLASSES), each)
        return Rows(unit(means[labels] + noise * rng.normal(size=(len(labels), DIM))), labels)

    return rows(SHOTS), unit(means + 0.2 * rng.normal(size=means.shape)), rows(20)


def evidence(val: bool = False, text: bool = True, seed: int = 0, noise: float = 0.2) -> Evidence:
    shots, words, held = made(seed, noise)
    more: dict[str, Any] = {"val_features": held.features, "val_labels": held.labels} if val else {}
    names = [f"c{row}" for row in range(CLASSES)]
    return evidence_of(
        names, features=shots.features, labels=shots.labels, text=words if text else None, **more
    )


def reference(found: Evidence, steps: int, accumulate: bool = False) -> tuple[np.ndarray, np.ndarray]:
    """Return matrix and bias of LP++ in float64, written after the paper, gradients by hand."""
    assert found.shots is not None
    f, y = found.shots.features.astype(np.float64), found.shots.labels
    t = np.zeros((CLASSES, DIM)) if found.text is None else found.text.astype(np.float64)
    n, onehot = len(y), np.eye(CLASSES)[y]
    w, b, v, c = onehot.T @ f, np.zeros(CLASSES), 0.0, 0.0
    rate = 4 * n / np.linalg.eigvalsh(f.T @ f)[-1]
    owed = np.zeros(CLASSES)
    s = f @ t.T
    alpha = np.full(CLASSES, 250 * np.mean([s[y == k, k].mean() for k in range(CLASSES)]))
    alpha_rate = n / (4 * max((s**2).sum(axis=0).max(), 1e-9))
    for step in range(1, steps + 1):
        logits = f @ w.T + b + alpha * s
        p = np.exp(logits - logits.max(axis=1, keepdims=True))
        error = (p / p.sum(axis=1, keepdims=True) - onehot) / n
        owed = (owed if accumulate else 0) + (error * s).sum(axis=0)
        v, c = 0.9 * v + error.T @ f, 0.9 * c + error.sum(axis=0)
        w, b = w - rate * v, b - rate * c
        if step % 10 == 0:
            alpha = alpha - alpha_rate * owed
    return w + alpha[:, None] * t, b


@pytest.mark.parametrize("text", [True, False])
@pytest.mark.parametrize("steps", [1, 10, 45, 300])
def test_fit__as_in_float64(steps: int, text: bool) -> None:
    found = evidence(text=text, noise=0.5)
    head: Any = LPPlusPlus.fit(LPPlusPlus.Config(steps=steps), found).head
    weight, bias = reference(found, steps)
    np.testing.assert_allclose(head.weight, weight, rtol=1e-3, atol=1e-2)
    np.testing.assert_allclose(head.bias, bias, atol=1e-2)


def test_fit__the_authors_accumulated_gradient() -> None:
    found = evidence(noise=0.5)
    head: Any = LPPlusPlus.fit(LPPlusPlus.Config(steps=60, accumulate_alpha_grad=True), found).head
    theirs, ours = reference(found, 60, accumulate=True)[0], reference(found, 60)[0]
    np.testing.assert_allclose(head.weight, theirs, rtol=1e-3, atol=1e-2)
    assert np.abs(theirs - ours).max() > 0.1


def test_fit__keeps_the_best_step_on_validation() -> None:
    found = evidence(val=True, noise=0.35)
    assert found.val is not None
    fitted = LPPlusPlus.fit(LPPlusPlus.Config(steps=80), found)
    kept = (fitted.head.logits(found.val.features).argmax(axis=1) == found.val.labels).mean()
    for step in (1, 5, 20, 80):
        head = LPPlusPlus.fit(LPPlusPlus.Config(steps=step), evidence(noise=0.35)).head
        assert kept >= (head.logits(found.val.features).argmax(axis=1) == found.val.labels).mean()
    assert 1 <= fitted.chosen["step"] <= 80
    assert "100 validation images" in fitted.notes[0]


def test_fit__without_validation_the_last_step() -> None:
    fitted = LPPlusPlus.fit(LPPlusPlus.Config(), evidence())
    assert fitted.chosen["step"] == 300
    assert fitted.chosen["batch_size"] == CLASSES * SHOTS
    assert "no validation" in fitted.notes[0]


def test_fit__batches_of_a_shot_a_class_end_near_the_full_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    found = evidence(text=False)
    _, _, held = made()
    full = LPPlusPlus.fit(LPPlusPlus.Config(), found).head
    half = LPPlusPlus.fit(LPPlusPlus.Config(batch_size=10), found)
    assert half.chosen["batch_size"] == 10
    right = [(head.logits(held.features).argmax(axis=1) == held.labels).mean() for head in (full, half.head)]
    assert right[0] > 0.8
    assert right[1] >= right[0] - 0.1
    monkeypatch.setattr(lp_plus_plus, "FULL_CELLS", 10)
    chosen = LPPlusPlus.fit(LPPlusPlus.Config(), found).chosen
    assert chosen["batch_size"] == 20
    assert chosen["step"] == 300


def test_training__in_batches_the_rate_falls_to_zero() -> None:
    shots, text, _ = made()
    for batch, falling in ((CLASSES * SHOTS, False), (10, True)):
        training = Training(LPPlusPlus.Config(batch_size=batch, steps=40), shots, text, CLASSES)
        for number in range(1, 41):
            before = training.weight.clone()
            training.step(number)
            part = (41 - number) / 40 if falling else 1.0
            torch.testing.assert_close(
                before - training.weight, part * training.rate * training.moving[0], rtol=1e-3, atol=1e-4
            )


def test_fit__noise_of_batches_dies_out_on_real_features(real_data: Path) -> None:
    pets = read_set(real_data / "fewshot_b32", "oxford_pets")
    found = pets.evidence(16, None, unlabelled=False)

    def right(**settings: Any) -> float:
        head = LPPlusPlus.fit(LPPlusPlus.Config(**settings), found).head
        return 100 * float((head.logits(pets.test.features).argmax(axis=1) == pets.test.labels).mean())

    batched = [right(batch_size=37, steps=150, seed=seed) for seed in range(3)]
    assert right() == pytest.approx(80.9, abs=0.3)
    assert np.mean(batched) >= 77.5  # 74.5 at a rate that does not fall


def test_fit__order_of_shots_and_classes() -> None:
    found = evidence()
    assert found.shots is not None
    assert found.text is not None
    rows, columns = np.random.default_rng(1).permutation(20), np.array([3, 0, 4, 1, 2])
    place = np.argsort(columns)
    mixed = evidence_of(
        [found.names[row] for row in columns],
        features=found.shots.features[rows],
        labels=place[found.shots.labels[rows]],
        text=found.text[columns],
    )
    plain: Any = LPPlusPlus.fit(LPPlusPlus.Config(), found).head
    other: Any = LPPlusPlus.fit(LPPlusPlus.Config(), mixed).head
    np.testing.assert_allclose(other.weight, plain.weight[columns], rtol=1e-3, atol=1e-3)


def test_fit__without_bias() -> None:
    head: Any = LPPlusPlus.fit(LPPlusPlus.Config(bias=False), evidence()).head
    assert head.bias is None


def test_largest_eigenvalue__as_numpy_finds() -> None:
    for shape in ((40, 7), (7, 40)):
        features = unit(np.random.default_rng(0).normal(size=shape) + 0.3)
        wide = features.astype(np.float64)
        assert largest_eigenvalue(second_moments(features)) == pytest.approx(
            np.linalg.eigvalsh(wide.T @ wide)[-1], rel=1e-9
        )


def test_class_mean__classes_count_the_same() -> None:
    assert class_mean(np.array([1.0, 1, 1, 4]), np.array([0, 0, 0, 1]), 2) == 2.5


def test_fit__a_class_without_a_shot_is_refused() -> None:
    shots, text, _ = made()
    left = shots.labels != 2
    found = evidence_of(list("abcde"), features=shots.features[left], labels=shots.labels[left], text=text)
    with pytest.raises(DataError, match="1 of 5 classes have no shot: c"):
        LPPlusPlus.fit(LPPlusPlus.Config(), found)


def test_config__accumulating_without_text_is_refused() -> None:
    with pytest.raises(ValidationError, match="no effect without text"):
        LPPlusPlus.Config(use_text=False, accumulate_alpha_grad=True)
