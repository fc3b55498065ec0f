"""Students small enough for tests, with batch norms that do something."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from edgeproof_train.students.timm import TimmStudent

DIM, SIDE = 16, 32


def make_student(
    model: str = "cifar_resnet8", side: int = SIDE, dim: int = DIM, **settings: Any
) -> TimmStudent:
    """Return a seeded student in eval mode, with batch norms as after some training."""
    torch.manual_seed(2)
    student = TimmStudent(TimmStudent.Config(model=model, image_size=side, **settings), dim)
    for module in student.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias, std=0.2)
            assert module.running_mean is not None
            assert module.running_var is not None
            module.running_mean.normal_(0, 0.1)
            module.running_var.uniform_(0.5, 1.5)
    return student.eval()


def images(count: int = 2, side: int = SIDE) -> torch.Tensor:
    """Return seeded noise, (B, 3, side, side)."""
    return torch.randn(count, 3, side, side, generator=torch.Generator().manual_seed(3))
