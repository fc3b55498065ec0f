"""Who searches where: all classes, those of the training and those held out of it."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace

import numpy as np

from edgeproof_train.retrieval.figures import (
    NDCG_AT,
    Definition,
    query_measures,
    relevant_counts,
    retrieval_figures,
)


@dataclass(frozen=True)
class Search:
    """Queries and what they search, as `retrieval_figures` takes them.

    Attributes:
        queries: (Q, D).
        query_labels: (Q,) classes.
        gallery: (N, D).
        gallery_labels: (N,) classes; -1 where an item has none.
        own: (Q,) position of each query in the gallery; None where it is not there.
    """

    queries: np.ndarray
    query_labels: np.ndarray
    gallery: np.ndarray
    gallery_labels: np.ndarray
    own: np.ndarray | None = None

    @classmethod
    def among(cls, embeddings: np.ndarray, labels: np.ndarray) -> Search:
        """Return the search of labelled items among one another, each for the others of its class."""
        known = np.flatnonzero(np.asarray(labels) >= 0)
        rows, classes = embeddings[known], np.asarray(labels)[known]
        return cls(rows, classes, rows, classes, np.arange(len(known)))

    @property
    def answerable(self) -> int:
        """How many queries have a relevant item."""
        if not len(self.query_labels):
            return 0
        return int((relevant_counts(self.query_labels, self.gallery_labels, self.own) > 0).sum())

    def within(self, classes: np.ndarray) -> Search:
        """Return the same with queries and items of these classes alone."""
        asked, kept = np.isin(self.query_labels, classes), np.isin(self.gallery_labels, classes)
        place = np.cumsum(kept) - 1
        return Search(
            self.queries[asked],
            self.query_labels[asked],
            self.gallery[kept],
            self.gallery_labels[kept],
            None if self.own is None else place[self.own[asked]],
        )

    def asked_by(self, queries: np.ndarray) -> Search:
        """Return the same objects asking with other embeddings (Q, D), as those of fewer views."""
        return replace(self, queries=queries)

    def figures(self, definition: Definition = "standard", k: int = NDCG_AT) -> dict[str, float]:
        """Return the means of what `definition` measures."""
        return retrieval_figures(
            self.queries, self.query_labels, self.gallery, self.gallery_labels, self.own, definition, k
        )

    def measures(self, definition: Definition = "standard", k: int = NDCG_AT) -> dict[str, np.ndarray]:
        """Return what each query comes to."""
        return query_measures(
            self.queries, self.query_labels, self.gallery, self.gallery_labels, self.own, definition, k
        )


def parts_of(search: Search, class_names: Sequence[str], unseen: Collection[str]) -> dict[str, Search]:
    """Return the searches `all`, `seen` and `unseen`, of which the last two where there are both.

    Seen classes search among seen ones and unseen among unseen ones, as the published DS and DU tables
    count; in `all` every class may be mistaken for any other. A part in which no query has a relevant item
    is left out.

    Args:
        search: all of it.
        class_names: of the labels.
        unseen: names of the classes that were held out of training.
    """
    hidden = np.array([name in unseen for name in class_names], bool)
    present = np.unique(search.query_labels)
    parts = {"all": search}
    if hidden[present].any() and not hidden[present].all():
        parts["seen"] = search.within(np.flatnonzero(~hidden))
        parts["unseen"] = search.within(np.flatnonzero(hidden))
    return {name: part for name, part in parts.items() if part.answerable}
