"""How many times faster one form is than another, and whether the rounds they were measured in show it."""

from __future__ import annotations

from statistics import median

from edgeproof_benchmarks.formats import significant
from edgeproof_benchmarks.intervals import place_of_lower_end
from edgeproof_benchmarks.report_data import FormRow

AS_FAST = 1.05
"""Two forms whose latencies are not further apart than this factor are taken to be as fast."""


def ratios(row: FormRow, base: FormRow) -> list[float]:
    """Return `base` over `row` for the medians of each round at batch 1; empty without the same rounds."""
    after, before = (one.latency_ms.get(1, {}).get("rounds_p50_ms") or [] for one in (row, base))
    if len(after) != len(before) or not all(after):
        return []
    return [slow / fast for slow, fast in zip(before, after, strict=True)]


def gain(row: FormRow | None, base: FormRow | None) -> float | None:
    """Return how many times faster a form is than another at batch 1; None unless both were timed.

    It is the median of the ratios of the rounds, in which a drift of the machine meets both alike, and the
    ratio of the p50 where the rounds were not kept.
    """
    if row is None or base is None:
        return None
    if each := ratios(row, base):
        return median(each)
    after, before = row.latency("p50"), base.latency("p50")
    return before / after if before and after else None


def surely(row: FormRow | None, base: FormRow | None) -> float | None:
    """Return how many times faster a form is at least; None unless both were timed.

    It is the lower end of the interval of the sign test for the median ratio (`intervals`), which asks
    nothing of the distribution: the lowest of up to 8 rounds, the second lowest of 9, so that one disturbed
    round of nine does not hide a gain. Without rounds it is `gain`.
    """
    if row is None or base is None:
        return None
    each = sorted(ratios(row, base))
    return each[place_of_lower_end(len(each))] if each else gain(row, base)


def is_faster(row: FormRow | None, base: FormRow | None) -> bool:
    """Whether a form is faster than another by more than `AS_FAST`, and the rounds show it."""
    least = surely(row, base)
    return least is not None and least > AS_FAST


def times(ratio: float) -> str:
    """Return a ratio with as many digits as it takes to tell it from 1: `0.9`, `1.01`, `3.1`, `14`."""
    if abs(ratio - 1) <= AS_FAST - 1:
        return f"{ratio:.2f}"
    return significant(ratio, 1 if ratio < 1 else 2)


def is_in_doubt(row: FormRow, base: FormRow) -> bool:
    """Whether a form looks faster than another, but not in enough of the rounds."""
    return (gain(row, base) or 0.0) > AS_FAST and not is_faster(row, base)


def bought_nothing(row: FormRow, base: FormRow) -> str:
    """Return the words for a form that is not faster than another, as far as can be told."""
    noise = "that can be told from noise " if is_in_doubt(row, base) else ""
    return f"bought nothing {noise}here"


def over_rounds(row: FormRow, base: FormRow) -> str:
    """Return `0.9 to 1.6 over 5 rounds` where the rounds leave a gain in doubt, else nothing."""
    if not is_in_doubt(row, base):
        return ""
    each = ratios(row, base)
    return f"{times(min(each))} to {times(max(each))} over {len(each)} rounds"
