"""Is a difference in accuracy on the same images more than chance?"""

from __future__ import annotations

from math import comb

import numpy as np

RESAMPLES = 10_000
CLASS_RESAMPLES = 2_000
DRAWS_AT_ONCE = 1_000_000
Interval = tuple[float, float]


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


def difference_interval(reference_right: np.ndarray, candidate_right: np.ndarray, seed: int = 0) -> Interval:
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
    return _percentiles((drawn[:, 0] - drawn[:, 1]) / n)


def mean_interval(differences: np.ndarray, seed: int = 0) -> Interval:
    """Return the 95 % bootstrap interval of the mean of paired differences (N,)."""
    if not differences.any():
        return 0.0, 0.0
    rng, n = np.random.default_rng(seed), len(differences)
    at_once = max(1, DRAWS_AT_ONCE // n)
    drawn = [
        differences[rng.integers(0, n, (min(at_once, RESAMPLES - start), n))].mean(axis=1)
        for start in range(0, RESAMPLES, at_once)
    ]
    return _percentiles(np.concatenate(drawn))


def class_intervals(
    labels: np.ndarray,
    reference_right: np.ndarray,
    candidate_right: np.ndarray,
    hidden: np.ndarray | None = None,
    seed: int = 0,
) -> dict[str, Interval]:
    """Return 95 % bootstrap intervals of the changes of means over classes.

    Images are drawn again within their class, so that every class keeps its number of images.

    Args:
        labels: int64 (N,), the true class of each image.
        reference_right: bool (N,), whether the reference is right.
        candidate_right: the same of the candidate.
        hidden: bool (N,), whether the image's class was held out of training; None: none was.
        seed: of the resampling.

    Returns:
        `mean_per_class`; and `seen`, `unseen` and their `harmonic_mean` where there are images of both.
    """
    classes, row = np.unique(labels, return_inverse=True)
    # Images of a class differ only by who is right, so that drawing them is one multinomial draw of four.
    outcome = 2 * reference_right.astype(int) + candidate_right
    counts = np.bincount(row * 4 + outcome, minlength=4 * len(classes)).reshape(-1, 4)
    sizes = counts.sum(axis=1)
    groups = {"mean_per_class": np.ones(len(classes), bool)}
    if hidden is not None and hidden.any() and not hidden.all():
        unseen = np.zeros(len(classes), bool)
        unseen[row[hidden]] = True
        groups |= {"seen": ~unseen, "unseen": unseen}
    drawn = _drawn_means(counts, sizes, list(groups.values()), seed)
    changes = {name: drawn[:, i, 1] - drawn[:, i, 0] for i, name in enumerate(groups)}
    if "unseen" in groups:
        product, total = drawn[:, 1] * drawn[:, 2], drawn[:, 1] + drawn[:, 2]
        harmonic = np.divide(2 * product, total, out=np.zeros_like(total), where=total > 0)
        changes["harmonic_mean"] = harmonic[:, 1] - harmonic[:, 0]
    return {name: _percentiles(values) for name, values in changes.items()}


def _drawn_means(counts: np.ndarray, sizes: np.ndarray, groups: list[np.ndarray], seed: int) -> np.ndarray:
    """Return means of recall (R, groups, 2) over groups of classes, of the reference and the candidate.

    Args:
        counts: (C, 4) images of each class: both wrong, only the candidate right, only the reference, both.
        sizes: (C,) images of each class.
        groups: bool (C,) each.
        seed: of the resampling.
    """
    rng = np.random.default_rng(seed)
    at_once = max(1, DRAWS_AT_ONCE // (4 * len(counts)))
    found = []
    for start in range(0, CLASS_RESAMPLES, at_once):
        some = min(at_once, CLASS_RESAMPLES - start)
        drawn = rng.multinomial(sizes, counts / sizes[:, None], size=(some, len(counts)))
        recalls = np.stack([drawn[..., 2] + drawn[..., 3], drawn[..., 1] + drawn[..., 3]], axis=-1)
        recalls = recalls / sizes[:, None]
        found.append(np.stack([recalls[:, group].mean(axis=1) for group in groups], axis=1))
    return np.concatenate(found)


def _percentiles(values: np.ndarray) -> Interval:
    low, high = np.percentile(values, [2.5, 97.5])
    return float(low), float(high)
