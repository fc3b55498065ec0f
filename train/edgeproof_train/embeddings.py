"""Running a student over a set of images."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

import numpy as np
import torch
from torch import Tensor

from edgeproof_configs.progress import progress
from edgeproof_data.loader import eval_batches
from edgeproof_data.objects import ObjectSet
from edgeproof_data.sets import ImageSet
from edgeproof_train.student import Student


def embed_images(
    student: Student,
    images: ImageSet,
    *,
    batch_size: int = 64,
    workers: int = 0,
    device: str = "cpu",
    label: str | None = None,
) -> np.ndarray:
    """Return the student's embeddings (N, D), float32, not normalised, in the order of the images.

    Args:
        student: is put into eval mode for the time of the call.
        images: N images, or objects with their views.
        batch_size: images, or views, at a time.
        workers: threads that decode ahead.
        device: where the student runs.
        label: name of the work on a progress line; none is shown without it, as inside a training.
    """

    def embedding(image: Tensor) -> Tensor:
        return student(image).embedding

    return run_over(student, embedding, images, batch_size, workers, device, label)


def pooled_features(
    student: Student,
    images: ImageSet,
    *,
    batch_size: int = 64,
    workers: int = 0,
    device: str = "cpu",
    label: str | None = "features",
) -> np.ndarray:
    """Return what the student's head sees (N, F), float32; arguments as for `embed_images`."""
    return run_over(student, student.pooled, images, batch_size, workers, device, label)


def run_over(
    student: Student,
    function: Callable[[Tensor], Tensor],
    images: ImageSet,
    batch_size: int = 64,
    workers: int = 0,
    device: str = "cpu",
    label: str | None = None,
) -> np.ndarray:
    """Return what a function of the student gives for images, (N, F) float32, as `embed_images` does."""
    was_training = student.training
    student.to(device).eval()
    rows: list[np.ndarray] = []
    if isinstance(images, ObjectSet) and len(images):
        batch_size = max(batch_size // images.view_count, 1)
    batches: Any = eval_batches(images, student.preprocess, batch_size=batch_size, workers=workers)
    what = "objects" if isinstance(images, ObjectSet) else "images"
    showing = progress(label, len(images), what) if label else nullcontext()
    with torch.inference_mode(), showing as shown:
        for batch in batches:
            image = laid_out(batch["image"], device)
            rows.append(function(image).float().cpu().numpy())
            if shown:
                shown.advance(len(image))
    student.train(was_training)
    return np.concatenate(rows)


def laid_out(image: Tensor, device: str) -> Tensor:
    """Return images (B, 3, H, W) on a device with their channels last in memory; views as they are."""
    layout = torch.channels_last if image.ndim == 4 else torch.preserve_format
    return image.to(device, memory_format=layout)
