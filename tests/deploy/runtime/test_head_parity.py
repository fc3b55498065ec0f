"""Every form of a head against the same formula in torch, float64."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from tests.deploy.runtime.fitted_heads import embeddings, make_head

from edgeproof_deploy.runtime.cache_head import CacheHead
from edgeproof_deploy.runtime.class_values import ClassValues
from edgeproof_deploy.runtime.ensemble_head import EnsembleHead
from edgeproof_deploy.runtime.head import ClassifierHead, Head, ZeroShotHead
from edgeproof_deploy.runtime.linear_head import LinearHead

SIZES = [(1, 64), (2, 512), (37, 512), (1000, 64), (1000, 512)]


def wide(array: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(np.asarray(array)).double()


def in_torch(head: Head, rows: torch.Tensor) -> torch.Tensor:
    """Return the logits of a head by its formula, (N, K) float64."""
    directions = rows / torch.linalg.vector_norm(rows, dim=1, keepdim=True).clamp(min=1e-300)
    if isinstance(head, ClassifierHead):
        return rows[:, list(head.columns)]
    if isinstance(head, ZeroShotHead):
        return head.logit_scale * directions @ wide(head.weight).T
    if isinstance(head, LinearHead):
        bias = 0 if head.bias is None else wide(head.bias)
        return torch.nn.functional.linear(head.logit_scale * directions, wide(head.weight)) + bias
    if isinstance(head, CacheHead):
        values = head.values.dense() if isinstance(head.values, ClassValues) else head.values
        near = torch.exp(-head.beta * (1 - directions @ wide(head.keys).T))
        base = torch.zeros(1, dtype=torch.float64) if head.base is None else in_torch(head.base, rows)
        if head.base_form == "probabilities":
            base = base.softmax(dim=1)
        return head.scale * (base + near @ wide(values))
    assert isinstance(head, EnsembleHead)
    total = torch.zeros((), dtype=torch.float64)
    for member, weight in zip(head.members, head.weights, strict=True):
        logits = in_torch(member, rows)
        if head.of == "probabilities":
            total = total + float(weight) * logits.softmax(dim=1)
        else:
            spread = logits.std(dim=1, correction=0, keepdim=True)
            away = logits - logits.mean(dim=1, keepdim=True)
            total = total + float(weight) * torch.where(spread > 0, away / spread.clamp(min=1e-300), 0.0)
    return total.log() if head.of == "probabilities" else total


def apart(found: np.ndarray, expected: torch.Tensor) -> float:
    """Return how far logits are from torch's, as a part of the largest of them, or of 1."""
    return float((wide(found) - expected).abs().max()) / max(1.0, float(expected.abs().max()))


@pytest.mark.parametrize(("count", "dim"), SIZES)
@pytest.mark.parametrize(
    "form",
    ["linear", "linear_plain", "zero_shot", "tip", "votes_alone", "proker", "ensemble", "logit_ensemble"],
)
def test_logits__as_torch_gives_them(form: str, count: int, dim: int) -> None:
    head, rows = make_head(form, count, dim, shots=2), embeddings(dim)
    expected = in_torch(head, wide(rows))
    assert head(rows).dtype == np.float32
    assert apart(head(rows), expected) < 1e-5
    assert apart(np.concatenate([head(row[None]) for row in rows]), expected) < 1e-5
    shares = wide(head.probabilities(rows)) - expected.softmax(dim=1)
    assert float(shares.abs().max()) < 1e-5


def test_logits__an_ensemble_of_ensembles() -> None:
    head, rows = make_head("nested", 20, 64), embeddings(64)
    assert apart(head(rows), in_torch(head, wide(rows))) < 1e-5


@pytest.mark.parametrize("form", ["classifier", "some_classes"])
def test_logits__class_scores(form: str) -> None:
    head = make_head(form, 5)
    scores = np.random.default_rng(0).standard_normal((4, head.dim)).astype(np.float32)
    assert apart(head(scores), in_torch(head, wide(scores))) < 1e-6


@pytest.mark.parametrize("form", ["linear", "tip", "proker", "ensemble", "logit_ensemble"])
def test_logits__float64_and_half_embeddings(form: str) -> None:
    head, rows = make_head(form), np.random.default_rng(0).standard_normal((4, 8))
    for dtype in (np.float64, np.float16):
        expected = in_torch(head, wide(rows.astype(dtype))).numpy()
        np.testing.assert_allclose(head(rows.astype(dtype)), expected, rtol=1e-5, atol=2e-5)
