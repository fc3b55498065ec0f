from __future__ import annotations

import numpy as np
import pytest
import torch

from edgeproof_deploy.numerics import Numerics, cosines, numerics


def test_numerics__a_case_by_hand() -> None:
    reference = np.array([[3.0, 4.0], [1.0, 0.0]], np.float32)
    candidate = np.array([[4.0, 3.0], [1.0, 0.0]], np.float32)
    found = numerics(reference, candidate)
    assert found.nan == 0
    assert found.cosine_min == pytest.approx(24 / 25)
    assert found.cosine_mean == pytest.approx((24 / 25 + 1) / 2)
    assert found.cosine_p1 == pytest.approx(24 / 25 + 0.01 * (1 / 25))
    assert found.max_abs == 1
    assert found.mean_abs == 0.5
    assert found.range_relative == 0.25
    assert found.snr_db == pytest.approx(10 * np.log10(26 / 2))


def test_numerics__identity() -> None:
    rows = np.random.default_rng(0).standard_normal((50, 8)).astype(np.float32)
    assert numerics(rows, rows) == Numerics(0, 1.0, 1.0, 1.0, 0.0, 0.0, 0.0, 0.0, None)


def test_numerics__rows_with_nan_are_counted_and_left_out() -> None:
    reference = np.random.default_rng(0).standard_normal((4, 3))
    candidate = reference + 0.01
    clean = numerics(reference[[0, 2]], candidate[[0, 2]])
    candidate[1, 0], reference[3, 2] = np.nan, np.inf
    found = numerics(reference, candidate)
    assert found.nan == 2
    assert found.cosine_min == clean.cosine_min
    assert found.max_abs == clean.max_abs
    assert numerics(np.full((2, 3), np.nan), np.ones((2, 3))) == Numerics(2)


def test_numerics__other_shapes() -> None:
    with pytest.raises(ValueError, match="expected two arrays"):
        numerics(np.ones((2, 3)), np.ones((2, 4)))


def test_cosines__as_torch_has_them() -> None:
    rng = np.random.default_rng(1)
    a, b = rng.standard_normal((2, 30, 16))
    expected = torch.nn.functional.cosine_similarity(torch.from_numpy(a), torch.from_numpy(b)).numpy()
    np.testing.assert_allclose(cosines(a, b), expected, atol=1e-12)
    np.testing.assert_allclose(cosines(3 * a, 1e-6 * b), expected, atol=1e-12)


def test_cosines__zero_rows() -> None:
    zero, one = np.zeros((1, 3), np.float32), np.ones((1, 3), np.float32)
    assert cosines(zero, zero)[0] == 1
    assert cosines(zero, one)[0] == 0
