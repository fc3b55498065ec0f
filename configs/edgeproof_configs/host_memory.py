"""How this process holds on to memory, which decides the speed of PyTorch on a CPU."""

from __future__ import annotations

import ctypes

M_TRIM_THRESHOLD, M_TOP_PAD, M_MMAP_MAX = -1, -2, -4
NEVER_BYTES = 2**31 - 1
TOP_PAD_BYTES = 256 << 20


def keep_freed_memory() -> bool:
    """Tell glibc to keep freed memory for the next allocation instead of giving it back to the system.

    PyTorch's CPU allocator asks the C library for every activation. By default glibc maps blocks of that size
    afresh each time, and the system clears every page again at the first touch: about half of the time of a
    training step of a small convolutional net. Memory in use stays at its high-water mark instead.

    Returns:
        Whether it took effect; False on systems with another C library.
    """
    try:
        libc = ctypes.CDLL("libc.so.6")
        mallopt = libc.mallopt
    except (OSError, AttributeError):
        return False
    settings = ((M_MMAP_MAX, 0), (M_TRIM_THRESHOLD, NEVER_BYTES), (M_TOP_PAD, TOP_PAD_BYTES))
    return all(mallopt(key, value) == 1 for key, value in settings)
