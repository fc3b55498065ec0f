"""What the keys of a cache vote for each class, on many images and for many widths of their neighbourhood."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import groupby

import numpy as np
import torch

from edgeproof_train.heads.evidence import Rows

BLOCK_AFFINITIES = 1 << 22
"""Affinities of one block of images, 16 MB: as many as make one product of matrices worth its while."""
RAISED_AFFINITIES = 1 << 20
"""Those that are raised to a power at a time, 4 MB, so that they stay in the cache of the processor."""


class ClassVotes:
    """Votes `c_k = sum over the keys x of class k of exp(-beta (1 - e.x))`.

    Keys are put into rounds: the first of each class, the second of each class that has two, and so on, with
    the classes of most keys first. A round is a block of neighbouring columns, so that the sum over the keys
    of a class is one of whole blocks, for all rounds of equally many classes at once.

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
        self.keys = torch.from_numpy(keys.features[order])
        self.columns = torch.from_numpy(self.place)
        sizes = [int((counts > number).sum()) for number in range(int(counts.max()))]
        self.rounds = [(len(list(same)), size) for size, same in groupby(sizes)]

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
        step, few = (max(1, most // len(self.keys)) for most in (BLOCK_AFFINITIES, RAISED_AFFINITIES))
        for start in range(0, len(features_MD), step):
            near = torch.from_numpy(features_MD[start : start + step]) @ self.keys.T
            near -= 1
            for first in range(0, len(near), few):
                some = near[first : first + few]
                part = slice(start + first, start + first + len(some))
                yield part, self._raised(some, betas, doublings)

    def _raised(
        self, near_BN: torch.Tensor, betas: tuple[float, ...], doublings: int
    ) -> Iterator[np.ndarray]:
        for beta in betas:
            votes = torch.exp_(near_BN * beta)
            for number in range(doublings):
                if number:
                    votes.square_()
                yield self._summed(votes).numpy()

    def _summed(self, votes_BN: torch.Tensor) -> torch.Tensor:
        sums = votes_BN.new_zeros(len(votes_BN), len(self.place))
        start = 0
        for rounds, count in self.rounds:
            end = start + rounds * count
            sums[:, :count] += votes_BN[:, start:end].unflatten(1, (rounds, count)).sum(dim=1)
            start = end
        return sums.index_select(1, self.columns)
