from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from edgeproof_train.heads import proxies
from edgeproof_train.heads.proxies import Proxies, ProxyProblem, accelerate, descend, unit

T = 0.04


def images(count: int = 300, classes: int = 5, dim: int = 16, seed: int = 0) -> tuple[np.ndarray, ...]:
    """Return unit features about class means, text off their side, and the classes."""
    rng = np.random.default_rng(seed)
    means = unit(rng.normal(size=(classes, dim)))
    labels = rng.integers(0, classes, count)
    features = unit(means[labels] + 0.25 * rng.normal(size=(count, dim)) + 0.2)
    return features, unit(means + 0.4 * rng.normal(size=(classes, dim))), labels


def problem(count: int = 300) -> tuple[ProxyProblem, np.ndarray, np.ndarray, np.ndarray]:
    features, text, labels = images(count)
    soft = 0.9 * np.eye(5)[labels] + 0.02
    return ProxyProblem(features, soft.T @ features, T), text, features, soft


def test_gradient__value_and_slope_in_float64() -> None:
    found, text, features, soft = problem()
    scores = features.astype(np.float64) @ text.T.astype(np.float64) / T
    expected = (np.log(np.exp(scores).sum(axis=1)) - (soft * scores).sum(axis=1)).mean()
    p = np.exp(scores) / np.exp(scores).sum(axis=1, keepdims=True)
    value, gradient = found.gradient(text)
    assert value == pytest.approx(expected, abs=1e-5)
    np.testing.assert_allclose(gradient, (p - soft).T @ features / len(features), atol=1e-6)


def test_gradient__blocks_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    found, text, _, _ = problem()
    value, gradient = found.gradient(text)
    monkeypatch.setattr(proxies, "BLOCK_CELLS", 1)
    assert len(list(proxies.row_blocks(300, 5))) == 5
    again, sums = found.gradient(text)
    assert again == pytest.approx(value, abs=1e-6)
    np.testing.assert_allclose(sums, gradient, atol=1e-7)


def test_descend__the_papers_steps_in_float64() -> None:
    found, text, features, soft = problem()
    wide = features.astype(np.float64)
    weight, rate, before = text.T.astype(np.float64), 10.0, np.inf
    for _ in range(30):
        scores = wide @ weight / T
        p = np.exp(scores - scores.max(axis=1, keepdims=True))
        slope = wide.T @ (p / p.sum(axis=1, keepdims=True) - soft)
        if np.linalg.norm(slope) > before:
            rate /= 2
        before = float(np.linalg.norm(slope))
        weight -= rate / (len(wide) * T) * slope
        weight /= np.linalg.norm(weight, axis=0)
    np.testing.assert_allclose(descend(found, text, steps=30).weight, weight.T, atol=1e-4)


def test_accelerate__answers_as_the_full_steps() -> None:
    found, text, features, _ = problem(400)
    full = descend(found, text, steps=2000)
    fast = accelerate(found, text)
    same = (features @ full.weight.T).argmax(axis=1) == (features @ fast.weight.T).argmax(axis=1)
    assert same.mean() >= 0.985
    assert fast.steps < 125
    assert found.gradient(fast.weight)[0] <= found.gradient(full.weight)[0] + 1e-4


def test_accelerate__stops_where_the_slope_is_flat() -> None:
    found, text, _, _ = problem()
    flat = accelerate(found, text, steps=200, tolerance=1e-3)
    assert flat.steps < 60
    assert flat.slope < 2e-2
    assert accelerate(found, text, steps=7, tolerance=0).steps < 12
    np.testing.assert_allclose(np.linalg.norm(flat.weight, axis=1), 1, rtol=1e-6)


@pytest.mark.parametrize(("solve", "steps", "near"), [(descend, 60, 2e-4), (accelerate, 200, 5e-3)])
def test_solvers__order_of_images_and_classes(solve: Callable[..., Proxies], steps: int, near: float) -> None:
    features, text, labels = images()
    soft = 0.9 * np.eye(5)[labels] + 0.02
    rows, columns = np.random.default_rng(1).permutation(300), np.array([3, 0, 4, 1, 2])
    plain = solve(ProxyProblem(features, soft.T @ features, T), text, steps=steps).weight
    mixed = ProxyProblem(features[rows], soft[rows][:, columns].T @ features[rows], T)
    found = solve(mixed, text[columns], steps=steps).weight
    np.testing.assert_allclose(found, plain[columns], atol=near)
    assert np.array_equal((features @ found.T).argmax(axis=1), (features @ plain[columns].T).argmax(axis=1))


def test_solvers__a_class_without_targets_stays_finite() -> None:
    features, text, labels = images()
    soft = np.eye(5)[np.where(labels == 2, 0, labels)]
    found = ProxyProblem(features, soft.T @ features, T)
    for weight in (descend(found, text, steps=50).weight, accelerate(found, text, steps=50).weight):
        assert np.isfinite(weight).all()
        assert not ((features @ weight.T).argmax(axis=1) == 2).any()
