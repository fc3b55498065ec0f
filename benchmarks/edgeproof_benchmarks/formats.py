"""Figures in words: percentages, milliseconds, bytes, durations. A figure that is missing is a dash."""

from __future__ import annotations

import math
import re

MISSING = "\N{EN DASH}"
MINUS = "\N{MINUS SIGN}"

ENGINE_NAMES = {
    "pytorch": "PyTorch",
    "pytorch_compiled": "PyTorch, compiled",
    "onnxruntime": "ONNX Runtime",
    "onnxruntime_cuda": "ONNX Runtime, CUDA",
    "onnxruntime_tensorrt": "ONNX Runtime, TensorRT",
    "tensorrt": "TensorRT",
    "tensorrt_rtx": "TensorRT-RTX",
    "openvino": "OpenVINO",
}
METRIC_NAMES = {
    "top1": "top-1",
    "top5": "top-5",
    "mean_per_class": "per class",
    "seen": "seen",
    "unseen": "held out",
    "harmonic_mean": "H",
    "map": "mAP",
    "map_seen": "mAP, seen",
    "map_unseen": "mAP, held out",
    "cosine": "cosine",
}
FRACTIONS = ("top1", "top5", "mean_per_class", "seen", "unseen", "harmonic_mean")


def known(value: object) -> bool:
    """Whether a value is a finite number."""
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def significant(value: float, digits: int = 3) -> str:
    """Return a number with that many significant digits and no exponent: 0.0123, 1.92, 143."""
    if value == 0:
        return "0"
    decimals = max(0, digits - 1 - math.floor(math.log10(abs(value))))
    text = f"{value:,.{min(decimals, 12)}f}"
    return text.replace("-", MINUS)


def percent(fraction: float | None, decimals: int = 1) -> str:
    """Return 0.982 as `98.2 %`."""
    return MISSING if fraction is None or not known(fraction) else f"{100 * fraction:.{decimals}f} %"


def agreement(share: float | None) -> str:
    """Return a share of equal decisions: `100 %` for all of them alone, otherwise rounded down."""
    if share is None or not known(share):
        return MISSING
    return "100 %" if share == 1 else f"{math.floor(round(share * 1e4, 6)) / 100:.2f} %"


def points(difference: float | None) -> str:
    """Return a difference of two fractions in percentage points, with a sign: -0.003 as -0.3."""
    if difference is None or not known(difference):
        return MISSING
    rounded = round(100 * difference, 1)
    return f"{rounded:+.1f}".replace("-", MINUS) if rounded else "±0.0"


def milliseconds(value: float | None) -> str:
    """Return `1.92 ms`."""
    return (
        MISSING
        if value is None or not known(value)
        else f"{significant(value, 3 if abs(value) >= 1 else 2)} ms"
    )


def size(count: float | None) -> str:
    """Return a number of bytes in B, kB, MB or GB (powers of ten)."""
    if count is None or not known(count):
        return MISSING
    for unit, scale in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if count >= scale:
            return f"{significant(count / scale)} {unit}"
    return f"{count:.0f} B"


def integer(count: float | None) -> str:
    """Return a count with thousands separated: `2,465`."""
    return MISSING if count is None or not known(count) else f"{count:,.0f}"


def duration(seconds: float | None) -> str:
    """Return `0.4 s`, `37 s`, `5 min 02 s` or `1 h 20 min`."""
    if seconds is None or not known(seconds):
        return MISSING
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"


def cosine(value: float | None) -> str:
    """Return a cosine with as many nines as it has: 0.887, 0.99995, 1.000000."""
    if value is None or not known(value):
        return MISSING
    gap = abs(1 - value)
    decimals = 3 if gap >= 5e-3 else min(7, max(4, 1 - math.floor(math.log10(max(gap, 1e-7)))))
    return f"{value:.{decimals}f}".replace("-", MINUS)


def small(value: float | None) -> str:
    """Return a small positive number for a table: 3.1e-06, 0.0042, 0."""
    if value is None or not known(value):
        return MISSING
    if value and abs(value) < 1e-3:
        return f"{value:.1e}".replace("-", MINUS)
    return significant(value, 2)


def metric(name: str, value: float | None) -> str:
    """Return a metric in its own form: accuracies in per cent, a cosine with three decimals."""
    if name in FRACTIONS:
        return percent(value)
    return MISSING if value is None or not known(value) else f"{value:.3f}".replace("-", MINUS)


def unbroken(sentence: str) -> str:
    """Return a sentence whose numbers cannot be parted from their units at the end of a line."""
    return re.sub(r"(?<=\d) (?=(%|ms|s|B|kB|MB|GB|points?)\b|%)", "\u00a0", sentence)


def plural(count: int, noun: str) -> str:
    """Return `1 gate`, `3 gates`."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def in_a_row(words: list[str]) -> str:
    """Return `a`, `a and b`, `a, b and c`."""
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}" if words else ""
