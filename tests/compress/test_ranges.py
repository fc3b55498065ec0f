from __future__ import annotations

import warnings

import numpy as np
import pytest
import torch

from edgeproof_compress.ranges import entropy_range, mse_range, percentile_range

Histogram = tuple[np.ndarray, np.ndarray]


def histogram(values: np.ndarray, bins: int) -> Histogram:
    values = np.abs(values)
    counts, edges = np.histogram(values, bins, (0, values.max()))
    return counts.astype(np.float64), edges


def shapes() -> dict[str, np.ndarray]:
    random = np.random.default_rng(0)
    relu = np.maximum(random.normal(size=20000), 0)
    return {
        "normal": random.normal(size=20000),
        "relu": relu,
        "uniform": random.uniform(size=5000),
        "heavy tail": random.standard_t(2, size=20000),
        "few": random.normal(size=150),
        "one outlier": np.append(relu, 40.0),
    }


@pytest.mark.parametrize("name", shapes())
def test_entropy_range__is_that_of_the_earlier_package(name: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from pytorch_quantization.calib.histogram import _compute_amax_entropy
    counts, edges = histogram(shapes()[name], 200)
    with warnings.catch_warnings():
        # It divides by the sum of an empty distribution now and then.
        warnings.simplefilter("ignore")
        oracle = _compute_amax_entropy(counts.copy(), edges, 8, False)
    assert oracle is not None
    assert entropy_range(counts, edges) == pytest.approx(float(oracle))


@pytest.mark.parametrize("name", shapes())
def test_mse_range__is_the_best_of_all(name: str) -> None:
    counts, edges = histogram(shapes()[name], 200)
    centres = torch.tensor((edges[1:] + edges[:-1]) / 2)
    errors = {}
    for amax in edges[128:]:
        rounded = torch.fake_quantize_per_tensor_affine(centres, float(amax) / 127, 0, -128, 127)
        errors[amax] = float((torch.tensor(counts) * (rounded - centres) ** 2).sum())
    found = mse_range(counts, edges)
    best = min(errors.values())
    assert min(error for amax, error in errors.items() if amax == pytest.approx(found)) <= best * 1.001


@pytest.mark.parametrize(("repeated", "rel"), [(1, 0.005), (50, 0.15)])
def test_mse_range__weighs_one_outlier_against_the_steps_of_all_others(repeated: int, rel: float) -> None:
    """With range a, n others lose n (a / 127)^2 / 12 together, and an outlier at 40 loses (40 - a)^2."""
    counts, edges = histogram(shapes()["one outlier"], 2048)
    counts[:-1] *= repeated
    others = counts[1:-1].sum()
    assert mse_range(counts, edges) == pytest.approx(40 / (1 + others / (12 * 127**2)), rel=rel)


@pytest.mark.parametrize(
    ("percentile", "expected"), [(50, 1.0), (51, 2.0), (80, 2.0), (81, 3.0), (90, 3.0), (91, 4.0), (100, 4.0)]
)
def test_percentile_range__by_hand(percentile: float, expected: float) -> None:
    counts, edges = np.array([5.0, 3.0, 1.0, 1.0]), np.arange(5.0)
    assert percentile_range(counts, edges, percentile) == expected


def test_percentile_range__of_a_heavy_tail_is_far_below_the_largest() -> None:
    values = shapes()["heavy tail"]
    counts, edges = histogram(values, 2048)
    found = percentile_range(counts, edges, 99)
    assert found < 0.2 * edges[-1]
    assert (np.abs(values) <= found).mean() >= 0.99
    assert percentile_range(counts, edges, 100) == pytest.approx(np.abs(values).max())


@pytest.mark.parametrize("function", [entropy_range, mse_range])
def test_ranges__of_fewer_bins_than_levels_keep_everything(function: object) -> None:
    counts, edges = histogram(shapes()["normal"], 50)
    assert callable(function)
    assert function(counts, edges) == pytest.approx(edges[-1])
    assert counts[0] == histogram(shapes()["normal"], 50)[0][0], "the counts stay as they are"
