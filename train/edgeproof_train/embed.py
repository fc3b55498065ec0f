"""The teacher's outputs for a list of images, packed into an embedding cache.

Only rows that the cache does not have are computed, so a killed run loses at most a part. Under `torchrun`
every process embeds its own parts and rank 0 joins them; the processes meet through the files, not through a
network.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from edgeproof_configs.errors import EdgeproofError
from edgeproof_configs.progress import progress
from edgeproof_data.cache import CacheKey, CacheWriter, EmbeddingCache, TopK, TopKRows
from edgeproof_data.sets import ImageSet
from edgeproof_data.views import View
from edgeproof_deploy.runtime.preprocess import Preprocess
from edgeproof_train.embed_reader import ReadBatch, read_batches
from edgeproof_train.supervision import renormalise
from edgeproof_train.teacher import Teacher
from edgeproof_train.top_targets import largest

Precision = Literal["fp32", "bf16", "fp16"]
Embedded = tuple[np.ndarray, np.ndarray | TopK, list[str] | None]
"""Positions (n,), embeddings (n, D) float32 or the largest of n class probabilities, hashes or None."""
Outputs = Tensor | tuple[Tensor, Tensor]
"""Embeddings (B, D), or probabilities and classes, (B, k) each; still on the teacher's device."""

LEAST_COSINE = 0.9999
STORED_BATCH = 4096


def embed_split(
    teacher: Teacher,
    images: ImageSet,
    folder: Path,
    *,
    batch_size: int,
    workers: int,
    precision: Precision = "fp32",
    view: View | None = None,
    top_k: int | None = None,
    known: Path | None = None,
) -> EmbeddingCache:
    """Return a cache with the embedding of every image, computing what is missing.

    Args:
        teacher: live, or with stored embeddings, which are packed as they are.
        images: readable images; those that are not have been taken out before.
        folder: of the cache.
        batch_size: images a forward pass.
        workers: processes that decode images; 0 decodes in this one.
        precision: of the teacher's arithmetic on CUDA; the CPU always computes in fp32.
        view: embed this view of the images, as the student will see it, in place of the fixed one.
        top_k: store only so many of the largest probabilities of a teacher that gives class scores.
        known: of another cache, whose rows are taken where they are what would be computed.

    Raises:
        DataError: an image cannot be read, stored embeddings lack some, or one is zero or not finite.
        EdgeproofError: the disk is full or another process stopped.
    """
    rank, world = int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1"))
    precision = precision if teacher.device.type == "cuda" else "fp32"
    key = cache_key(teacher, precision, view, top_k)
    writer = CacheWriter(folder, key, images, teacher.embedding_dim, rank, world, known)
    pending = writer.pending()
    if len(pending):
        label = f"embed {folder.name}" + (f", process {rank} of {world}" if world > 1 else "")
        with progress(label, len(pending), "images") as shown:
            for batch in embed(teacher, images, pending, batch_size, workers, precision, view, top_k):
                writer.add(*batch)
                shown.advance(len(batch[0]))
    return writer.finish()


def cache_key(
    teacher: Teacher, precision: Precision = "fp32", view: View | None = None, top_k: int | None = None
) -> CacheKey:
    """Return what a teacher's embeddings depend on, beside the images."""
    identity = teacher.identity() | ({} if precision == "fp32" else {"precision": precision})
    preprocess = None if teacher.preprocess is None else teacher.preprocess.to_dict()
    seen = "none" if view is None else view.identity()
    if top_k is None:
        return CacheKey(identity, preprocess, seen)
    output = TopKRows(top_k, teacher.embedding_dim).output()
    return CacheKey(identity, preprocess, seen, output, normalised=False)


def embed(
    teacher: Teacher,
    images: ImageSet,
    indices: np.ndarray,
    batch_size: int,
    workers: int,
    precision: Precision = "fp32",
    view: View | None = None,
    top_k: int | None = None,
) -> Iterator[Embedded]:
    """Yield the embeddings of the images at some positions, in order, in batches."""
    if top_k is not None and not teacher.class_scores:
        raise ValueError("only class scores have largest probabilities")
    if teacher.live:
        pinned = teacher.device.type == "cuda"
        assert teacher.preprocess is not None
        if view is not None:
            batches = view_batches(view, indices, teacher.preprocess, batch_size)
        else:
            batches = read_batches(images, indices, teacher.preprocess, batch_size, workers, pinned)
        yield from _live(teacher, batches, precision, top_k)
        return
    chosen = images.subset(indices)
    read = teacher.stored_reader(chosen)
    for start in range(0, len(chosen), STORED_BATCH):
        rows = np.arange(start, min(start + STORED_BATCH, len(chosen)))
        yield indices[rows], read(rows), None


