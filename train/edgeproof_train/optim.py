"""What is optimised, how fast, and what is not decayed."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import torch
from torch import nn
from torch.optim import Optimizer

from edgeproof_configs.schema import TrainConfig
from edgeproof_train.task import DistillTask

MOMENTUM = 0.9

Named = Iterable[tuple[str, nn.Parameter]]


def make_optimizer(task: DistillTask, config: TrainConfig) -> Optimizer:
    """Return the optimizer of a task's student and of the trainable parts of its losses.

    The backbone's rate is `lr * backbone_lr_scale`; with a scale of 0 it is frozen. Biases and the weights of
    norms (everything with one axis) are not decayed.
    """
    groups = []
    if config.backbone_lr_scale:
        groups += split_by_decay(task.student.backbone_parameters(), config, config.backbone_lr_scale)
    else:
        for _, parameter in task.student.backbone_parameters():
            parameter.requires_grad_(False)
    rest = [*task.student.head_parameters(), *task.loss_parameters()]
    groups += split_by_decay(rest, config, 1.0)
    if config.optimizer == "sgd":
        return torch.optim.SGD(groups, lr=config.lr, momentum=MOMENTUM, nesterov=True)
    kind = torch.optim.AdamW if config.optimizer == "adamw" else torch.optim.Adam
    # The fused step is one kernel instead of dozens; on a CPU the plain one is as fast.
    fused = next(task.parameters()).is_cuda
    return kind(groups, lr=config.lr, fused=fused)


def split_by_decay(parameters: Named, config: TrainConfig, lr_scale: float) -> list[dict[str, Any]]:
    """Return the parameter groups with and without weight decay; empty ones are left out."""
    trained = [parameter for _, parameter in parameters if parameter.requires_grad]
    groups = (
        ([parameter for parameter in trained if parameter.ndim > 1], config.weight_decay),
        ([parameter for parameter in trained if parameter.ndim <= 1], 0.0),
    )
    return [
        {"params": members, "weight_decay": decay, "lr": config.lr * lr_scale, "lr_scale": lr_scale}
        for members, decay in groups
        if members
    ]


def learning_rate_scale(step: int, total: int, warmup: int, smallest: float) -> float:
    """Return the factor of the learning rate at an optimizer step.

    It rises linearly over the warm-up and then falls along half a cosine from 1 to `smallest`. A function of
    the step alone, so that a resumed run has nothing to restore.

    Args:
        step: steps done before this one, 0 to total - 1.
        total: steps of the whole training.
        warmup: steps of the warm-up, less than total.
        smallest: the factor that the last step comes near.
    """
    if step < warmup:
        return (step + 1) / (warmup + 1)
    progress = (step - warmup) / (total - warmup)
    return smallest + (1 - smallest) * 0.5 * (1 + math.cos(math.pi * progress))


def set_learning_rate(optimizer: Optimizer, lr: float) -> None:
    """Set the rate of every group to `lr` times the group's own scale."""
    for group in optimizer.param_groups:
        group["lr"] = lr * group["lr_scale"]
