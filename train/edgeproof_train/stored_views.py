"""A teacher's stored embeddings of single views, pooled to those of objects when they are read."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from edgeproof_data.cache import EmbeddingCache
from edgeproof_data.objects import ObjectSet, single_images
from edgeproof_data.sets import ImageSet
from edgeproof_train.teacher import Teacher

BLOCK = 4096
"""Views that are read at a time."""


@dataclass(frozen=True)
class StoredViews:
    """Where the views of some objects lie in a cache; a photo is an object with one view.

    Attributes:
        cache: raw embeddings of single views.
        rows: (n,) int64, row of each view in it, object by object.
        starts: (N + 1,) int64, where each object's views begin in `rows`.
    """

    cache: EmbeddingCache
    rows: np.ndarray
    starts: np.ndarray

    @classmethod
    def of(cls, cache: EmbeddingCache, images: ImageSet) -> StoredViews:
        """Return where these objects or photos lie.

        Raises:
            DataError: the cache lacks one of them.
        """
        of_each = (
            [len(files) for files in images.views] if isinstance(images, ObjectSet) else [1] * len(images)
        )
        starts = np.concatenate([[0], np.cumsum(of_each, dtype=np.int64)])
        return cls(cache, cache.find(single_images(images)), starts.astype(np.int64))

    def pooled(self, teacher: Teacher, index: np.ndarray, views: np.ndarray | None = None) -> np.ndarray:
        """Return the pooled embeddings (B, D), float32, of objects at some positions.

        Args:
            teacher: says how views are pooled.
            index: (B,) positions.
            views: (B, V) which of its views are pooled; None pools all of each.
        """
        if views is not None:
            return self._pooled(teacher, self.starts[index][:, None] + views)
        found = np.empty((len(index), teacher.embedding_dim), np.float32)
        counts = (self.starts[1:] - self.starts[:-1])[index]
        for count in np.unique(counts).tolist():
            alike = np.flatnonzero(counts == count)
            at_once = max(1, BLOCK // count)
            for start in range(0, len(alike), at_once):
                some = alike[start : start + at_once]
                found[some] = self._pooled(teacher, self.starts[index[some]][:, None] + np.arange(count))
        return found

    def _pooled(self, teacher: Teacher, places: np.ndarray) -> np.ndarray:
        raw = self.cache.rows(self.rows[places.ravel()], raw=True).reshape(*places.shape, -1)
        return pooled_by(teacher, torch.from_numpy(raw).to(teacher.device)).cpu().numpy()


def pooled_by(teacher: Teacher, views_BVD: Tensor) -> Tensor:
    """Return the embeddings (B, D) of objects; of several teachers each part is pooled by itself."""
    with torch.no_grad():
        if not teacher.parts:
            return teacher.pool_views(views_BVD)
        parts = views_BVD.split(list(teacher.parts), dim=-1)
        return torch.cat([teacher.pool_views(part) for part in parts], dim=-1)