def verify_cache(
    cache: EmbeddingCache, teacher: Teacher, images: ImageSet, sample: int = 64, seed: int = 0
) -> dict[str, Any]:
    """Compute a sample of rows again and compare.

    Returns:
        `sample` (rows compared), `cosine_min`, `norm_error_max` (relative) and `images_per_second`.

    Raises:
        EdgeproofError: a cosine is at most .9999: the cache is not of this teacher and these images.
    """
    generator = np.random.default_rng(seed)
    chosen = np.sort(generator.choice(len(images), min(sample, len(images)), replace=False))
    stored = cache.rows(cache.find(images.subset(chosen)), raw=True).astype(np.float64)
    started = time.perf_counter()
    precision = cache.key.teacher.get("precision", "fp32")
    found = embed(teacher, images, chosen, 32, 0, precision)
    blocks = [rows for _, rows, _ in found if isinstance(rows, np.ndarray)]
    seconds = time.perf_counter() - started
    again = np.concatenate(blocks).astype(np.float64)
    norms, again_norms = np.linalg.norm(stored, axis=1), np.linalg.norm(again, axis=1)
    cosine = (stored * again).sum(axis=1) / (norms * again_norms)
    if not cosine.min() > LEAST_COSINE:
        worst = images.paths[chosen[int(cosine.argmin())]]
        raise EdgeproofError(
            f"the cache does not agree with the teacher: cosine {cosine.min():.6f} for {worst}",
            where=cache.folder,
            fix="delete this folder and run the stage `embed` again",
        )
    return {
        "sample": len(chosen),
        "cosine_min": round(float(cosine.min()), 7),
        "norm_error_max": round(float(np.abs(norms / again_norms - 1).max()), 7),
        "images_per_second": round(len(chosen) / seconds, 1),
    }


def view_batches(view: View, indices: np.ndarray, wanted: Preprocess, batch_size: int) -> Iterator[ReadBatch]:
    """Yield a view of the images at some positions, in order, as the teacher takes its images."""
    for chosen, planes in view.batches(indices, batch_size):
        yield ReadBatch(chosen, renormalise(torch.from_numpy(planes), view.preprocess, wanted), None, [])


def _live(
    teacher: Teacher, batches: Iterator[ReadBatch], precision: Precision, top_k: int | None
) -> Iterator[Embedded]:
    """Run the teacher a batch ahead of what is fetched: an accelerator does not wait for the writer."""
    waiting: tuple[np.ndarray, Outputs, list[str] | None] | None = None
    for batch in batches:
        with _autocast(teacher.device, precision):
            found = _encode(teacher, batch.image)
        made = found if top_k is None else largest(found, top_k)
        if waiting is not None:
            yield _fetched(*waiting)
        waiting = batch.indices, made, batch.hashes
    if waiting is not None:
        yield _fetched(*waiting)


def _encode(teacher: Teacher, image: Tensor) -> Tensor:
    """Return embeddings (B, D); a batch that does not fit into the accelerator's memory is halved."""
    try:
        return teacher.encode_image(image)
    except torch.OutOfMemoryError:
        if len(image) == 1:
            raise
    half = len(image) // 2
    return torch.cat([_encode(teacher, image[:half]), _encode(teacher, image[half:])])


def _fetched(indices: np.ndarray, made: Outputs, hashes: list[str] | None) -> Embedded:
    if isinstance(made, Tensor):
        return indices, made.cpu().numpy(), hashes
    values, ids = (part.cpu().numpy() for part in made)
    return indices, TopK(values, ids), hashes


def _autocast(device: torch.device, precision: Precision) -> AbstractContextManager[Any]:
    if precision == "fp32" or device.type != "cuda":
        return nullcontext()
    return torch.autocast(device.type, torch.bfloat16 if precision == "bf16" else torch.float16)
