"""Is a difference in accuracy on the same images more than chance?"""

from __future__ import annotations

from math import comb

import numpy as np

RESAMPLES = 10_000


def mcnemar_p(only_reference: int, only_candidate: int) -> float:
    """Return the two-sided exact p of McNemar's test (Psychometrika 12, 1947).

    Under the null hypothesis each image that only one of the two gets right is a fair coin:
    `p = 2 P(X <= min(b, c))`, X binomial(b + c, 1/2), at most 1.

    Args:
        only_reference: images that only the reference gets right.
        only_candidate: images that only the candidate gets right.
    """
    n, fewer = only_reference + only_candidate, min(only_reference, only_candidate)
    tail = sum(comb(n, k) for k in range(fewer + 1))
    return min(1.0, 2 * tail / 2**n)


def difference_interval(
    reference_right: np.ndarray, candidate_right: np.ndarray, seed: int = 0
) -> tuple[float, float]:
    """Return the 95 % bootstrap interval of accuracy(candidate) - accuracy(reference) over paired images.

    Args:
        reference_right: bool (N,), whether the reference is right.
        candidate_right: the same of the candidate.
        seed: of the resampling.
    """
    n = len(reference_right)
    better = int((candidate_right & ~reference_right).sum())
    worse = int((reference_right & ~candidate_right).sum())
    # Drawing N images with replacement and counting three outcomes is one multinomial draw.
    shares = np.array([better, worse, n - better - worse]) / n
    drawn = np.random.default_rng(seed).multinomial(n, shares, size=RESAMPLES)
    low, high = np.percentile((drawn[:, 0] - drawn[:, 1]) / n, [2.5, 97.5])
    return float(low), float(high)
