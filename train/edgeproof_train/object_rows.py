"""Embeddings of objects by how many of their views are seen, each view being encoded once."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from edgeproof_configs.files import atomic_open, digest_of
from edgeproof_data.cache import EmbeddingCache
from edgeproof_data.objects import ObjectSet, evenly
from edgeproof_train.embeddings import embed_images, run_over
from edgeproof_train.stored_views import StoredViews
from edgeproof_train.student import Student
from edgeproof_train.teacher import Teacher

POOLED_AT_ONCE = 1024
"""Objects whose views are pooled in one call."""


class StudentRows:
    """What a student gives of objects that are shown with different numbers of views.

    A student that pools late encodes each view once, and its features are kept; another one has to look at
    the views of an object together, each time that their number changes.
    """

    def __init__(self, student: Student, device: str = "cpu", folder: Path | None = None):
        """Take a student.

        Args:
            student: of kind `multi_view` or another that looks at views.
            device: where it runs.
            folder: where features are kept for another time; nowhere if not given.
        """
        self.student, self.device, self.folder = student, device, folder
        self._features: dict[str, np.ndarray] = {}

    def __call__(self, name: str, objects: ObjectSet, views: int | None = None) -> np.ndarray:
        """Return the embeddings (M, D), float32, of objects.

        Args:
            name: what these objects are called, another name for others; begins the file's in `folder`.
            objects: M of them.
            views: how many of each are seen, evenly spaced; as many as are shown if not given.

        Raises:
            ValueError: an object has fewer.
        """
        shown = objects if views is None else objects.showing(views)
        if not self.student.pools_late:
            return embed_images(
                self.student, shown, device=self.device, label=f"{name}, {shown.view_count} views"
            )
        return self._pooled(self.features(name, objects)[shown.shown_rows()])

    def features(self, name: str, objects: ObjectSet) -> np.ndarray:
        """Return the features (N, F), float32, of all views of objects, in the order of `view_images`."""
        if name in self._features:
            return self._features[name]
        file = None if self.folder is None else self.folder / f"{name}-{digest_of_views(objects)}.npy"
        if file is not None and file.exists():
            found = np.load(file)
        else:
            encode, images = self.student.encode_views, objects.view_images()
            label = f"{name}, each view once"
            found = run_over(self.student, encode, images, device=self.device, label=label)
            if file is not None:
                with atomic_open(file) as handle:
                    np.save(handle, found)
        self._features[name] = found
        return found

    def _pooled(self, features_MVF: np.ndarray) -> np.ndarray:
        self.student.to(self.device).eval()
        rows = []
        with torch.inference_mode():
            for start in range(0, len(features_MVF), POOLED_AT_ONCE):
                some = torch.from_numpy(features_MVF[start : start + POOLED_AT_ONCE]).to(self.device)
                rows.append(self.student.pool_views(some).embedding.float().cpu().numpy())
        return np.concatenate(rows)


def digest_of_views(objects: ObjectSet) -> str:
    """Return a short digest of which files the views are, and of their sizes and times."""
    images = objects.view_images()
    seen = [(path, (objects.root / path).stat()) for path in images.paths]
    return digest_of([(path, stat.st_size, stat.st_mtime_ns) for path, stat in seen])[:16]


class TeacherRows:
    """What a teacher gives of the same objects, from its stored embeddings of each view."""

    def __init__(self, teacher: Teacher, cache: Callable[[str], EmbeddingCache]):
        """Take a teacher and where its embeddings lie.

        Args:
            teacher: says how views are pooled.
            cache: from the name of some objects to the embeddings of their views.
        """
        self.teacher, self.cache = teacher, cache

    def __call__(self, name: str, objects: ObjectSet, views: int | None = None) -> np.ndarray:
        """Return the embeddings (M, D), float32; arguments as for `StudentRows`, but None means all views.

        Of several teachers it is the part of the one in whose space the student lives.
        """
        cache = self.cache(name)
        chosen = None
        if views is not None:
            chosen = np.stack([evenly(len(files), views) for files in objects.views])
        rows = StoredViews.of(cache, objects).pooled(self.teacher, np.arange(len(objects)), chosen)
        return rows[:, : cache.key.teacher.get("lead_dim")]
