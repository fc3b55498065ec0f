"""Where the teacher's outputs for a training batch come from: an embedding cache, or the teacher itself.

Neither is an `nn.Module`: a task that holds one does not find the teacher among its parameters, buffers or
gradients.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from edgeproof_data.cache import EmbeddingCache
from edgeproof_deploy.runtime.preprocess import Preprocess
from edgeproof_train.outputs import ABSENT, ModelOutputs, TopProbabilities
from edgeproof_train.stored_views import StoredViews, pooled_by
from edgeproof_train.taps import Taps
from edgeproof_train.teacher import Teacher

if TYPE_CHECKING:
    from edgeproof_data.loader import Batch


class Supervision(Protocol):
    """What gives a task the teacher's outputs."""

    embedding_dim: int

    def __call__(self, batch: Batch) -> ModelOutputs:
        """Return the teacher's outputs for a batch, on the device of its images, without gradient."""
        ...


class NotAsked:
    """Stands for supervision where a task is built for its shapes alone."""

    def __init__(self, embedding_dim: int):
        self.embedding_dim = embedding_dim

    def __call__(self, batch: Batch) -> ModelOutputs:
        """Refuse."""
        raise ValueError("this task was built for its shapes alone")


class CachedSupervision:
    """Rows of an embedding cache, picked by `batch["index"]`, and by `batch["view"]` where views are stored.

    Args:
        cache: the teacher's embeddings, or those of each view.
        rows: (N,) int64, the cache's row of each training image; of each view where views are stored.
        class_scores: whether they are class scores.
    """

    def __init__(
        self,
        cache: EmbeddingCache | Sequence[EmbeddingCache],
        rows: np.ndarray | Sequence[np.ndarray],
        class_scores: bool = False,
    ):
        self.caches = [cache] if isinstance(cache, EmbeddingCache) else list(cache)
        self.rows = [rows] if isinstance(rows, np.ndarray) else list(rows)
        self.class_scores = class_scores
        self.embedding_dim = self.caches[0].dim

    def __call__(self, batch: Batch) -> ModelOutputs:
        """Return raw embeddings (B, D), float32; or the largest probabilities where only those are stored."""
        view, device = batch.get("view", 0), batch["image"].device
        cache, rows = self.caches[view], self.rows[view][batch["index"].cpu().numpy()]
        if cache.top_k is not None:
            found = cache.top(rows)
            values, ids = (torch.from_numpy(part).to(device) for part in (found.probabilities, found.ids))
            return ModelOutputs(top=TopProbabilities(values, ids, cache.dim))
        embedding = torch.from_numpy(cache.rows(rows, raw=True)).to(device)
        return ModelOutputs(embedding, embedding if self.class_scores else ABSENT)


class ObjectSupervision:
    """Stored embeddings of single views, pooled to those of the objects that `batch["index"]` names.

    Positions after the last object are photos, each an object with one view.

    Args:
        teacher: says how views are pooled.
        objects: where the training objects' views lie.
        photos: where the photos lie, if there are some.
        seen: pool the views that the student sees, `batch["views"]`, and not all that an object has.
    """

    def __init__(
        self, teacher: Teacher, objects: StoredViews, photos: StoredViews | None = None, *, seen: bool = False
    ):
        self.teacher, self.objects, self.photos, self.seen = teacher, objects, photos, seen
        self.embedding_dim = teacher.embedding_dim

    def __call__(self, batch: Batch) -> ModelOutputs:
        """Return pooled embeddings (B, D), float32; class scores are logits too."""
        index = batch["index"].cpu().numpy()
        stored, shown = self.objects, batch.get("views")
        views = shown.cpu().numpy() if self.seen and shown is not None else None
        first = len(self.objects.starts) - 1
        if index[0] >= first:
            assert self.photos is not None
            stored, index = self.photos, index - first
        pooled = stored.pooled(self.teacher, index, views)
        embedding = torch.from_numpy(pooled).to(batch["image"].device)
        return ModelOutputs(embedding, embedding if self.teacher.class_scores else ABSENT)


class LiveSupervision:
    """The teacher looks at the student's views, in its own normalisation and resolution and full precision.

    Of views of objects it gives what it pools from those that the student sees.

    Args:
        teacher: a live teacher.
        seen: the preprocessing that the batches are normalised with, the student's.
        nodes: of its network, whose feature maps are wanted.
        tokens: whether its tokens are wanted.
    """

    def __init__(
        self, teacher: Teacher, seen: Preprocess, nodes: Sequence[str] = (), *, tokens: bool = False
    ):
        if teacher.preprocess is None:
            raise ValueError(f"a teacher of kind '{teacher.config.kind}' is not live")
        self.embedding_dim = teacher.embedding_dim
        self.teacher = teacher
        self.seen = seen
        self.wanted = teacher.preprocess
        self.taps = Taps(teacher.module(), nodes) if nodes else None
        self.tokens = tokens

    def __call__(self, batch: Batch) -> ModelOutputs:
        """Return raw embeddings (B, D), float32; class scores are logits too; maps of the nodes; tokens."""
        image = batch["image"]
        with torch.no_grad(), torch.autocast(image.device.type, enabled=False):
            embedding, tokens = self._of_objects(image) if image.ndim == 5 else self._of_images(image)
        logits = embedding if self.teacher.class_scores else ABSENT
        return ModelOutputs(embedding, logits, self.taps.taken() if self.taps else {}, tokens)

    def _of_images(self, image: Tensor) -> tuple[Tensor, Tensor]:
        view = renormalise(image.float(), self.seen, self.wanted)
        embedding = self.teacher.encode_image(view).to(image.device)
        return embedding, self.teacher.encode_tokens(view).to(image.device) if self.tokens else ABSENT

    def _of_objects(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """Return pooled embeddings (B, D), and tokens (B, N, D), of views (B, V, 3, H, W)."""
        shape, each = image.shape[:2], self.teacher.per_view()
        view = renormalise(image.flatten(0, 1).float(), self.seen, self.wanted)
        embedding = pooled_by(self.teacher, each.encode_image(view).unflatten(0, shape)).to(image.device)
        if not self.tokens:
            return embedding, ABSENT
        return embedding, self.teacher.object_tokens(view.unflatten(0, shape)).to(image.device)


def renormalise(image: Tensor, seen: Preprocess, wanted: Preprocess) -> Tensor:
    """Return images (B, 3, H, W), normalised with one mean and std, as another preprocessing would have them.

    The side is changed to the wanted one by antialiased bicubic resizing where it differs.
    """

    def column(values: tuple[float, float, float]) -> Tensor:
        return torch.tensor(values, dtype=image.dtype, device=image.device)[:, None, None]

    if image.shape[-1] != wanted.image_size:
        side = (wanted.image_size, wanted.image_size)
        image = F.interpolate(image, side, mode="bicubic", antialias=True)
    scale = column(seen.std) / column(wanted.std)
    shift = (column(seen.mean) - column(wanted.mean)) / column(wanted.std)
    return image * scale + shift
