"""What the keys of a cache vote for each class, on many images and for many widths of their neighbourhood."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from edgeproof_train.heads.evidence import Rows

BLOCK_AFFINITIES = 1 << 20
"""Affinities of one block of images, 4 MB; two arrays of this size are held."""


class ClassVotes:
    """Votes `c_k = sum over the keys x of class k of exp(-beta (1 - e.x))`.

    Keys are put into rounds: the first of each class, the second of each class that has two, and so on, with
    the classes of most keys first. A round is a block of neighbouring columns, so that the sum over the keys
    of a class is a few additions of whole blocks, however many keys each class has.

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

    def of(self, features_MD: np.ndarray, beta: float) -> np.ndarray:
        """Return the votes (M, K), float32, of unit features."""
        votes = np.empty((len(features_MD), len(self.place)), np.float32)
        for part, blocks in self.of_blocks(features_MD, (beta,), 1):
            votes[part] = next(blocks)
        return votes

    def of_blocks(
        self, features_MD: np.ndarray, betas: tuple[float, ...], doublings: int
    ) -> Iterator[tuple[slice, Iterator[np.ndarray]]]:
        """Yield which images, and their votes (B, K) for each beta, twice each beta, four times each ...

        The exponential is taken once for each of `betas`; that of a doubled beta is its square.
        """
        step = max(1, BLOCK_AFFINITIES // len(self.keys))
        for start in range(0, len(features_MD), step):
            part = slice(start, start + step)
            yield part, self._votes(features_MD[part] @ self.keys.T, betas, doublings)

    def _votes(self, near_BN: np.ndarray, betas: tuple[float, ...], doublings: int) -> Iterator[np.ndarray]:
        near_BN -= np.float32(1)
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
        return sums[:, self.place]
