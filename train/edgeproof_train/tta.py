"""Ten views of each image instead of one, for evaluation."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import replace
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor
from torchvision.transforms.v2.functional import ten_crop

from edgeproof_configs.progress import progress
from edgeproof_data.loader import eval_batches
from edgeproof_data.sets import ImageSet
from edgeproof_deploy.runtime.preprocess import Preprocess
from edgeproof_train.student import Student

Tta = Literal["tencrop_logits", "tencrop_probs", "tencrop_embeddings"]
ENLARGED = 1.1
"""Side of the square that the crops are cut from, as a multiple of the side that the student sees."""


def embed_images_tta(
    student: Student,
    images: ImageSet,
    *,
    tta: Tta = "tencrop_logits",
    batch_size: int = 64,
    workers: int = 0,
    device: str = "cpu",
    label: str | None = None,
) -> np.ndarray:
    """Return what the student says of ten views of each image, merged, float32 (N, D), in order.

    The views are the four corners and the middle of a square 1.1 times as large as the student's input, and
    the same of its mirror image. The square is made by the runtime's preprocessing. Figures from this belong
    into rows of their own, by the name of `tta`.

    Args:
        student: gives class scores, or embeddings for `tencrop_embeddings`; is put into eval mode for the
            time of the call.
        images: N images.
        tta: how the views are merged; see `merged`.
        batch_size: images at a time, one view after the other.
        workers: threads that decode ahead.
        device: where the student runs.
        label: name of the work on a progress line; none is shown without it.
    """
    was_training, side = student.training, student.preprocess.image_size
    student.to(device).eval()
    rows: list[np.ndarray] = []
    batches: Any = eval_batches(images, enlarged(student.preprocess), batch_size=batch_size, workers=workers)
    showing = progress(label, len(images), "images") if label else nullcontext()
    with torch.inference_mode(), showing as shown:
        for batch in batches:
            views = ten_crop(batch["image"].to(device), [side, side])
            said = [student(view.contiguous(memory_format=torch.channels_last)).embedding for view in views]
            rows.append(merged(said, tta).cpu().numpy())
            if shown:
                shown.advance(len(batch["image"]))
    student.train(was_training)
    return np.concatenate(rows)


def enlarged(preprocess: Preprocess) -> Preprocess:
    """Return the preprocessing of the square that the crops are cut from."""
    side = round(ENLARGED * preprocess.image_size)
    return replace(preprocess, image_size=side, resize_size=side)


def merged(views: Sequence[Tensor], tta: Tta) -> Tensor:
    """Return one row for each image from what a model said of its views; a single view is returned as it is.

    - `tencrop_logits`: the mean of the class scores.
    - `tencrop_probs`: the logarithm of the mean probabilities, log((1/T) sum_t softmax(z_t)), which are
      class scores again: their softmax is that mean.
    - `tencrop_embeddings`: the mean of the unit vectors, as a unit vector.

    Args:
        views: T tensors (B, D).
        tta: how to merge.
    """
    stack = torch.stack(list(views)).float()
    if len(stack) == 1:
        return stack[0]
    if tta == "tencrop_logits":
        return stack.mean(dim=0)
    if tta == "tencrop_probs":
        return stack.log_softmax(dim=-1).logsumexp(dim=0) - np.log(len(stack))
    unit = torch.nn.functional.normalize(stack, dim=-1)
    return torch.nn.functional.normalize(unit.mean(dim=0), dim=-1)
