"""Running a student over a set of images."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from edgeproof_configs.progress import progress
from edgeproof_data.loader import eval_batches
from edgeproof_data.sets import ImageSet
from edgeproof_train.student import Student


def embed_images(
    student: Student, images: ImageSet, *, batch_size: int = 64, workers: int = 0, device: str = "cpu"
) -> np.ndarray:
    """Return the student's embeddings (N, D), float32, not normalised, in the order of the images."""

    def embedding(image: Tensor) -> Tensor:
        return student(image).embedding

    return _over(student, embedding, images, batch_size, workers, device)


def pooled_features(
    student: Student, images: ImageSet, *, batch_size: int = 64, workers: int = 0, device: str = "cpu"
) -> np.ndarray:
    """Return what the student's head sees (N, F), float32, in the order of the images."""
    return _over(student, student.pooled, images, batch_size, workers, device)


def _over(
    student: Student,
    function: Callable[[Tensor], Tensor],
    images: ImageSet,
    batch_size: int,
    workers: int,
    device: str,
) -> np.ndarray:
    was_training = student.training
    student.to(device).eval()
    rows: list[np.ndarray] = []
    batches: Any = eval_batches(images, student.preprocess, batch_size=batch_size, workers=workers)
    with torch.inference_mode(), progress("embed", len(images), "images") as shown:
        for batch in batches:
            image = batch["image"].to(device, memory_format=torch.channels_last)
            rows.append(function(image).float().cpu().numpy())
            shown.advance(len(image))
    student.train(was_training)
    return np.concatenate(rows)
