"""What the keys of a cache vote for each class, on many images and for many widths of their neighbourhood."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from edgeproof_train.heads.evidence import Rows

BLOCK_AFFINITIES = 1 << 22
"""Affinities of one block of images, 16 MB: as many as make one product of matrices worth its while."""
RAISED_AFFINITIES = 1 << 20
"""Those that are raised to a power at a time, 4 MB, so that they stay in the cache of the processor."""


class ClassVotes:
    """Votes `c_k = sum over the keys x of class k of exp(-beta (1 - e.x))`.

    Keys are put into rounds: the first of each class, the second of each class that has two, and so on, with
    the classes of most keys first. A round is a block of neighbouring columns, so that the sum over the keys
    of a class is a few additions of whole blocks, however many keys each class has.

    All is done by one thread but the products of matrices: several threads may ask for votes side by side.

    Args:
        keys: unit features (N, D) and their classes.
        classes: K; each has a key.
    """

    def __init__(self, keys: Rows, classes: int):
        counts = np.bincount(keys.labels, minlength=classes)
        by_count = np.argsort(-counts, kind="stable")
        self.place = np.empty(classes, np.int64)
        self.place[by_count] = np.arange(classes)
        by_class = np.argsort(keys.labels, kind="stable")
        first = np.concatenate([[0], np.cumsum(counts)[:-1]])
        rank = np.empty(len(by_class), np.int64)
        rank[by_class] = np.arange(len(by_class)) - first[keys.labels[by_class]]
        order = np.lexsort([self.place[keys.labels], rank])
        self.keys = np.ascontiguousarray(keys.features[order])
        self.rounds = [int((counts > number).sum()) for number in range(int(counts.max()))]

    def parts(self, count: int) -> list[slice]:
        """Return so many images in blocks of bounded memory."""
        step = max(1, BLOCK_AFFINITIES // len(self.keys))
        return [slice(start, start + step) for start in range(0, count, step)]

    def of(self, features_MD: np.ndarray, beta: float) -> np.ndarray:
        """Return the votes (M, K), float32, of unit features."""
        return self.of_each(features_MD, (beta,))[0]

    def of_each(self, features_MD: np.ndarray, betas: tuple[float, ...]) -> np.ndarray:
        """Return the votes for each of W beta, (W, M, K) float32."""
        votes = np.empty((len(betas), len(features_MD), len(self.place)), np.float32)
        for part, found in self.on_grid(features_MD, betas, 1):
            for row, some in enumerate(found):
                votes[row, part] = some
        return votes

    def on_grid(
        self, features_MD: np.ndarray, betas: tuple[float, ...], doublings: int
    ) -> Iterator[tuple[slice, Iterator[np.ndarray]]]:
        """Yield places of blocks of images, and for each block an iterator over its votes (B, K).

        These are votes for each beta, followed by those for twice, four times ... of it. The exponential is
        taken once for each of `betas`; that of a doubled beta is its square.
        """
        few = max(1, RAISED_AFFINITIES // len(self.keys))
        for block in self.parts(len(features_MD)):
            near = features_MD[block] @ self.keys.T
            near -= np.float32(1)
            for first in range(0, len(near), few):
                some = near[first : first + few]
                start = block.start + first
                yield slice(start, start + len(some)), self._raised(some, betas, doublings)

    def _raised(self, near_BN: np.ndarray, betas: tuple[float, ...], doublings: int) -> Iterator[np.ndarray]:
        for beta in betas:
            votes = near_BN * np.float32(beta)
            np.exp(votes, out=votes)
            for number in range(doublings):
                if number:
                    np.multiply(votes, votes, out=votes)
                yield self._summed(votes)

    def _summed(self, votes_BN: np.ndarray) -> np.ndarray:
        sums = np.zeros((len(votes_BN), len(self.place)), np.float32)
        start = 0
        for count in self.rounds:
            sums[:, :count] += votes_BN[:, start : start + count]
            start += count
        return np.take(sums, self.place, axis=1)
