from __future__ import annotations

import numpy as np

from edgeproof_data.cache.half import widen


def test_widen__every_finite_value_exactly():
    every = np.arange(1 << 16, dtype=np.uint16).view(np.float16)
    finite = every[np.isfinite(every)]
    expected = finite.astype(np.float32)
    assert np.array_equal(widen(finite).view(np.uint32), expected.view(np.uint32))
    assert widen(finite[:60].reshape(3, 20)).shape == (3, 20)
