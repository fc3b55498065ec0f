"""What the processor at hand can do with bytes."""

from __future__ import annotations

import platform
from pathlib import Path

CPU_INFO = Path("/proc/cpuinfo")
X86 = ("x86_64", "amd64")
DOT_PRODUCTS = ("avx512_vnni", "avx_vnni")


def saturates_here() -> bool:
    """Return whether sums of byte products may saturate here: on x86 without VNNI, or if it is not known."""
    if platform.machine().lower() not in X86:
        return False
    if not CPU_INFO.exists():
        return True
    return not any(name in CPU_INFO.read_text(encoding="utf-8") for name in DOT_PRODUCTS)
