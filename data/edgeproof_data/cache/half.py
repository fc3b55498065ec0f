"""float16 to float32, several times as fast as numpy's own conversion."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

SIGN_AND_REST = np.int32(-0x70000001)
"""Bits 31 and 0 to 27."""
EXPONENT_SHIFT = np.float32(2.0**112)
"""A float32 has an exponent bias of 127, a float16 one of 15."""


def widen(half: NDArray[np.float16]) -> NDArray[np.float32]:
    """Return finite float16 values as float32, exactly.

    The 15 bits below the sign are moved to where a float32 has them; what is wrong then is only the bias of
    the exponent, which a multiplication corrects (also for subnormal numbers).
    """
    bits = half.view(np.int16).astype(np.int32)
    bits <<= 13
    bits &= SIGN_AND_REST
    wide = bits.view(np.float32)
    wide *= EXPONENT_SHIFT
    return wide
