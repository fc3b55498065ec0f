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

    def parts(self, count: int) -> list[slice]:
        """Return so many images in blocks of bounded memory."""
        step = max(1, BLOCK_AFFINITIES // len(self.keys))
        return [slice(start, start + step) for start in range(0, count, step)]

    def of(self, features_MD: np.ndarray, beta: float) -> np.ndarray:
        """Return the votes (M, K), float32, of unit features."""
        votes = np.empty((len(features_MD), len(self.place)), np.float32)
        for part in self.parts(len(features_MD)):
            votes[part] = next(self.of_block(features_MD[part], (beta,), 1))
        return votes

    def of_block(
        self, features_BD: np.ndarray, betas: tuple[float, ...], doublings: int
    ) -> Iterator[np.ndarray]:
        """Yield the votes (B, K) for each beta, followed by those for twice, four times ... of it.

        The exponential is taken once for each of `betas`; that of a doubled beta is its square.
        """
        near = features_BD @ self.keys.T
        near -= np.float32(1)
        for beta in betas:
            votes = near * np.float32(beta)
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
