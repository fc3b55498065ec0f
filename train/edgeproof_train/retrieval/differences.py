"""Is a difference in retrieval on the same queries more than chance?"""

from __future__ import annotations

import numpy as np

RESAMPLES = 10_000
DRAWS_AT_ONCE = 1_000_000


def difference_of(reference_Q: np.ndarray, candidate_Q: np.ndarray, seed: int = 0) -> dict[str, float]:
    """Return the mean difference of a measure over paired queries, and its 95 % bootstrap interval.

    Queries are drawn again with replacement, each with what both models made of it; the gallery stays. The
    interval is that of the percentiles.

    Args:
        reference_Q: (Q,) of the reference, such as average precisions; NaN where a query does not count.
        candidate_Q: (Q,) of the candidate, NaN for the same queries.
        seed: of the resampling.

    Returns:
        `delta` (candidate less reference), `low`, `high`.

    Raises:
        ValueError: the queries are not the same, or none counts.
    """
    reference, candidate = np.asarray(reference_Q, np.float64), np.asarray(candidate_Q, np.float64)
    if reference.shape != candidate.shape or (np.isnan(reference) != np.isnan(candidate)).any():
        raise ValueError("expected the same queries of both, and the same of them counted")
    difference = (candidate - reference)[~np.isnan(reference)]
    if not len(difference):
        raise ValueError("no query counts: there is no difference")
    random = np.random.default_rng(seed)
    at_once = max(1, DRAWS_AT_ONCE // len(difference))
    means = []
    for start in range(0, RESAMPLES, at_once):
        count = min(at_once, RESAMPLES - start)
        drawn = random.integers(0, len(difference), (count, len(difference)))
        means.append(difference[drawn].mean(axis=1))
    low, high = np.percentile(np.concatenate(means), [2.5, 97.5])
    return {"delta": float(difference.mean()), "low": float(low), "high": float(high)}
