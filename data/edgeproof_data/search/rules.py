"""Which of the images that a search found are kept: no twins, so many of each class, balance."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edgeproof_data.alike import Vectors, alike_pairs, firsts_only
from edgeproof_data.search.exact import Floor, Matches

OVERFETCH = 3
"""So many times the images that are wanted are looked at where twins are taken out of them."""


@dataclass(frozen=True)
class Rules:
    """What is asked of a set of found images.

    Attributes:
        per_prompt: how many images of each prompt at most.
        floor: what each image must reach.
        alike: cosine from which two images count as the same, of which the better one stays; None: all stay.
        balance: no prompt has more than so many times the images of the one with fewest (that has any).
    """

    per_prompt: int
    floor: Floor
    alike: float | None = None
    balance: float | None = None

    @property
    def candidates(self) -> int:
        """How many images of each prompt have to be found."""
        return self.per_prompt * (1 if self.alike is None else OVERFETCH)


@dataclass(frozen=True)
class Choice:
    """What is kept, the best first for each query, and how many matches each rule took out."""

    kept: Matches
    alike: int
    over_cap: int
    over_balance: int


def choose(
    found: Matches,
    names: Sequence[str],
    vectors: Vectors,
    rules: Rules,
    before: NDArray[np.int64] | None = None,
) -> Choice:
    """Return the matches that the rules leave, ordered by query, then score, then name.

    Args:
        found: matches that reach the floor.
        names: of the images of the whole collection, all different.
        vectors: the collection.
        rules: which stay.
        before: rows that were taken earlier, of which no twin is taken; none of them is among the matches.
    """
    ordered = _by_score(found, names)
    twins = 0
    if rules.alike is not None and len(ordered):
        known = np.zeros(0, np.int64) if before is None else before
        stays = _no_twins(vectors, known, ordered.rows, rules.alike)
        twins = int((~stays).sum())
        ordered = ordered.take(stays)
    capped = ordered.take(_within(ordered.queries, rules.per_prompt))
    balanced = capped
    if rules.balance is not None and len(capped):
        fewest = min(Counter(capped.queries.tolist()).values())
        balanced = capped.take(_within(capped.queries, max(1, int(fewest * rules.balance))))
    kept = balanced.take(np.argsort(balanced.queries, kind="stable"))
    return Choice(kept, twins, len(ordered) - len(capped), len(capped) - len(balanced))


def _no_twins(
    vectors: Vectors, known: NDArray[np.int64], rows: NDArray[np.int64], alike: float
) -> NDArray[np.bool_]:
    """Return which rows (M,) are alike neither to a known one nor to an earlier one that stays."""
    stays = np.ones(len(rows), bool)
    if len(known):
        both = _Chosen(vectors, np.concatenate([known, rows]))
        for first, second, _ in alike_pairs(both, alike):
            stays[second[(first < len(known)) & (second >= len(known))] - len(known)] = False
    fresh = np.flatnonzero(stays)
    stays[fresh] = firsts_only(_Chosen(vectors, rows[fresh]), alike)
    return stays


def _by_score(found: Matches, names: Sequence[str]) -> Matches:
    rows = found.rows.tolist()
    order = sorted(range(len(rows)), key=lambda place: (-found.scores[place], names[rows[place]]))
    return found.take(np.array(order, np.int64))


def _within(queries: NDArray[np.int64], most: int) -> NDArray[np.bool_]:
    """Return which matches are among the first `most` of their query."""
    seen: Counter[int] = Counter()
    keep = np.zeros(len(queries), bool)
    for place, query in enumerate(queries.tolist()):
        keep[place] = seen[query] < most
        seen[query] += 1
    return keep


@dataclass(frozen=True)
class _Chosen:
    """Some rows of a collection, in an order of their own."""

    vectors: Vectors
    chosen: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.chosen)

    def rows(self, indices: object, /) -> NDArray[np.float32]:
        return self.vectors.rows(self.chosen[np.asarray(indices, np.int64)])
