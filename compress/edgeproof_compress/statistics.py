"""Statistics of batch norms, estimated anew after weights were changed without training."""

from __future__ import annotations

import torch
from torch import nn

from edgeproof_data.loader import eval_batches
from edgeproof_data.sets import ImageSet
from edgeproof_train.student import Student

BATCH = 64


def estimate_statistics(student: Student, images: ImageSet, device: str) -> bool:
    """Set every batch norm's mean and variance to what images give, and return whether there is one.

    Pruned layers give other outputs than the statistics were taken of; estimating these anew restores much of
    what pruning costs, without any training (EagleEye, arXiv 2007.02491). Each value is the average over
    batches of 64 images.

    Args:
        student: is changed, and left in eval mode.
        images: training images, as they are shown in evaluation.
        device: where the student runs; it is left there.
    """
    norms = [
        module
        for module in student.modules()
        if isinstance(module, nn.modules.batchnorm._BatchNorm) and module.track_running_stats
    ]
    if not norms:
        return False
    student.to(device).eval()
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None
        norm.train()
    with torch.no_grad():
        for batch in eval_batches(images, student.preprocess, batch_size=BATCH):
            student(batch["image"].to(device))
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
    student.eval()
    return True
